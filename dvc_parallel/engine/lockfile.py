"""Updating a dvc.lock: one entry in its text, and the file at once.

To parse all of dvc.lock and to write it anew after every stage takes long.  Here the
text is kept for as long as the file has it, only the entry in question is made anew
(:mod:`dvc_parallel.engine.lockfile_text`), and the file is replaced as a whole.
Where its entries are in flow style, all is read and written anew, as DVC does.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Callable, NamedTuple, Optional

from dvc.utils.serialize._common import _load_data
from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml_for_update

from .atomic import about, atomic_write
from .lockfile_text import LockfileText, keep_floats, move_before

# What DVC writes for a line break: it opens the file for text.
LINE_END = os.linesep.encode()

Place = Callable[[str], Sequence[str]]


class _Entries(dict):
    """What is seen as ``stages``: entries are read when they are asked for.

    Itself, it holds what has been put in.
    """

    def __init__(self, text: LockfileText):
        super().__init__()
        self._text = text

    def get(self, name, default=None):
        if name in self:
            return self[name]
        entry = self._text.get(name)
        return default if entry is None else entry


class _File(NamedTuple):
    """What a dvc.lock has.

    Attributes:
        data: its bytes.
        text: the same, unless only DVC can tell what it is.
    """

    data: bytes
    text: Optional[LockfileText]


class Lockfiles:
    """The dvc.lock files of a repo.  Owned by the owner of the repo.

    Args:
        tmp_dir: folder for temporary files, ``.dvc/tmp`` of the repo.
    """

    def __init__(self, tmp_dir: str) -> None:
        self._tmp_dir = tmp_dir
        self._known: dict[str, _File] = {}

    @contextmanager
    def modify(self, path: str, fs: Any, place: Place) -> Iterator[dict[str, Any]]:
        """As :func:`dvc.utils.serialize.modify_yaml`, for a dvc.lock.

        Args:
            path: dvc.lock to modify.
            fs: its file system.
            place: returns the names of the entries that a new one has to precede; it
                goes before the first of these that is there, or else to the end.

        Raises:
            OSError, ParseError: with the file untouched.
        """
        path = os.fspath(path)
        found = self._found(path)
        text = found.text
        if text is None:
            with self._round_trip(path, found, fs, place) as whole:
                yield whole
            return

        data = {**deepcopy(text.top), "stages": _Entries(text)} if found.data else {}
        yield data

        entries = data.pop("stages", {})
        if data != (text.top or {"schema": "2.0"}):
            with self._round_trip(path, found, fs, place) as whole:
                whole.update(data)
                whole.setdefault("stages", {}).update(entries)
            return
        for name, entry in entries.items():
            before = None if name in text else _first(place(name), text)
            text.put(name, entry, before)
        self._write(path, found, str(text), text)

    def entry(self, path: str, name: str) -> Optional[dict[str, Any]]:
        """The entry of a dvc.lock, or None if it has none or cannot be read."""
        file = self._found(path)
        if file.text is None:
            return None
        self._known[path] = file
        return file.text.get(name)

    def _found(self, path: str) -> _File:
        """What a file has, forgotten here until it is written."""
        known = self._known.pop(path, None)
        try:
            with about(path), open(path, "rb") as fobj:
                data = fobj.read()
        except FileNotFoundError:
            data = b""
        if known and known.data == data:
            return known
        try:
            return _File(data, LockfileText.parse(data.decode("utf-8")))
        except UnicodeDecodeError:
            return _File(data, None)  # the round trip says what is wrong

    def _write(
        self, path: str, found: _File, text: str, parsed: Optional[LockfileText]
    ) -> None:
        data = text.encode()
        if LINE_END != b"\n":
            data = data.replace(b"\n", LINE_END)
        if data != found.data:
            with atomic_write(path, self._tmp_dir) as fobj:
                fobj.buffer.write(data)
        self._known[path] = _File(data, parsed)

    @contextmanager
    def _round_trip(
        self, path: str, found: _File, fs: Any, place: Place
    ) -> Iterator[dict[str, Any]]:
        """Write the whole file anew."""
        data: dict[str, Any] = {}
        if found.data:
            data = _load_data(path, parser=parse_yaml_for_update, fs=fs) or {}
            keep_floats(data)
        before = set(data.get("stages") or ())
        yield data

        stages = data.get("stages") or {}
        for name in [name for name in stages if name not in before]:
            successor = _first(place(name), stages)
            if successor is not None:
                move_before(stages, name, successor)
        after = dumps_yaml(data)
        self._write(path, found, after, LockfileText.parse(after))


def _first(names: Sequence[str], entries: Any) -> Optional[str]:
    return next((name for name in names if name in entries), None)


def at_the_end(_name: str) -> Sequence[str]:
    """The place of new entries in serial DVC."""
    return ()
