"""Commands of runs that were killed together with their watchdog.

From its first command on, a run has a file with its ID in
``.dvc/tmp/parallel/commands``, and holds a lock on it, which the system gives up when
the process ends, in whatever way.  So a file that is not locked belongs to a run that
was killed, and what has its ID in the environment (:mod:`.watchdog`) is killed before
the next run gets going.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Callable, Optional

from dvc_parallel.engine.lock_wait import Wait, say
from dvc_parallel.engine.own_files import OwnFolder

from . import watchdog

if sys.platform != "win32":
    import fcntl


# As shortuuid makes them, and no other name in the folder.
RUN_ID = re.compile(r"[0-9A-Za-z]{22}")
# Seconds from one look at what has been killed and is still there to the next.
LOOK_AGAIN = 1.0


def folder_of(tmp_dir: str) -> OwnFolder:
    """Where the files of a repo are, whose ``.dvc/tmp`` this is."""
    return OwnFolder(tmp_dir, "parallel", "commands")


class RunFile:
    """The file of a run.  Owned by its runner.

    Raises:
        OSError: it cannot be made, or locked.
    """

    def __init__(self, folder: OwnFolder, run_id: str):
        self._folder = folder
        self._name = run_id
        folder.make()
        # NOTE: under another name first, lest somebody finds it before it is locked
        name = f".{run_id}"
        self._fd = folder.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[name-defined]
            folder.rename(name, run_id)
        except OSError:
            with suppress(OSError):
                folder.remove(name)
            os.close(self._fd)
            raise

    def remove(self) -> None:
        """Say that there is nothing left of the run."""
        with suppress(OSError):
            self._folder.remove(self._name)
        self.release()

    def release(self) -> None:
        """Leave it to the next run to look for what is left."""
        os.close(self._fd)


def announce(folder: OwnFolder, run_id: str) -> Optional[RunFile]:
    """Make the file of a run where that can be done."""
    if sys.platform != "linux":
        return None
    try:
        return RunFile(folder, run_id)
    except OSError:
        return None


def clear(folder: OwnFolder, on_found: Callable[[Sequence[int]], None]) -> None:
    """Kill what killed runs have left behind, and return when nothing is left.

    Args:
        on_found: called with the process IDs of what a run has left.
    """
    if sys.platform != "linux":
        return
    for run_id in _abandoned(folder):
        if pids := sorted(watchdog.processes_of(run_id)):
            on_found(pids)
            _kill(run_id)
        with suppress(OSError):
            folder.remove(run_id)


def _kill(run_id: str) -> None:
    """Kill all of a run, and say what it waits for where something does not end."""
    wait = Wait()
    wait.is_to_be_told()  # NOTE: the caller has said so
    while not watchdog.kill_all(run_id, seconds=LOOK_AGAIN):
        if (lasting := wait.is_to_be_told()) is not None:
            left = ", ".join(map(str, sorted(watchdog.processes_of(run_id))))
            say(
                f"Still waiting for processes of a killed run to end ({lasting}): "
                f"{left}; press Ctrl-C to stop waiting"
            )


def _abandoned(folder: OwnFolder) -> Iterator[str]:
    try:
        names = folder.files()
    except OSError:
        return
    for name in filter(RUN_ID.fullmatch, names):
        if not _is_locked(folder, name):
            yield name


def _is_locked(folder: OwnFolder, name: str) -> bool:
    """Whether somebody holds the lock on a file; also if that cannot be known."""
    try:
        fd = folder.open(name, os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[name-defined]
        return False
    except OSError:
        return True
    finally:
        os.close(fd)
