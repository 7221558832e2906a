"""The hashes of files that are not outputs, while the files do not change.

DVC asks for the hash of a dependency some six times a stage, and each time goes through
its state database and makes a progress bar.
"""

import os
import stat
from functools import partial
from typing import Any, Callable, Optional

from attrs import evolve, fields_dict
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.obj import HashFile

# The database of an older dvc-data (before 3.16) keeps sizes only: asked once more, it
# no longer says that a file is executable, and dvc.lock has what came last.
ANSWERS_STAY = "nlink" in fields_dict(Meta)


class KnownHashes:
    """What ``Output._build`` has returned for files that it did not put anywhere.

    A file is trusted to be the same under DVC's own condition (inode, time and size
    are), and if its mode is, too.  Owned by nobody: any thread may call.
    """

    def __init__(self) -> None:
        self._known: dict[tuple, tuple] = {}

    def build(
        self, original: Callable, odb: Any, path: str, fs: Any, name: str, **kwargs
    ) -> tuple:
        """As ``Output._build``, which is ``original``."""
        hash_it = partial(original, odb, path, fs, name, **kwargs)
        signature = None
        if ANSWERS_STAY and kwargs.get("dry_run") and fs.protocol == "local":
            signature = _signature_of(path)
        if signature is None:
            return hash_it()

        known, result = self._known.get((path, name), (None, ()))
        if known != signature:
            result = hash_it()
            if _signature_of(path) == signature:
                self._known[path, name] = signature, result
        staging, meta, obj = result
        # NOTE: they become attributes of outputs
        return staging, evolve(meta), HashFile(obj.path, obj.fs, evolve(obj.hash_info))


def _signature_of(path: str) -> Optional[tuple]:
    """What differs if a file may have changed; None if it is no regular file."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode, found.st_nlink
