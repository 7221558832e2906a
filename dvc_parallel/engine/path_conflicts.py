"""Stages of one run that meet on a path without depending on each other.

DVC's graph has an edge wherever a stage reads what another one writes, under the same
name.  Where it has none, stages can still meet: under two names of one file
(:mod:`dvc_parallel.engine.real_paths`); a frozen stage is cut off from its upstreams
but its dependencies are hashed when it is saved; and a folder that a stage depends on
can hold the dvc.lock or .gitignore that others write to.  Serial DVC runs such stages
in some fixed order; a parallel run has to keep to it.

So it does where a dependency is missing that no stage says it makes: in serial DVC, any
of those before may have made it.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple, Union

from dvc.dvcfile import ProjectFile

from .real_paths import Place, RealPaths, Route

if TYPE_CHECKING:
    from dvc.dependency import Dependency
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage

Path = tuple[str, ...]


class Use(NamedTuple):
    """What a stage does to which places.

    Attributes:
        reads: those of its dependencies, by their paths.
        missing: paths of dependencies that lead to nothing.
        writes: those of its outputs.
        links: those of links that it goes through.
        names: what its paths are called without links, if they have any.
    """

    reads: dict[str, tuple[Place, ...]]
    missing: set[str]
    writes: set[Place]
    links: set[Place]
    names: dict[str, Sequence[str]]

    @property
    def read(self) -> set[Place]:
        return {place for places in self.reads.values() for place in places}

    @classmethod
    def of(cls, stage: "Stage", paths: RealPaths) -> "Use":
        use = cls({}, set(), set(), set(), {})
        for dep in stage.deps:
            if dep.fs_path and dep.protocol == "local" and not stage.is_repo_import:
                for path in _spellings(dep):
                    use._read(path, paths)
        for out in stage.outs:
            for path in _spellings(out):
                route = use._go(path, paths)
                use.writes.update(route.places)
                if out.persist and not out.use_cache and route.file:
                    use.writes.add(route.file)
        return use

    def _go(self, path: str, paths: RealPaths) -> Route:
        route = paths.route(path)
        self.links.update(route.links)
        if route.names != (path,):
            self.names[path] = route.names
        return route

    def _read(self, path: str, paths: RealPaths) -> None:
        route = self._go(path, paths)
        self.reads[path] = route.places + ((route.file,) if route.file else ())
        if not route.exists:
            self.missing.add(path)
        for file in paths.links_in(path):
            self.reads[file] = paths.route(file).places


class PathOrder:
    """Which stages of a run meet on a path.

    Args:
        steps: the stages of a run in the order of serial DVC; they go by their ranks.
    """

    def __init__(self, steps: Sequence["Stage"]):
        self._steps = steps
        self._paths = real_paths_of(steps[0].repo)
        self._uses = [Use.of(stage, self._paths) for stage in steps]
        self._outs = _Users(
            (place, rank) for rank, use in enumerate(self._uses) for place in use.writes
        )
        self._files = _Users(
            (place, rank)
            for rank, stage in enumerate(steps)
            for path in _files_of(stage)
            for place in self._paths.route(path).places
        )

    def stages_to_come_after(
        self, upstream: Mapping[int, set[int]]
    ) -> dict[int, set[int]]:
        """Find for each stage those that it has to wait for, other than upstreams.

        Args:
            upstream: the upstreams of each stage in DVC's graph.
        """
        after: dict[int, set[int]] = defaultdict(set)

        def keep_order(rank: int, others: Iterable[int]) -> None:
            for other in others:
                first, then = sorted((rank, other))
                if first != then and first not in upstream[then]:
                    after[then].add(first)

        begin = 0
        for rank in range(len(self._steps)):
            keep_order(rank, self._writers(rank))
            if self._may_need_any_before(rank):
                # NOTE: the last such stage has waited for those before it
                keep_order(rank, range(begin, rank))
                begin = rank
        return after

    def other_names(self, rank: int) -> Mapping[str, Sequence[str]]:
        """What paths of a stage are called without links, of those that have any."""
        return self._uses[rank].names

    def found_late(self, ranks: Sequence[int]) -> dict[int, set[int]]:
        """Look at the paths of stages again, as others may have made links by now.

        Returns:
            which stages have to come after which others in view of these.
        """
        self._paths.forget_links()
        after: dict[int, set[int]] = defaultdict(set)
        for rank in [rank for rank in ranks if self._has_moved(rank)]:
            for other in (*self._writers(rank), *self._users_of_outs(rank)):
                first, then = sorted((rank, other))
                if first != then:
                    after[then].add(first)
        return after

    def _has_moved(self, rank: int) -> bool:
        """Take note of what a stage uses besides what was known; tell if it does."""
        old, new = self._uses[rank], Use.of(self._steps[rank], self._paths)
        writes, links = new.writes - old.writes, new.links - old.links
        if not writes and not links and new.read <= old.read:
            return False
        readers = self._readers
        self._uses[rank] = new
        for place in writes:
            self._outs.add(place, rank)
        for place in (new.read | new.links) - (old.read | old.links):
            readers.add(place, rank)
        return True

    @cached_property
    def _readers(self) -> "_Users":
        """Stages by what they read; seldom needed."""
        return _Users(
            (place, rank)
            for rank, use in enumerate(self._uses)
            for place in use.read | use.links
        )

    def _users_of_outs(self, rank: int) -> Iterator[int]:
        """Stages that read what a stage writes, or write below it."""
        for place in self._uses[rank].writes:
            yield from self._readers.above(place)
            yield from self._readers.below(place)
            yield from self._outs.below(place)

    def _writers(self, rank: int) -> Iterator[int]:
        """Stages that write to what a stage uses; of those below its outputs, none."""
        use = self._uses[rank]
        for place in use.read:
            yield from self._outs.above(place)
            yield from self._outs.below(place)
            yield from self._files.below(place)
        for place in use.links | use.writes:
            yield from self._outs.above(place)

    def _may_need_any_before(self, rank: int) -> bool:
        """Whether a stage needs what is missing, and nobody says that he makes it."""
        use = self._uses[rank]
        return any(
            not _is_output(path, self._steps[rank].repo)
            for path in use.missing
            if not any(self._is_made(place) for place in use.reads[path])
        )

    def _is_made(self, place: Place) -> bool:
        return bool(self._outs.above(place) or self._outs.below(place))


def real_paths_of(repo: "Repo") -> RealPaths:
    # NOTE: before 3.0.0, there is one folder for all kinds of hashes
    cache = getattr(repo.cache, "legacy", None) or repo.cache.local
    return RealPaths(repo.root_dir, cache.path if cache is not None else None)


def _spellings(entry: "Union[Dependency, Output]") -> Iterator[str]:
    """The path that DVC goes by, and the one that a command does, behind a link."""
    yield entry.fs_path
    if os.pardir in entry.def_path and not os.path.isabs(entry.def_path):
        yield os.path.join(entry.stage.wdir, entry.def_path)


def _is_output(path: str, repo: "Repo") -> bool:
    """Whether a path is an output, in an output or above one, of any stage."""
    outs = repo.index.outs_trie
    parts = PurePath(path).parts
    return outs.has_node(parts) or bool(outs.shortest_prefix(parts))


class _Users:
    """Stages by the places that they use.

    Args:
        uses: places, and ranks of stages.
    """

    def __init__(self, uses: Iterable[tuple[Place, int]]):
        self._at: defaultdict[Place, list[int]] = defaultdict(list)
        # by folder: what there is in it, and the stages that use it or one above it
        self._inside: defaultdict[Place, set[Place]] = defaultdict(set)
        self._known_above: dict[Place, list[int]] = {}
        for place, rank in uses:
            self.add(place, rank)

    def add(self, place: Place, rank: int) -> None:
        self._known_above.clear()
        self._at[place].append(rank)
        while place and place not in (inside := self._inside[place[:-1]]):
            inside.add(place)
            place = place[:-1]

    def above(self, place: Place) -> list[int]:
        """Stages that use a place or a folder that it is in."""
        if not place:
            return self._at.get(place, [])
        folder = place[:-1]
        if folder not in self._known_above:
            self._known_above[folder] = self.above(folder)
        found, here = self._known_above[folder], self._at.get(place)
        return [*found, *here] if found and here else found or here or []

    def below(self, place: Place) -> list[int]:
        """Stages that use a place, or one in it."""
        if place not in self._inside:
            return self._at.get(place, [])
        found, places = list[int](), [place]
        while places:
            place = places.pop()
            found += self._at.get(place, ())
            places += self._inside.get(place, ())
        return found


def parts_of(path: str) -> Path:
    return tuple(path.replace(os.sep, "/").split("/"))


def _files_of(stage: "Stage") -> Iterator[str]:
    dvcfile = stage.dvcfile
    if isinstance(dvcfile, ProjectFile):
        dvcfile = dvcfile._lockfile
    yield dvcfile.path
    for out in stage.outs:
        if out.use_scm_ignore:
            yield os.path.join(os.path.dirname(out.fs_path), ".gitignore")
