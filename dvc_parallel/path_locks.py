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
from typing import Callable, Optional

from dvc import rwlock as dvc_rwlock
from dvc.lock import LockError


class PathLocks:
    """The path locks of a run.  Owned by the owner of the repo.

    The file has a write lock on each path that a stage writes to, and a read lock on
    each that stages only read.  A path that is needed no longer leaves the file with
    the next change of it, or by ``flush``, before another process can lock the repo.
    """

    def __init__(self) -> None:
        self._holders: dict[str, Counter[str]] = {"read": Counter(), "write": Counter()}
        self._in_file: dict[str, str] = {}  # modes of our locks
        self._touched: dict[str, None] = {}  # what may be otherwise there
        self._edit: Callable[[], None] = lambda: None

    @contextmanager
    def hold(
        self, tmp_dir, fs, cmd, read: list[str], write: list[str], hardlink
    ) -> Iterator[None]:
        """As :func:`dvc.rwlock.rwlock`, whose arguments and errors it has.

        Raises:
            LockError: another process uses one of the paths.
        """
        self._edit = partial(self._write, tmp_dir, fs, cmd, hardlink)
        self._count(read, write, 1)
        try:
            if any(self._mode(p) != self._in_file.get(p) for p in [*read, *write]):
                self._edit()
        except BaseException:
            self._count(read, write, -1)
            raise

        try:
            yield
        finally:
            self._count(read, write, -1)

    def flush(self) -> None:
        """Have the file say what is held, before another process can lock the repo."""
        # NOTE: the file is guarded by a lock of its own, which gives up after 3 s. A
        # stage must not fail for that once it has run.
        while True:
            try:
                self._edit()
                break
            except LockError:
                continue

    def _count(self, read: Iterable[str], write: Iterable[str], by: int) -> None:
        for mode, paths in (("read", read), ("write", write)):
            for path in set(paths):
                self._holders[mode][path] += by
                if not self._holders[mode][path]:
                    del self._holders[mode][path]
        self._touched.update(dict.fromkeys([*read, *write]))

    def _mode(self, path: str) -> Optional[str]:
        return next(
            (mode for mode in ("write", "read") if self._holders[mode][path]), None
        )

    def _write(self, tmp_dir, fs, cmd, hardlink) -> None:
        """Bring the file up to date with what is held."""
        new = {path: self._mode(path) for path in self._touched}
        old = {path: self._in_file.get(path) for path in self._touched}
        read, write = (
            [path for path in new if old[path] != mode == new[path]]
            for mode in ("read", "write")
        )
        not_read, not_written = (
            [path for path in new if new[path] != mode == old[path]]
            for mode in ("read", "write")
        )
        if read or write or not_read or not_written:
            info = {"pid": os.getpid(), "cmd": cmd}
            with dvc_rwlock._edit_rwlock(tmp_dir, fs, hardlink) as lock:
                check = partial(dvc_rwlock._check_blockers, tmp_dir, lock, info)
                check(mode="write", waiters=read + write)
                check(mode="read", waiters=write)
                dvc_rwlock._acquire_read(lock, info, read)
                dvc_rwlock._acquire_write(lock, info, write)
                dvc_rwlock._release_write(lock, info, not_written)
                dvc_rwlock._release_read(lock, info, not_read)

        self._touched.clear()
        for path, mode in new.items():
            if mode is None:
                self._in_file.pop(path, None)
            else:
                self._in_file[path] = mode
