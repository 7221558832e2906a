"""The hashes of files and folders, while they do not change.

DVC asks for the hash of a dependency some six times a stage, and each time goes through
its state database and makes a progress bar; for a folder, it asks for that of each file
in it.
"""

import os
import stat
from collections import defaultdict
from copy import copy
from functools import partial
from operator import attrgetter
from threading import Lock
from typing import Any, Callable, Optional

from attrs import fields_dict
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.obj import HashFile

from dvc_parallel.engine.file_stamp import is_settled, signature_of

# The database of an older dvc-data (before 3.16) keeps sizes only: asked once more, it
# no longer says that a file is executable, and dvc.lock has what came last.
ANSWERS_STAY = "nlink" in fields_dict(Meta)
if ANSWERS_STAY:
    from dvc_data.fsutils import _localfs_info
DVCIGNORE = ".dvcignore"

_values_of = attrgetter(*fields_dict(Meta))


class KnownHashes:
    """What ``Output._build`` has returned, for a cache and a path in the workspace.

    A file is trusted to be the same under DVC's own condition (inode, time and size
    are), and if its mode is, too; a folder, if that holds for each file in it, and for
    what may have DVC ignore some of them.  Owned by nobody: any thread may call.
    """

    def __init__(self) -> None:
        self._known: dict[tuple, tuple] = {}
        self._turns: defaultdict[str, Lock] = defaultdict(Lock)

    def turn(self, path: str) -> Lock:
        """Held by who hashes a large folder, so that the others need not do it again.

        Whoever holds it must not wait for the repo: its owner may wait for it.
        """
        return self._turns[path]

    def build(
        self, original: Callable, odb: Any, path: str, fs: Any, name: str, **kwargs
    ) -> tuple:
        """As ``Output._build``, which is ``original``, for a file.

        Anything else is left to it.
        """
        return self._build(_file, original, odb, path, fs, name, **kwargs)

    def build_folder(
        self, original: Callable, odb: Any, path: str, fs: Any, name: str, **kwargs
    ) -> tuple:
        """As ``Output._build``, which is ``original``, for a folder."""
        return self._build(_folder, original, odb, path, fs, name, **kwargs)

    def find(
        self, odb: Any, path: str, fs: Any, name: str
    ) -> Optional[tuple[Meta, HashInfo]]:
        """What DVC would find for a file without reading it; None if it would read it.

        DVC would also prepare to put an output into the cache.
        """
        signature = _file(path) if ANSWERS_STAY and fs.protocol == "local" else None
        if signature is None:
            return None
        for is_dry in (True, False):
            known, _, result = self._known.get((path, name, is_dry), (None, None, ()))
            if known == signature:
                _, meta, obj = result
                return Meta(*_values_of(meta)), _copied_info(obj.hash_info)
        meta, hash_info = odb.state.get(path, fs, _localfs_info(path))
        if hash_info is None or hash_info.name != name or _file(path) != signature:
            return None
        result = odb, meta, HashFile(path, fs, hash_info)
        self._known[path, name, True] = signature, odb, result
        return Meta(*_values_of(meta)), _copied_info(hash_info)

    def _build(
        self,
        look: Callable[[str], Any],
        original: Callable,
        odb: Any,
        path: str,
        fs: Any,
        name: str,
        **kwargs,
    ) -> tuple:
        hash_it = partial(original, odb, path, fs, name, **kwargs)
        signature = None
        if ANSWERS_STAY and fs.protocol == "local" and not kwargs.get("upload"):
            signature = look(path)
        if signature is None:
            return hash_it()

        # NOTE: without `dry_run`, the result is in the odb that is returned as well
        key = path, name, bool(kwargs.get("dry_run"))
        known, of, result = self._known.get(key, (None, None, ()))
        if known != signature or of is not odb:
            result = hash_it()
            if look(path) == signature:
                self._known[key] = signature, odb, result
        staging, meta, obj = result
        # NOTE: they become attributes of outputs
        return staging, Meta(*_values_of(meta)), _copied(obj)


def _copied(obj: HashFile) -> HashFile:
    if type(obj) is HashFile:
        return HashFile(obj.path, obj.fs, _copied_info(obj.hash_info))
    copied = copy(obj)
    copied.hash_info = _copied_info(obj.hash_info)
    return copied


def _copied_info(found: HashInfo) -> HashInfo:
    return HashInfo(found.name, found.value, found.obj_name)


def _file(path: str) -> Optional[tuple]:
    """What differs if a file may have changed; None if it is no regular file."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return _state_of(found) if stat.S_ISREG(found.st_mode) else None


def _state_of(found: os.stat_result) -> tuple:
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode, found.st_nlink


def _folder(path: str) -> Optional[tuple]:
    """What differs if DVC may find something else in a folder.

    None if that is none, or has links in it, which lead anywhere, or rules of its own.
    """
    rows: list[tuple] = []
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode) or not _look_into(path, rows):
            return None
        while path != (path := os.path.dirname(path)):
            if not _is_left_alone(os.path.join(path, DVCIGNORE), rows):
                return None
    except OSError:
        return None
    return tuple(rows)


def _look_into(path: str, rows: list[tuple]) -> bool:
    """Take note of all in a folder; return whether that can be done."""
    folders = [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink() or entry.name == DVCIGNORE:
                    return False
                if entry.is_dir():
                    folders.append(entry.path)
                    rows.append((entry.path,))
                else:
                    rows.append((entry.path, *_state_of(entry.stat())))
    return True


def _is_left_alone(path: str, rows: list[tuple]) -> bool:
    """Take note of a file that may be there; return whether its changes would show."""
    signature = signature_of(path)
    rows.append((path, signature))
    return signature is None or is_settled(signature)
