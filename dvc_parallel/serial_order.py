"""Leaving dvc.lock and .gitignore as serial DVC would have left them.

Serial DVC appends: a new entry of dvc.lock, and a new line of .gitignore, goes
to the end of its file when its stage has run.  In a parallel run stages end in
any order, so what is new goes before what later stages (in serial order) have
already added in this run.  The order is right after every change, not only at
the end: a stage that depends on a folder hashes the .gitignore in it.

All of this is done by the owner of the repo.
"""

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Optional, TypeVar

from .atomic import about, atomic_write
from .lockfile import Lockfiles

Rank = tuple[int, ...]
T = TypeVar("T")


class SerialOrder:
    """What a run has added to which file, in serial order.

    Args:
        tmp_dir: folder for temporary files, on the repo's file system.
        lockfiles: the dvc.lock files of the run.
    """

    def __init__(self, tmp_dir: str, lockfiles: Lockfiles):
        self._tmp_dir = tmp_dir
        self._lockfiles = lockfiles
        self._added: dict[str, list[tuple[Rank, str]]] = defaultdict(list)
        self._lines: dict[int, int] = defaultdict(int)

    def _add(self, path: str, rank: Rank, name: str) -> Optional[str]:
        """Take note of an addition; return the one that it has to precede."""
        added = self._added[path]
        place = bisect_left(added, (rank, name))
        if added[place : place + 1] != [(rank, name)]:
            added.insert(place, (rank, name))
        return added[place + 1][1] if place + 1 < len(added) else None

    @contextmanager
    def modify_lockfile(self, path: str, fs, rank: int) -> Iterator[dict[str, Any]]:
        """As :func:`dvc.utils.serialize.modify_yaml`, for a dvc.lock.

        Args:
            path: dvc.lock to modify.
            fs: its file system.
            rank: place in serial order of the stage that modifies it.

        Raises:
            OSError, ParseError: with the file untouched.
        """
        place = partial(self._add, path, (rank,))
        with self._lockfiles.modify(path, fs, place) as data:
            yield data

    def ignore(self, add: Callable[[], T], gitignore: str, rank: int) -> T:
        """Add a line to a .gitignore.

        Args:
            add: adds it at the end of the file, or finds that it is not needed.
            gitignore: the file.
            rank: place in serial order of the stage that adds it.

        Returns:
            what ``add`` does.
        """
        size = _size(gitignore)
        result = add()
        if _size(gitignore) > size:
            self._put_in_order(gitignore, size, rank)
        return result

    def _put_in_order(self, gitignore: str, size: int, rank: int) -> None:
        with about(gitignore), open(gitignore, "rb") as fobj:
            fobj.seek(size)
            # NOTE: after a line break, if the file ended without one
            line = fobj.read().strip(b"\r\n")
        self._lines[rank] += 1
        successor = self._add(gitignore, (rank, self._lines[rank]), line.decode())
        if successor:
            _move_up(line, successor.encode(), gitignore, self._tmp_dir)


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _move_up(line: bytes, successor: bytes, path: str, tmp_dir: str) -> None:
    """Move the last line of a file before another one, if that is there."""
    with about(path), open(path, "rb") as fobj:
        *lines, last, end = fobj.read().split(b"\n")
    stripped = [other.rstrip(b"\r") for other in lines]
    if last.rstrip(b"\r") != line or successor not in stripped:
        return
    lines.insert(stripped.index(successor), last)
    with atomic_write(path, tmp_dir, newline="") as fobj:
        fobj.write(b"\n".join([*lines, end]).decode(errors="surrogateescape"))
