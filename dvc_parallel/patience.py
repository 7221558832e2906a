"""Getting the repo lock from a process that gives it up often, but for moments only.

DVC tries to get the lock every 0.5 s, for 3 s.  A run of many small stages holds it
nearly all of the time: it gives it up around commands and twice a second, but seldom at
the moment of one of seven tries.

So every command tries more often, and a parallel run does not give up at all: beside
other runs, waiting is all that it takes.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from traceback import clear_frames
from typing import TYPE_CHECKING, Callable

from dvc import lock as dvc_lock

from .atomic import about

if TYPE_CHECKING:
    from dvc.repo import Repo

# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")

# Seconds between two tries; less than a run leaves the lock free (repo_lock.PAUSE).
TRY_EVERY = 0.02


def lock(original: Callable, self: "dvc_lock.Lock") -> None:
    """``dvc.lock.Lock.lock``: try often before DVC tries its own way.

    Raises:
        LockError: another process holds the lock.
        OSError: its file cannot be written.
    """
    end = time.monotonic() + dvc_lock.DEFAULT_TIMEOUT
    try:
        with about(self.lockfile):
            while time.monotonic() < end:
                with suppress(dvc_lock.LockError):
                    self._do_lock()
                    return
                time.sleep(TRY_EVERY)
            original(self)
    except OSError as exc:
        # NOTE: the file may have been locked before it could not be written, and stays
        # so for as long as the traceback refers to it
        clear_frames(exc.__traceback__)
        # NOTE: else unlocking raises an error that covers this one
        self._lock_failed = True
        raise


def unlock(original: Callable, self: "dvc_lock.Lock") -> None:
    """``dvc.lock.Lock.unlock``: name the file that cannot be closed.

    Raises:
        OSError: it cannot be closed; it is unlocked all the same.
    """
    try:
        with about(self.lockfile):
            original(self)
    except OSError:
        # NOTE: else unlocking it once more raises an error that covers this one
        self._lock, self._lock_failed = None, True
        raise


class PatientLock(dvc_lock.LockBase):
    """A repo lock that waits for as long as it takes, and says so.

    Stands in for ``repo.lock`` until it has been locked: from then on, a run waits for
    it in its own way.

    Args:
        repo: the repo, whose lock gives up after some seconds.
    """

    def __init__(self, repo: "Repo"):
        super().__init__(repo.lock.lockfile)
        self._repo = repo
        self._lock = repo.lock

    @property
    def is_locked(self) -> bool:
        return self._lock.is_locked

    def lock(self) -> None:
        # NOTE: imported here, as that imports `dvc.lock`, which imports this module
        from .repo_lock import wait_for

        wait_for(self._lock, _say_so)
        self._repo.lock = self._lock

    def unlock(self) -> None:
        self._lock.unlock()

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, typ, value, tbck) -> None:
        self.unlock()


@contextmanager
def given_away(repo: "Repo") -> Iterator[None]:
    """Have a locked repo free for others for a while; what it has loaded is dropped.

    It is locked again at the end, however long that takes, but for an error.
    """
    # NOTE: imported here, as in `PatientLock.lock`
    from .repo_lock import wait_for

    repo._reset()
    repo.lock.unlock()
    try:
        yield
    except BaseException:
        # NOTE: whoever unlocks it next has to find it locked, or that this failed
        with suppress(dvc_lock.LockError):
            repo.lock.lock()
        raise
    wait_for(repo.lock, _say_so)
    repo._reset()


def _say_so() -> None:
    logger.info("Another DVC process has locked the repo; waiting for it.")
