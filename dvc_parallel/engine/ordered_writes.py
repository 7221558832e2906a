"""Leaving dvc.lock and .gitignore as serial DVC would have left them.

Serial DVC appends: a new entry of dvc.lock, and a new line of .gitignore, goes
to the end of its file when its stage has run.  In a parallel run stages end in
any order, so what is new goes before what later stages (in serial order) have
already added in this run, or in earlier ones that did not come to their end.  The
order is right after every change, not only at the end: a stage that depends on a
folder hashes the .gitignore in it.

All of this is done by whoever has locked the repo: the owner of the repo in a run, or a
``dvc add`` in a command.
"""

import json
import logging
import os
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from .atomic import about, atomic_write, temporary_name
from .own_files import OwnFolder
from .plain_reporter import log
from .real_paths import below
from .settings import variables

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dvc.stage import Stage

    from .lockfile import Lockfiles

# Tells a ``dvc`` in a command the place of its stage, and ``.dvc/tmp`` of the repo.
VARIABLE = "DVC_PARALLEL_ORDER"
MOST = 10**6
NAME = "order.jsonl"


class Addition(NamedTuple):
    """Something that a stage has added to a file; the order of these is serial.

    Attributes:
        rank: place of the stage in serial order.
        number: of the additions that the stage has made to .gitignore files.
        text: name of an entry, or a line.
        is_earlier: whether it is from a run that did not come to its end.
    """

    rank: int
    number: int
    text: str
    is_earlier: bool


