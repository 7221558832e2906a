"""Updating a dvc.lock: one entry in its text, and the file at once.

To parse all of dvc.lock and to write it anew after every stage takes long.  Here the
text is kept for as long as the file has it, only the entry in question is
made anew (:mod:`dvc_parallel.lockfile_text`), and the file is replaced as a whole.
The result is byte for byte that of a round trip by ruamel.yaml; where that cannot be
had otherwise, a round trip makes it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Callable, Optional

from dvc.utils.serialize._common import _load_data
from dvc.utils.serialize._yaml import _dump, parse_yaml_for_update

from .atomic import about, atomic_write
from .lockfile_text import LockfileText, UnstableEntryError

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


class Lockfiles:
    """The dvc.lock files of a repo.  Owned by the owner of the repo.

    Args:
        tmp_dir: folder for temporary files, ``.dvc/tmp`` of the repo.
    """

    _parse = staticmethod(LockfileText.parse)

    def __init__(self, tmp_dir: str) -> None:
        self._tmp_dir = tmp_dir
        self._known: dict[str, tuple[str, LockfileText]] = {}

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
        text = self._text(path)
        if text is None:
            with self._round_trip(path, fs, place) as whole:
                yield whole
            return

        before = str(text)
        data: dict[str, Any] = {}
        if before:
            data = {"schema": "2.0", "stages": _Entries(text)}
        yield data

        entries = data.pop("stages", {})
        data.pop("schema", None)
        if data or not _put(text, entries, place):
            with self._round_trip(path, fs, place) as whole:
                whole.update({"schema": "2.0", **data})
                whole.setdefault("stages", {}).update(entries)
            return

        after = str(text)
        if after != before:
            with atomic_write(path, self._tmp_dir) as fobj:
                fobj.write(after)
        self._known[path] = (after, text)

    def _text(self, path: str) -> Optional[LockfileText]:
        """The text of a file, forgotten here until it is written."""
        known, text = self._known.pop(path, (None, None))
        try:
            # NOTE: others may have replaced one by another of the same time and size
            with about(path), open(path, encoding="utf-8", newline="") as fobj:
                found = fobj.read()
        except FileNotFoundError:
            found = ""
        except UnicodeDecodeError:
            return None  # the round trip says what is wrong
        return text if found == known else self._parse(found)

    @contextmanager
    def _round_trip(self, path: str, fs: Any, place: Place) -> Iterator[dict[str, Any]]:
        exists = fs.exists(path) if fs else os.path.exists(path)
        data = _load_data(path, parser=parse_yaml_for_update, fs=fs) if exists else {}
        before = set(data.get("stages") or ())
        yield data

        stages = data.get("stages") or {}
        for name in [name for name in stages if name not in before]:
            successor = _first(place(name), stages)
            if successor is not None:
                _move_before(stages, name, successor)
        with atomic_write(path, self._tmp_dir) as fobj:
            _dump(data, fobj)


def _put(text: LockfileText, entries: dict, place: Place) -> bool:
    """Put entries into the text, or tell that it takes a round trip."""
    try:
        for name, entry in entries.items():
            successor = None if name in text else _first(place(name), text)
            text.put(name, entry, successor)
    except UnstableEntryError:
        return False
    return True


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
