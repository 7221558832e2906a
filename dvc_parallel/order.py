"""Stages of one run that meet on a path without depending on each other.

DVC's graph has an edge wherever a stage reads what another one writes.  Where it
has none, stages can still meet: a frozen stage is cut off from its upstreams but
its dependencies are hashed when it is saved, and a folder that a stage depends
on can hold the dvc.lock or .gitignore that others write to.  Serial DVC runs
such stages in some fixed order; a parallel run has to keep to it.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dvc.dvcfile import ProjectFile
from pygtrie import Trie

if TYPE_CHECKING:
    from dvc.stage import Stage

Path = tuple[str, ...]


def stages_to_come_after(
    steps: Sequence["Stage"], upstream: Mapping[int, set[int]]
) -> dict[int, set[int]]:
    """Find for each stage those that it has to wait for, other than upstreams.

    Args:
        steps: the stages of a run in the order of serial DVC.
        upstream: the upstreams of each stage in DVC's graph. Here and in what is
            returned, stages go by their place in ``steps``.
    """
    after: dict[int, set[int]] = defaultdict(set)

    def keep_order(one: int, other: int) -> None:
        first, then = sorted((one, other))
        if first != then and first not in upstream[then]:
            after[then].add(first)

    ranks = range(len(steps))
    outs = _index(
        (parts_of(out.fs_path), rank) for rank in ranks for out in steps[rank].outs
    )
    files = _index((path, rank) for rank in ranks for path in _files_of(steps[rank]))
    for rank, stage in enumerate(steps):
        for dep in _local_paths(stage):
            for writer in (*_above(outs, dep), *_below(outs, dep), *_below(files, dep)):
                keep_order(rank, writer)
        for out in stage.outs:
            for writer in _above(outs, parts_of(out.fs_path)):
                keep_order(rank, writer)
    return after


def _index(writers: Iterable[tuple[Path, int]]) -> Trie:
    index = Trie()
    for path, rank in writers:
        index.setdefault(path, []).append(rank)
    return index


def parts_of(path: str) -> Path:
    return tuple(path.replace(os.sep, "/").split("/"))


def overlaps(one: str, other: str) -> bool:
    """Whether one of two paths is the other one, or in it."""
    return all(a == b for a, b in zip(parts_of(one), parts_of(other)))


def _local_paths(stage: "Stage") -> Iterator[Path]:
    for dep in stage.deps:
        if dep.fs_path and dep.protocol == "local" and not stage.is_repo_import:
            yield parts_of(dep.fs_path)


def _files_of(stage: "Stage") -> Iterator[Path]:
    dvcfile = stage.dvcfile
    if isinstance(dvcfile, ProjectFile):
        dvcfile = dvcfile._lockfile
    yield parts_of(dvcfile.path)
    for out in stage.outs:
        if out.use_scm_ignore:
            yield (*parts_of(out.fs_path)[:-1], ".gitignore")


def _above(trie: Trie, path: Path) -> Iterator[int]:
    for step in trie.prefixes(path):
        yield from step.value


def _below(trie: Trie, path: Path) -> Iterator[int]:
    if trie.has_node(path):
        for ranks in trie.itervalues(prefix=path):
            yield from ranks