class SerialOrder:
    """The additions to files, in serial order.

    It is kept in ``.dvc/tmp/parallel/order.jsonl`` until a run comes to its end: the
    stages of a run in serial order, a line for each addition, then maybe the next run.
    It is never needed; if it gets lost, what is missing goes to the end.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
        stages: names of the stages of the run, as of :func:`names_of`, in serial order;
            None for what the last run had.
        lockfiles: the dvc.lock files of the run.
        outs: names of stages by the paths of their outputs, for a run with one job.
    """

    def __init__(
        self,
        tmp_dir: str,
        stages: Optional[Sequence[str]] = None,
        lockfiles: "Optional[Lockfiles]" = None,
        outs: Optional[Mapping[str, str]] = None,
    ):
        self._tmp_dir = tmp_dir
        self._outs = outs or {}
        self._lockfiles = lockfiles
        self._root = os.path.realpath(os.path.join(tmp_dir, os.pardir, os.pardir))
        self._folder = OwnFolder(tmp_dir, "parallel")
        self._read_to = 0
        self._added: dict[str, list[Addition]] = defaultdict(list)
        self._lines: dict[int, int] = defaultdict(int)
        self._can_write = True

        lines = list(self._new_lines())
        runs = [line["stages"] for line in lines if "stages" in line]
        # Stages of which an earlier run has left out some
        self._expected = {name for names in runs for name in names}
        self._is_announced = stages is None
        self._stages = list(stages if stages is not None else (runs or [[]])[-1])
        self._ranks = {name: rank for rank, name in enumerate(self._stages)}
        self._take(lines, is_earlier=stages is not None)

    def __contains__(self, rank: int) -> bool:
        return 0 <= rank < len(self._stages)

    def environment(self, rank: int) -> dict[str, str]:
        """Variables for the commands of a stage."""
        return {VARIABLE: f"{rank}:{os.path.abspath(self._tmp_dir)}"}

    def come_to_end(self, stages: Optional[Sequence[str]] = None) -> None:
        """Take note that a run has left out none of these stages, or of its own."""
        if self._expected.issubset(self._stages if stages is None else stages):
            with suppress(OSError):
                self._folder.read(NAME).close()
                self._folder.remove(NAME)

    @contextmanager
    def modify_lockfile(self, path: str, fs, rank: int) -> Iterator[dict[str, Any]]:
        """As :func:`dvc.utils.serialize.modify_yaml`, for a dvc.lock.

        Args:
            path: dvc.lock to modify.
            rank: place in serial order of the stage that modifies it.

        Raises:
            OSError, ParseError: with the file untouched.
        """
        assert self._lockfiles is not None
        place = partial(self._add, self._key(path), rank, 0)
        with self._lockfiles.modify(path, fs, place) as data:
            yield data

    def ignore(self, add: Callable[[str], Any], gitignore: str, rank: int) -> None:
        """Add a line to a .gitignore.

        Whoever dies meanwhile has either not added it, or where it belongs.

        Args:
            add: adds it at the end of a file, or finds that it is not needed.
            gitignore: the file.
            rank: place in serial order of the stage that adds it.
        """
        self._take(self._new_lines())
        before = _content(gitignore)
        added = self._with_line(add, before)[len(before) :]
        # NOTE: after a line break, if the file ended without one; a name may have some
        line = added.strip(b"\r\n")
        if not line:
            return
        self._lines[rank] += 1
        text = line.decode(errors="surrogateescape")
        later = self._add(self._key(gitignore), rank, self._lines[rank], text)
        starts = (_start_of(other, before) for other in later)
        start = next((it for it in starts if it is not None), None)
        if start is None:
            with about(gitignore), open(gitignore, "ab") as fobj:
                fobj.write(added)
            return
        at = added.index(line)
        parts = [before[:start], added[at:], before[start:], added[:at]]
        with atomic_write(gitignore, self._tmp_dir, newline="") as fobj:
            fobj.write(b"".join(parts).decode(errors="surrogateescape"))

    def _with_line(self, add: Callable[[str], Any], before: bytes) -> bytes:
        """The content of a file after the line has been added."""
        copy = os.path.join(self._tmp_dir, temporary_name(".gitignore"))
        try:
            with about(copy), open(copy, "xb") as fobj:
                fobj.write(before)
            add(copy)
            return _content(copy)
        finally:
            with suppress(OSError):
                os.unlink(copy)

    def successors(self, path: str, name: str) -> list[str]:
        """Entries that a new one of a dvc.lock has to precede, in a run with one job.

        There are only some if the last run has left this one out.
        """
        if not self._ranks:
            return []
        dvc_yaml = os.path.relpath(path, self._root)
        dvc_yaml = os.path.splitext(dvc_yaml)[0].replace(os.sep, "/") + ".yaml"
        rank = self._ranks.get(f"{dvc_yaml}:{name}")
        return [] if rank is None else self._add(self._key(path), rank, 0, name)

    def rank_of_output(self, path: str) -> Optional[int]:
        """Place of the stage with an output, in a run with one job.

        There is only one if the last run has left out some of its stages.
        """
        return self._ranks.get(self._outs.get(path, ""))

    def in_command(self, stage: "Stage") -> "AbstractContextManager[None]":
        """Tell a ``dvc`` in a command of a run with one job its place, if any."""
        rank = self._ranks.get(names_of([stage])[0]) if self._ranks else None
        return nullcontext() if rank is None else variables(self.environment(rank))

    def _key(self, path: str) -> str:
        """The name of a file, the same in each working directory and run."""
        path = os.path.realpath(path)
        return below(path, self._root) or os.path.relpath(path, self._root)

    def _add(self, file: str, rank: int, number: int, text: str) -> list[str]:
        """Take note of an addition; return those that it has to precede."""
        stage = self._stages[rank]
        # NOTE: what no earlier run had is new, and goes to the end of what they left
        new = Addition(rank, number, text, is_earlier=False)
        if self._insert(file, new):
            if not self._is_announced:
                self._is_announced = self._append({"stages": self._stages})
            self._append({"file": file, "stage": stage, "number": number, "text": text})
        added = self._added[file]
        return [
            other.text
            for other in added[bisect_left(added, new) + 1 :]
            if not other.is_earlier or stage in self._expected
        ]

    def _insert(self, file: str, new: Addition) -> bool:
        """Put an addition where it belongs, unless it is there."""
        added = self._added[file]
        place = bisect_left(added, new)
        if any(new[:3] == other[:3] for other in added[place : place + 2]):
            return False
        added.insert(place, new)
        return True

    def _take(self, lines: Iterable[dict[str, Any]], is_earlier: bool = False) -> None:
        """Take over what others have added, or earlier runs."""
        for line in lines:
            rank = self._ranks.get(line.get("stage", ""))
            if rank is not None:
                number, text = line["number"], line["text"]
                self._insert(line["file"], Addition(rank, number, text, is_earlier))
                self._lines[rank] = max(self._lines[rank], number)

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        """The lines written since the last call, as far as they make sense."""
        try:
            if os.lstat(self._folder.path_of(NAME)).st_size == self._read_to:
                return
            with self._folder.read(NAME) as fobj:
                fobj.seek(self._read_to)
                rows = fobj.read()
        except OSError:
            return
        self._read_to += len(rows)
        for row in rows.split(b"\n"):
            try:
                line = json.loads(row)
            except (ValueError, RecursionError):
                continue
            if _makes_sense(line):
                yield line

    def _append(self, line: dict[str, Any]) -> bool:
        """Keep a line, after what others have kept; return whether it is."""
        if not self._can_write:
            return False
        # NOTE: in front of it, as the last one may have been cut off
        row = b"\n" + json.dumps(line).encode()
        try:
            if not os.path.isdir(self._folder.path):
                self._folder.make()
            fd = self._folder.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            with os.fdopen(fd, "ab", 0) as fobj:
                fobj.write(row)
                # NOTE: one's own lines need not be read, if nobody else has added some
                if fobj.tell() == self._read_to + len(row):
                    self._read_to += len(row)
        except OSError as exc:
            self._warn(exc)
            return False
        return True

    def _warn(self, exc: OSError) -> None:
        self._can_write = False
        log(
            logging.WARNING,
            "if this run is interrupted, entries of dvc.lock may end up in another "
            "order: %s",
            exc,
        )


