"""Path locks (``.dvc/tmp/rwlock``) that count the stages that need a path.

DVC identifies the holder of a path by process and command line, so all stages
of a run are one holder, and with DVC's own ``rwlock`` the first to finish
releases a path that another one still reads.  Here a path goes into the file
with the first stage that needs it and leaves with the last.  Format and meaning
of the file stay DVC's: other processes see the locks, and theirs are heeded.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dvc import rwlock as dvc_rwlock
from dvc.lock import LockError


class PathLocks:
    """The path locks of a run.  Owned by the owner of the repo."""

    def __init__(self):
        self._readers: Counter[str] = Counter()
        self._writers: Counter[str] = Counter()

    @contextmanager
    def hold(
        self, tmp_dir, fs, cmd, read: list[str], write: list[str], hardlink
    ) -> Iterator[None]:
        """As :func:`dvc.rwlock.rwlock`, whose arguments and errors it has.

        Raises:
            LockError: another process uses one of the paths.
        """
        info = {"pid": os.getpid(), "cmd": cmd}
        new_read = _new(read, self._readers)
        new_write = _new(write, self._writers)
        if new_read or new_write:
            with dvc_rwlock._edit_rwlock(tmp_dir, fs, hardlink) as lock:
                _check(tmp_dir, lock, info, "write", new_read + new_write)
                _check(tmp_dir, lock, info, "read", new_write)
                dvc_rwlock._acquire_read(lock, info, new_read)
                dvc_rwlock._acquire_write(lock, info, new_write)
        self._readers.update(set(read))
        self._writers.update(set(write))

        try:
            yield
        finally:
            old_read = _old(read, self._readers)
            old_write = _old(write, self._writers)
            if old_read or old_write:
                self._release(tmp_dir, fs, hardlink, info, old_read, old_write)

    @staticmethod
    def _release(tmp_dir, fs, hardlink, info, read, write) -> None:
        # NOTE: the file is guarded by a lock of its own, which gives up after
        # 3 s. A stage must not fail for that once it has run.
        while True:
            try:
                with dvc_rwlock._edit_rwlock(tmp_dir, fs, hardlink) as lock:
                    dvc_rwlock._release_write(lock, info, write)
                    dvc_rwlock._release_read(lock, info, read)
                return
            except LockError:
                continue


def _check(tmp_dir, lock, info, mode, waiters) -> None:
    dvc_rwlock._check_blockers(tmp_dir, lock, info, mode=mode, waiters=waiters)


def _new(paths: Iterable[str], held: "Counter[str]") -> list[str]:
    return [path for path in dict.fromkeys(paths) if not held[path]]


def _old(paths: Iterable[str], held: "Counter[str]") -> list[str]:
    """Count one holder less; return the paths that nobody holds any more."""
    old = []
    for path in dict.fromkeys(paths):
        held[path] -= 1
        if not held[path]:
            del held[path]
            old.append(path)
    return old
