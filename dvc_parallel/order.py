"""Stages of one run that meet on a path without depending on each other.

DVC's graph has an edge wherever a stage reads what another one writes.  Where it
has none, stages can still meet: a frozen stage is cut off from its upstreams but
its dependencies are hashed when it is saved, and a folder that a stage depends
on can hold the dvc.lock or .gitignore that others write to.  Serial DVC runs
such stages in some fixed order; a parallel run has to keep to it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dvc.dvcfile import ProjectFile
from pygtrie import Trie

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.stage import Stage

Path = tuple[str, ...]


def stages_to_come_after(
    steps: Sequence["Stage"], upstream: Mapping["Stage", Iterable["Stage"]]
) -> dict["Stage", set["Stage"]]:
    """Find for each stage those that it has to wait for, other than upstreams.

    Args:
        steps: the stages of a run in the order of serial DVC.
        upstream: what DVC's graph knows of them.
    """
    rank = {stage: i for i, stage in enumerate(steps)}
    upstream_of = {stage: set(upstream.get(stage, ())) for stage in steps}
    after: dict[Stage, set[Stage]] = defaultdict(set)

    def keep_order(one: "Stage", other: "Stage") -> None:
        first, then = sorted((one, other), key=rank.__getitem__)
        if first is not then and first not in upstream_of[then]:
            after[then].add(first)

    outs = _index((_parts(out), stage) for stage in steps for out in stage.outs)
    files = _index((path, stage) for stage in steps for path in _files_of(stage))
    for stage in steps:
        for dep in _local_paths(stage):
            for writer in (*_above(outs, dep), *_below(outs, dep), *_below(files, dep)):
                keep_order(stage, writer)
        for out in stage.outs:
            for writer in _above(outs, _parts(out)):
                keep_order(stage, writer)
    return after


def _index(writers: Iterable[tuple[Path, "Stage"]]) -> Trie:
    index = Trie()
    for path, stage in writers:
        index.setdefault(path, []).append(stage)
    return index


def _parts(out: "Output") -> Path:
    return out.fs.parts(out.fs_path)


def _local_paths(stage: "Stage") -> Iterator[Path]:
    for dep in stage.deps:
        if dep.fs_path and dep.protocol == "local" and not stage.is_repo_import:
            yield _parts(dep)


def _files_of(stage: "Stage") -> Iterator[Path]:
    fs = stage.repo.fs
    dvcfile = stage.dvcfile
    if isinstance(dvcfile, ProjectFile):
        dvcfile = dvcfile._lockfile
    yield fs.parts(dvcfile.path)
    for out in stage.outs:
        if out.use_scm_ignore:
            yield fs.parts(fs.join(fs.parent(out.fs_path), ".gitignore"))


def _above(trie: Trie, path: Path) -> Iterator["Stage"]:
    for step in trie.prefixes(path):
        yield from step.value


def _below(trie: Trie, path: Path) -> Iterator["Stage"]:
    if trie.has_node(path):
        for stages in trie.itervalues(prefix=path):
            yield from stages
