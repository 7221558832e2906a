"""The path locks of other processes, heeded by one that only reads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dvc.rwlock as dvc_rwlock

from .path_locks import PathLocks


class OthersPathLocks(PathLocks):
    """As :class:`PathLocks`, but takes none.

    Its process has the repo locked, so no other can take a path meanwhile.
    """

    @contextmanager
    def hold(
        self,
        tmp_dir,
        fs,
        cmd,
        read: list[str],
        write: list[str],
        hardlink,  # noqa: ARG002
    ) -> Iterator[None]:
        """See that nobody writes to any of the paths.

        Raises:
            LockError: another process does.
        """
        path = os.path.join(tmp_dir, dvc_rwlock.RWLOCK_FILE)
        self._file.read(path, fs, {})
        self._file.check(tmp_dir, cmd, [*read, *write], [])
        yield
