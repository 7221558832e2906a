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
from functools import partial
from typing import Optional

from dvc import rwlock as dvc_rwlock
from dvc.lock import LockError

# path, old and new mode of its lock
Changes = list[tuple[str, Optional[str], Optional[str]]]


class PathLocks:
    """The path locks of a run.  Owned by the owner of the repo.

    The file has a write lock on each path that a stage writes to, and a read lock on
    each that stages only read.
    """

    def __init__(self) -> None:
        self._holders: dict[str, Counter[str]] = {"read": Counter(), "write": Counter()}

    @contextmanager
    def hold(
        self, tmp_dir, fs, cmd, read: list[str], write: list[str], hardlink
    ) -> Iterator[None]:
        """As :func:`dvc.rwlock.rwlock`, whose arguments and errors it has.

        Raises:
            LockError: another process uses one of the paths.
        """
        edit = partial(self._edit, tmp_dir, fs, cmd, hardlink)
        changes = self._count(read, write, 1)
        try:
            edit(changes)
        except BaseException:
            self._count(read, write, -1)
            raise

        try:
            yield
        finally:
            changes = self._count(read, write, -1)
            # NOTE: the file is guarded by a lock of its own, which gives up after
            # 3 s. A stage must not fail for that once it has run.
            while True:
                try:
                    edit(changes)
                    break
                except LockError:
                    continue

    def _count(self, read: Iterable[str], write: Iterable[str], by: int) -> Changes:
        """Count holders; return the paths whose locks change, with old and new."""
        paths = dict.fromkeys([*read, *write])
        old = {path: self._mode(path) for path in paths}
        for mode, changed in (("read", read), ("write", write)):
            for path in set(changed):
                self._holders[mode][path] += by
                if not self._holders[mode][path]:
                    del self._holders[mode][path]
        new = {path: self._mode(path) for path in paths}
        return [(p, old[p], new[p]) for p in paths if old[p] != new[p]]

    def _mode(self, path: str) -> Optional[str]:
        return next(
            (mode for mode in ("write", "read") if self._holders[mode][path]), None
        )

    @staticmethod
    def _edit(tmp_dir, fs, cmd, hardlink, changes: Changes) -> None:
        if not changes:
            return

        info = {"pid": os.getpid(), "cmd": cmd}
        read = [path for path, _, new in changes if new == "read"]
        write = [path for path, _, new in changes if new == "write"]
        with dvc_rwlock._edit_rwlock(tmp_dir, fs, hardlink) as lock:
            check = partial(dvc_rwlock._check_blockers, tmp_dir, lock, info)
            check(mode="write", waiters=read + write)
            check(mode="read", waiters=write)
            dvc_rwlock._acquire_read(lock, info, read)
            dvc_rwlock._acquire_write(lock, info, write)

            old = {path: old for path, old, _ in changes}
            dvc_rwlock._release_write(lock, info, [p for p in old if old[p] == "write"])
            dvc_rwlock._release_read(lock, info, [p for p in old if old[p] == "read"])