def names_of(stages: "Sequence[Stage]") -> list[str]:
    """The names of stages, the same in each working directory and run."""
    paths: dict[str, str] = {}
    for stage in stages:
        if stage.path not in paths:
            paths[stage.path] = stage.path_in_repo
    return [f"{paths[it.path]}:{getattr(it, 'name', None) or ''}" for it in stages]


def add_line(add: Callable[[str], None], gitignore: str) -> None:
    """Add a line to a .gitignore, maybe in a command of a run.

    Args:
        add: as for :meth:`SerialOrder.ignore`.
        gitignore: the file.
    """
    rank, _, tmp_dir = os.environ.get(VARIABLE, "").partition(":")
    if rank.isdecimal() and os.path.isdir(tmp_dir):
        order = SerialOrder(tmp_dir)
        if int(rank) in order:
            order.ignore(add, gitignore, int(rank))
            return
    add(gitignore)


def _makes_sense(line: Any) -> bool:
    if not isinstance(line, dict):
        return False
    if "stages" in line:
        names = line["stages"]
        return isinstance(names, list) and all(isinstance(name, str) for name in names)
    number = line.get("number")
    texts = (line.get("file"), line.get("stage"), line.get("text"))
    is_number = type(number) is int and 0 <= number <= MOST
    return is_number and all(isinstance(text, str) for text in texts)


def _start_of(text: str, content: bytes) -> Optional[int]:
    """Where an addition begins in a .gitignore, whatever its line breaks are."""
    line = re.escape(text.encode(errors="surrogateescape")).replace(b"\\\n", rb"\r?\n")
    found = re.search(rb"^%b\r?$" % line, content, re.MULTILINE)
    return found.start() if found else None


def _content(path: str) -> bytes:
    try:
        with about(path), open(path, "rb") as fobj:
            return fobj.read()
    except FileNotFoundError:
        return b""
