"""Commands of runs that were killed together with their warden.

From its first command on, a run has a file with its ID in
``.dvc/tmp/parallel/commands``, and holds a lock on it, which the system gives up when
the process ends, in whatever way.  So a file that is not locked belongs to a run that
was killed, and what has its ID in the environment (:mod:`.warden`) is killed before the
next run gets going.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Callable, Optional

from . import warden

if sys.platform == "linux":
    import fcntl


def folder_of(tmp_dir: str) -> str:
    """Where the files of a repo are, whose ``.dvc/tmp`` this is."""
    return os.path.join(tmp_dir, "parallel", "commands")


class RunFile:
    """The file of a run.  Owned by its runner.

    Args:
        folder: where to make it.
        run_id: the ID of the run.

    Raises:
        OSError: it cannot be made, or locked.
    """

    def __init__(self, folder: str, run_id: str):
        self._path = os.path.join(folder, run_id)
        os.makedirs(folder, exist_ok=True)
        # NOTE: under another name first, lest somebody finds it before it is locked
        path = os.path.join(folder, f".{run_id}")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(path, self._path)
        except OSError:
            with suppress(OSError):
                os.unlink(path)
            os.close(self._fd)
            raise

    def remove(self) -> None:
        """Say that there is nothing left of the run."""
        with suppress(OSError):
            os.unlink(self._path)
        self.release()

    def release(self) -> None:
        """Leave it to the next run to look for what is left."""
        os.close(self._fd)


def announce(folder: str, run_id: str) -> Optional[RunFile]:
    """Make the file of a run where that can be done."""
    if sys.platform != "linux":
        return None
    try:
        return RunFile(folder, run_id)
    except OSError:
        return None


def clear(folder: str, on_found: Callable[[Sequence[int]], None]) -> None:
    """Kill what killed runs have left behind, and return when nothing is left.

    Args:
        folder: as for :class:`RunFile`.
        on_found: called with the process IDs of what a run has left.
    """
    if sys.platform != "linux":
        return
    for path in _abandoned(folder):
        run_id = os.path.basename(path)
        if pids := sorted(warden.processes_of(run_id)):
            on_found(pids)
            warden.kill_all(run_id)
        with suppress(OSError):
            os.unlink(path)


def _abandoned(folder: str) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if not name.startswith(".") and not _is_locked(path):
            yield path


def _is_locked(path: str) -> bool:
    """Whether somebody holds the lock on a file; also if that cannot be known."""
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)
