"""Updating a dvc.lock: one entry in its text, and the file at once.

To parse all of dvc.lock and to write it anew after every stage takes long.  Here the
text is kept for as long as the file has it, only the entry in question is made anew
(:mod:`dvc_parallel.engine.lockfile_text`), and the file is replaced as a whole.
Where its entries are in flow style, the data is kept, and all is written anew.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Callable, NamedTuple, Optional

from dvc.utils.serialize._common import _load_data
from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml_for_update

from .atomic import about, atomic_write
from .file_stamp import Signature, mark_time, signature_of
from .lockfile_text import LockfileText, keep_floats

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
        pieces: its bytes.
        text: the same, unless only DVC can tell what it is.
        signature: of the file, if any change after it was taken shows.
    """

    pieces: list[bytes]
    text: Optional[LockfileText]
    signature: Optional[Signature] = None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


class Lockfiles:
    """The dvc.lock files of a repo.  Owned by the owner of the repo.

    Args:
        tmp_dir: folder for temporary files, ``.dvc/tmp`` of the repo.
    """

    def __init__(self, tmp_dir: str) -> None:
        self._tmp_dir = tmp_dir
        self._known: dict[str, _File] = {}
        self._whole: dict[str, tuple[bytes, dict[str, Any]]] = {}

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

        data = {**deepcopy(text.top), "stages": _Entries(text)} if found.pieces else {}
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
        self._known[path] = self._write(path, found, text.pieces(), text)

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
        if known and known.signature and known.signature == signature_of(path):
            return known
        try:
            # NOTE: others may have replaced one by another of the same time and size
            with about(path), open(path, "rb") as fobj:
                found = fobj.read()
        except FileNotFoundError:
            found = b""
        if known and known.data == found:
            return known._replace(signature=None)
        pieces = [found] if found else []
        if found and self._whole.get(path, (b"",))[0] == found:
            return _File(pieces, None)
        try:
            return _File(pieces, LockfileText.parse(found.decode("utf-8")))
        except UnicodeDecodeError:
            return _File(pieces, None)  # the round trip says what is wrong

    def _write(
        self,
        path: str,
        found: _File,
        pieces: list[bytes],
        text: Optional[LockfileText],
    ) -> _File:
        if LINE_END != b"\n":
            pieces = [piece.replace(b"\n", LINE_END) for piece in pieces]
        after = _File(pieces, text, found.signature)
        if pieces == found.pieces or (not found.signature and after.data == found.data):
            return after
        with atomic_write(path, self._tmp_dir) as fobj:
            fobj.buffer.writelines(pieces)
            fobj.flush()
            mark = mark_time(fobj.fileno())
        signature = signature_of(path)
        # NOTE: another process may have replaced it, or it could not be replaced
        is_it = mark and signature and signature[:3] == mark
        return after._replace(signature=signature if is_it else None)

    @contextmanager
    def _round_trip(
        self, path: str, found: _File, fs: Any, place: Place
    ) -> Iterator[dict[str, Any]]:
        """Write the whole file anew; it is read only when others have changed it."""
        known, data = self._whole.pop(path, (b"", None))
        if data is None or found.data != known:
            exists = fs.exists(path) if fs else os.path.exists(path)
            data = (
                exists and _load_data(path, parser=parse_yaml_for_update, fs=fs)
            ) or {}
            keep_floats(data)
        before = set(data.get("stages") or ())
        yield data

        stages = data.get("stages") or {}
        for name in [name for name in stages if name not in before]:
            successor = _first(place(name), stages)
            if successor is not None:
                _move_before(stages, name, successor)
        after = dumps_yaml(data)
        text = None if before else LockfileText.parse(after)
        written = self._write(path, found, [after.encode()], text)
        if text is None:
            self._whole[path] = (written.data, data)
        else:
            self._known[path] = written


def _move_before(mapping: dict, name: str, successor: Optional[str]) -> None:
    names = list(mapping)
    moved = names[names.index(successor) : -1]
    for other in [name, *moved]:
        mapping[other] = mapping.pop(other)


def _first(names: Sequence[str], entries: Any) -> Optional[str]:
    return next((name for name in names if name in entries), None)


def at_the_end(_name: str) -> Sequence[str]:
    """The place of new entries in serial DVC."""
    return ()
