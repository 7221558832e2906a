"""What stages do to files, and dvc.yaml does not say.

Two stages are *ordered* if one depends on the other, by whatever stages lie in between:
then no run has them at a time, and theirs is the order of serial DVC.  What they do to
one file matters only if they are not.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Optional, Union

import networkx as nx
from dvc.dependency import ParamsDependency

from dvc_parallel.engine.path_conflicts import real_paths_of
from dvc_parallel.engine.terminal import plural
from dvc_parallel.run.code_files import closures_of, is_code_file, is_in, wanted
from dvc_parallel.run.missing_files import upwards
from dvc_parallel.run.stage_code import Projects
from dvc_parallel.scheduling.pools import MUTEX
from dvc_parallel.scheduling.resources import machine_pools

if TYPE_CHECKING:
    from dvc.dependency import Dependency
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage

    from .scope import Scope
    from .used_files import UsedFiles

# From how many files of a folder on they are one finding.
MANY = 10
# How many stages are named at most that write a file.
MOST_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """Something that dvc.yaml does not say.

    Attributes:
        kind: as in docs/code.md.
        path: of the file, from the current folder; or of their folder, where it is
            about many.
        count: how many files.
        others: stages that make it, or write to it as well.
        detail: more of it, in words.
        dep: the absolute path to add to the dependencies of the stage, if any.
    """

    kind: str
    path: str = ""
    count: int = 1
    others: tuple[str, ...] = ()
    detail: str = ""
    dep: Optional[str] = None

    @property
    def is_error(self) -> bool:
        """Whether stages must not run side by side for it, or that is not known."""
        return self.kind in ("failed", "incomplete", "unordered", "race")

    def __str__(self) -> str:
        path, others = self._path, " and ".join(self.others)
        writes = "writes" if len(self.others) == 1 else "write"
        are = "is" if self.count == 1 else "are"
        texts = {
            "undeclared": path,
            "note": self.detail,
            "failed": self.detail,
            "incomplete": f"its trace has lines that are not understood: {self.detail}",
            "unordered": f"reads {path}, which {others} {writes}, and does not depend "
            f"on it: {self.detail}",
            "race": f"writes {path}, which {others} {writes} as well: "
            "give each its own",
            "reads": f"reads {path}, which {are} not in its deps{self.detail}",
            "looks": f"looks whether {path} is there, which {others} {writes}, and "
            "does not depend on it",
            "writes": f"writes {path}, which {are} not in its outs{self.detail}",
            "never read": f"never reads {path}, which is in its deps",
        }
        return texts[self.kind]

    @property
    def _path(self) -> str:
        if self.count == 1:
            return self.path
        return f"{plural(self.count, 'file')} in {os.path.join(self.path, '')}"


@dataclass
class Entry:
    """A dependency or output, as dvc.yaml has it.

    Attributes:
        names: its names, without and with links.
        is_file: whether a command has to read it, as it is no param.
    """

    path: str
    names: set[str]
    is_file: bool = True


class StageTrace:
    """What a stage of a copy has done, and what dvc.yaml says of it.

    Attributes:
        pools: how many slots it takes of each pool.
        error: why it has failed or was not run, if so.
        lost: how many lines of its trace were not understood, and one of them.
        findings: what dvc.yaml does not say.
    """

    def __init__(
        self,
        stage: "Stage",
        used: "UsedFiles",
        scope: "Scope",
        pools: Mapping[str, int],
    ):
        self.name = stage.addressing
        self.used = used
        self.deps = [*_entries(stage.deps, scope)]
        self.outs = [*_entries(stage.outs, scope)]
        if stage.meta and wanted(stage):
            self.deps = [*_code(stage, scope), *self.deps]
        self.pools = pools
        self.error: Optional[str] = None
        self.lost, self.lost_line = 0, ""
        self.findings: list[Finding] = []


def find(traces: Sequence[StageTrace], repo: "Repo", scope: "Scope") -> None:
    """Compare what stages have done with what dvc.yaml says.

    Args:
        traces: of stages, in the order of serial DVC; get their findings.
        repo: the copy in which they have run.
    """
    judge = _Judge(traces, repo, scope)
    for one in traces:
        one.findings += judge.stage(one)


class _Judge:
    def __init__(self, traces: Sequence[StageTrace], repo: "Repo", scope: "Scope"):
        self._repo = repo
        self._scope = scope
        self._stages = {stage.addressing: stage for stage in repo.index.stages}
        self._sizes = machine_pools(repo)
        self._pools = {one.name: one.pools for one in traces}
        self._above: dict[str, set[str]] = {}
        self._known_makers: dict[str, Sequence[str]] = {}
        # who writes, or says that he does, by the names of files
        self._writers: dict[str, set[str]] = defaultdict(set)
        self._outs: dict[str, set[str]] = defaultdict(set)
        self._readers: dict[str, set[str]] = defaultdict(set)
        for one in traces:
            for name in one.used.writes:
                self._writers[name].add(one.name)
            for _, names in one.used.names_read():
                for name in names:
                    self._readers[name].add(one.name)
        for stage in repo.index.stages:
            for entry in _entries(stage.outs, scope):
                for name in entry.names:
                    self._outs[name].add(stage.addressing)

    def stage(self, one: StageTrace) -> Iterator[Finding]:
        if one.error:
            yield Finding("failed", detail=one.error)
        if one.lost:
            detail = f"{plural(one.lost, 'line')}, such as {one.lost_line[:200]}"
            yield Finding("incomplete", detail=detail)
        yield from sorted(self._reads(one), key=lambda finding: not finding.is_error)
        yield from sorted(self._writes(one), key=lambda finding: not finding.is_error)
        if not one.error:
            yield from self._never_read(one)

    def _reads(self, one: StageTrace) -> Iterator[Finding]:
        used, undeclared = one.used, []
        early: dict[tuple[str, ...], list[str]] = defaultdict(list)
        declared = _names((*one.deps, *one.outs))
        missing = [(name, {name}) for name in sorted(used.missing)]
        for name, names in (*used.names_read(), *missing):
            if makers := self._unordered(one.name, names):
                early[tuple(makers)].append(name)
            elif _is_in(names, declared):
                continue
            elif name in used.missing:
                if self._is_left_behind(one, name):
                    undeclared.append(name)
            elif not self._scope.is_scratch(name):
                undeclared.append(name)
        for those, files in early.items():
            yield from self._unordered_reads(one, files, those)
        for name in sorted(used.looks):
            # NOTE: who lists a folder asks for all that is in it
            is_walk = os.path.dirname(name) in used.listed
            if not is_walk and (makers := self._unordered(one.name, {name})):
                yield self._finding("looks", name, others=makers)
        yield from self._grouped(one, "reads", undeclared)

    def _unordered_reads(
        self, one: StageTrace, names: Iterable[str], makers: Sequence[str]
    ) -> Iterator[Finding]:
        outs = self._outs
        groups: dict[str, list[str]] = defaultdict(list)
        for name in names:
            above = [path for path in upwards(name) if path in outs]
            groups[above[-1] if above else os.path.dirname(name)].append(name)
        for folder, files in groups.items():
            for name, count in _few(folder, files, 1 if folder in outs else MANY):
                yield self._unordered_read(one, name, makers, count)

    def _unordered_read(
        self, one: StageTrace, name: str, makers: Sequence[str], count: int
    ) -> Finding:
        declare = self._declare(name)
        todo = [f"the outs of {maker}" for maker in makers if maker not in declare]
        is_dep = _is_in({name}, _names(one.deps))
        dep = None
        if not self._can_depend(one.name, makers):
            detail = "if it did, stages would depend on each other"
        else:
            if not is_dep:
                todo.append(f"the deps of {one.name}")
                dep = name
            detail = f"add {self._scope.shown(name)} to {' and to '.join(todo)}"
        return self._finding(
            "unordered", name, others=makers, detail=detail, dep=dep, count=count
        )

    def _can_depend(self, name: str, makers: Iterable[str]) -> bool:
        """Whether a stage can depend on others; if so, it does from now on."""
        graph = self._with_deps
        for maker in makers:
            if maker not in graph or nx.has_path(graph, maker, name):
                return False
        graph.add_edges_from((name, maker) for maker in makers)
        return True

    @cached_property
    def _with_deps(self) -> nx.DiGraph:
        """The graph as it will be with what is added."""
        return self._graph.copy()

    def _writes(self, one: StageTrace) -> Iterator[Finding]:
        used, undeclared = one.used, []
        races: dict[tuple[str, ...], list[str]] = defaultdict(list)
        declared = _names(one.outs)
        for name in sorted(used.writes):
            if others := self._unordered(one.name, {name}, pools=True):
                races[(os.path.dirname(name), *others)].append(name)
            if (
                name in used.left
                and not _is_in({name}, declared)
                and not self._scope.is_scratch(name)
                and os.path.lexists(self._scope.in_copy(name))
            ):
                undeclared.append(name)
        for (folder, *others), files in races.items():
            for name, count in _few(folder, files):
                yield self._finding("race", name, others=others, count=count)
        yield from self._grouped(one, "writes", undeclared)

    def _never_read(self, one: StageTrace) -> Iterator[Finding]:
        used = one.used
        touched = {*used.looks, *used.listed, *used.writes, *used.missing}
        touched.update(*(names for _, names in used.names_read()))
        prefixes = {above for name in touched for above in upwards(name)}
        for entry in one.deps:
            if entry.is_file and not entry.names & prefixes:
                yield Finding("never read", path=entry.path)

    def _unordered(
        self, name: str, names: Iterable[str], pools: bool = False
    ) -> list[str]:
        """Stages that write one of some files, and are not ordered with a stage.

        Args:
            pools: leave out those that a pool keeps from running at the same time.
        """
        found = [maker for path in names for maker in self._makers_of(path)]
        unordered = (
            other
            for other in dict.fromkeys(found)
            if other != name
            and not self._ordered(name, other)
            and not (pools and self._share_mutex(name, other))
        )
        # NOTE: of a thousand stages that write one file, not all have to be looked at
        return [*islice(unordered, MOST_NAMED)]

    def _makers_of(self, path: str) -> Sequence[str]:
        """Stages that write a file, or say that they do."""
        if path not in self._known_makers:
            makers = set(filter(self._runs, self._declare(path)))
            makers.update(*(self._writers.get(above, ()) for above in upwards(path)))
            self._known_makers[path] = sorted(makers)
        return self._known_makers[path]

    def _runs(self, name: str) -> bool:
        stage = self._stages[name]
        return bool(stage.cmd) and not stage.frozen

    def _ordered(self, one: str, other: str) -> bool:
        if one in self._upstream(other) or other in self._upstream(one):
            return True
        return any(
            self._paths.meet(path.fs_path, out.fs_path)
            for a, b in ((one, other), (other, one))
            for path in _local((*self._stages[a].deps, *self._stages[a].outs))
            for out in _local(self._stages[b].outs)
        )

    @cached_property
    def _paths(self):
        return real_paths_of(self._repo)

    @cached_property
    def _graph(self) -> nx.DiGraph:
        names = {stage: stage.addressing for stage in self._repo.index.graph}
        return nx.relabel_nodes(self._repo.index.graph, names)

    def _upstream(self, name: str) -> set[str]:
        if name not in self._above:
            self._above[name] = nx.descendants(self._graph, name)
        return self._above[name]

    def _share_mutex(self, one: str, other: str) -> bool:
        """Whether a pool keeps two stages from running at a time."""
        pools = self._pools[one], self._pools.get(other, {})
        return any(
            amount + pools[1][pool] > self._sizes.get(pool, MUTEX).slots
            for pool, amount in pools[0].items()
            if pool in pools[1]
        )

    def _is_left_behind(self, one: StageTrace, name: str) -> bool:
        """Whether it is not in the copy, but is where the stage runs otherwise."""
        if declare := self._declare(name):
            return not any(map(self._runs, declare))
        return one.error is not None and os.path.isfile(name)

    def _grouped(
        self, one: StageTrace, kind: str, names: Sequence[str]
    ) -> Iterator[Finding]:
        is_read = kind == "reads"
        verbs = ("makes", "make") if is_read else ("reads", "read")
        by_folder = groupby(sorted(names, key=os.path.dirname), os.path.dirname)
        for folder, found in by_folder:
            if len(files := list(found)) > MANY:
                dep = folder if is_read and self._is_dep(folder) else None
                yield self._finding(kind, folder, count=len(files), dep=dep)
                continue
            for name in files:
                others = self._makers(name) if is_read else self._readers[name]
                others = others - {one.name}
                dep = name if is_read and self._can_depend(one.name, others) else None
                detail = f"; {_all(others, *verbs)} it" if others else ""
                yield self._finding(kind, name, detail=detail, dep=dep)

    def _makers(self, name: str) -> set[str]:
        return self._writers.get(name, set()) | self._declare(name)

    def _declare(self, name: str) -> set[str]:
        """Stages with a file among their outs."""
        return set().union(*(self._outs.get(above, ()) for above in upwards(name)))

    def _is_dep(self, folder: str) -> bool:
        """Whether a folder can be a dependency: nobody writes to it."""
        written = (*self._outs, *self._writers)
        return self._scope.is_below_root(folder) and not any(
            is_in(name, folder) for name in written
        )

    def _finding(
        self, kind: str, name: str, *, others: Sequence[str] = (), **more: Any
    ) -> Finding:
        return Finding(kind, self._scope.shown(name), others=tuple(others), **more)


def _names(entries: Iterable[Entry]) -> set[str]:
    return {name for entry in entries for name in entry.names}


def _local(
    entries: "Iterable[Union[Dependency, Output]]",
) -> "Iterator[Union[Dependency, Output]]":
    return (it for it in entries if it.protocol == "local" and it.fs_path)


def _entries(
    entries: "Iterable[Union[Dependency, Output]]", scope: "Scope"
) -> Iterator[Entry]:
    for entry in _local(entries):
        path = entry.fs_path
        folder, name = os.path.split(path)
        real = os.path.join(os.path.realpath(folder), name)
        paths = {path, real, os.path.realpath(path)}
        yield Entry(
            str(entry),
            {scope.name(one) for one in paths},
            not (isinstance(entry, ParamsDependency) or is_code_file(path)),
        )


def _code(stage: "Stage", scope: "Scope") -> Iterator[Entry]:
    """The files that a stage depends on by the file that says which code it uses.

    Its command reads some of them, and never that file.
    """
    closures = closures_of(Projects(stage.repo), stage)
    files = {path for closure in closures for path in closure.files}
    for path in sorted(files):
        yield Entry(path, {scope.name(path)}, is_file=False)


def _few(folder: str, files: Sequence[str], most: int = MANY) -> list[tuple[str, int]]:
    """Files, or their folder with the number of them if there are many."""
    many = len(files) > most
    return [(folder, len(files))] if many else [(name, 1) for name in files]


def _all(names: Iterable[str], does: str, do: str) -> str:
    """Who does something, such as "a and b read"."""
    first, *more = sorted(names)
    if len(more) >= MOST_NAMED:
        more[MOST_NAMED - 1 :] = ["others"]
    return f"{' and '.join([first, *more])} {do if more else does}"


def _is_in(names: Iterable[str], declared: set[str]) -> bool:
    return any(above in declared for name in names for above in upwards(name))
