"""Why a command may have found no file: another stage makes it, and nothing says so.

Serial DVC runs stages in an order that happens to be right.  With more than one job, a
stage that does not declare what it reads comes too early.  This looks for that when a
stage has failed, and never before: in the last lines of its output.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Callable

import networkx as nx

from dvc_parallel.engine.ordered_writes import names_of
from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.terminal import without_controls

if TYPE_CHECKING:
    from dvc.stage import Stage
    from networkx import DiGraph

HINT = (
    "{}, and '{}' does not depend on it; `dvc-parallel deps --trace` shows all files "
    "that stages use and do not declare"
)

# What the last trace of each stage has seen it write and not declare.
NAME = "written.json"
# No such file has as many bytes.
MOST_BYTES = 2**26

# How programs say that there is no file: in Python, C, shells, R, Java, node, make.
_NOT_FOUND = re.compile(
    rb"no such file|not found|does not exist|cannot (?:open|stat|find)|can't open|"
    rb"FileNotFound|ENOENT|no rule to make target",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    "['\"`\u2018\u201c]([^'\"`\u2018\u2019\u201c\u201d]+)['\"`\u2019\u201d]"
)
# What is about a name that is not in quotes.
_AROUND = re.compile(r"[\s:;,()\[\]<>=]+")
_SECTIONS = re.compile(r":\s+")
# From how many stages on it says little that one of them has made a file.
MOST_NAMED = 3
# Seconds by which the clock of a file system may be late.
CLOCK = 0.1


class MissingFiles:
    """Finds out which stage makes a file that another one did not find.

    Args:
        steps: the stages of a run in the order of serial DVC; they go by their ranks.
        graph: the graph whose edges run from stages to their upstreams.
        tmp_dir: ``.dvc/tmp`` of the repo.
        has_run: whether a stage has run its command, and has not failed.
    """

    def __init__(
        self,
        steps: Sequence["Stage"],
        graph: "DiGraph",
        tmp_dir: str,
        has_run: Callable[["Stage"], bool],
    ):
        self._steps = steps
        self._graph = graph
        self._tmp_dir = tmp_dir
        self._has_run = has_run
        self._begun = time.time()

    def hints(self, rank: int, lines: Iterable[bytes]) -> Iterator[str]:
        """What is to be said of a stage that has failed.

        Args:
            lines: the last that it has printed.
        """
        # NOTE: a hint is not worth an error
        with suppress(Exception):
            stage = self._steps[rank]
            names = {n: None for line in lines for n in names_not_found(line)}
            if names:
                others = self._unordered(rank)
                known = _known_makers(others, load_written(self._tmp_dir))
                own = {entry.fs_path for entry in (*stage.outs, *stage.deps)}
                for name, path in _paths(names, stage):
                    if own.isdisjoint(upwards(path)):
                        yield from self._hint(stage, name, path, others, known)

    def _hint(
        self,
        stage: "Stage",
        name: str,
        path: str,
        others: Sequence["Stage"],
        known: Mapping[str, str],
    ) -> Iterator[str]:
        makers = [known[above] for above in upwards(path) if above in known]
        if makers:
            text = f"'{name}' is written by stage '{makers[0]}'"
        elif self._is_new(path):
            names = [it.addressing for it in others if self._has_run(it)]
            if not 0 < len(names) <= MOST_NAMED:
                return
            by = " or ".join(f"'{other}'" for other in names)
            text = f"'{name}' has been written since, perhaps by stage {by}"
        else:
            return
        yield HINT.format(text, stage.addressing)

    def _is_new(self, path: str) -> bool:
        try:
            return os.stat(path).st_mtime > self._begun - CLOCK
        except OSError:
            return False

    def _unordered(self, rank: int) -> list["Stage"]:
        """Stages with a command that have no path to or from a stage in the graph."""
        stage, graph = self._steps[rank], self._graph
        related = {stage, *nx.descendants(graph, stage), *nx.ancestors(graph, stage)}
        return [it for it in self._steps if it.cmd and it not in related]


def _known_makers(
    stages: Sequence["Stage"], written: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Stages by the paths that they declare, or have been seen to write."""
    makers: dict[str, str] = {}
    for stage, key in zip(stages, names_of(stages)):
        root = stage.repo.root_dir
        paths = [out.fs_path for out in stage.outs if out.protocol == "local"]
        paths += [os.path.join(root, name) for name in written.get(key, ())]
        makers.update(dict.fromkeys(paths, stage.addressing))
    return makers


def _paths(names: Iterable[str], stage: "Stage") -> Iterator[tuple[str, str]]:
    """Names, and the paths that each may stand for."""
    for name in names:
        for folder in dict.fromkeys((stage.wdir, stage.repo.root_dir)):
            yield name, os.path.normpath(os.path.join(folder, name))


def upwards(path: str) -> Iterator[str]:
    """A path, and all folders above it."""
    yield path
    while (above := os.path.dirname(path)) != path:
        yield above
        path = above


def names_not_found(line: bytes) -> Iterator[str]:
    """What a line may name, if it says that there is no such file."""
    if not _NOT_FOUND.search(line):
        return
    text = os.fsdecode(without_controls(line)).strip()
    names = [
        *_QUOTED.findall(text),
        *_SECTIONS.split(text),
        *_AROUND.split(text),
    ]
    for name in dict.fromkeys(names):
        if name and "\0" not in name:
            yield name


def save_written(tmp_dir: str, written: Mapping["Stage", Iterable[str]]) -> None:
    """Keep what stages write and do not declare, for later runs.

    Args:
        written: paths of files, by their stages, relative to the root of the repo.

    Raises:
        OSError: it cannot be written.
    """
    folder = OwnFolder(tmp_dir, "parallel")
    new = dict(zip(names_of([*written]), map(sorted, written.values())))
    known = {**load_written(tmp_dir), **new}
    folder.make()
    with folder.replace(NAME) as fobj:
        json.dump({key: names for key, names in known.items() if names}, fobj)


def load_written(tmp_dir: str) -> dict[str, list[str]]:
    """What :func:`save_written` has kept; nothing where that cannot be read."""
    try:
        with OwnFolder(tmp_dir, "parallel").read(NAME, MOST_BYTES) as fobj:
            data = json.load(fobj)
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {key: names for key, names in data.items() if _are_names(names)}


def _are_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
