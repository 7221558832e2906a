"""The repo lock, shared by the threads of a parallel run.

Two things are passed around, always in this order:

- *ownership* of the ``Repo`` object, between the threads of the run, first come
  first served: only its owner may use the repo;
- the *repo lock* (``.dvc/tmp/lock``), between processes: taken by an owner that
  finds it free, given up when there is no thread left to pass ownership to.

While commands run nobody owns the repo, and other DVC processes can lock it.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.exceptions import DvcException
from dvc.lock import LockBase

from . import logger
from .lock_wait import REPO, TRY_EVERY, wait_for
from .signals import clock

if TYPE_CHECKING:
    from dvc.repo import Repo


# Threads that pass the lock on and on would shut out other processes, which poll for
# it: after so many seconds it is given up, for so long.
MAX_HOLD = 0.5
PAUSE = 0.05


class Turn:
    """A place in the queue for the repo, and then the ownership of it.

    Args:
        begin: has a thread begin what the turn is for, as none waits for it; called
            when it is granted, unless the thread that had the repo before takes it.
        job: what it is for, then.

    Attributes:
        since (float): when it could begin, on the clock of the run: what the owner
            before it did for the plan, after its own work, is a part of it.
        ended (float): when its work was done; None while it is not.
    """

    def __init__(self, begin: Optional[Callable[[], None]] = None, job: Any = None):
        self._granted = threading.Event()
        self.begin = begin
        self.job = job
        self.thread: Optional[int] = None
        self.since = 0.0
        self.ended: Optional[float] = None

    def grant(self) -> None:
        self._granted.set()

    def wait(self) -> None:
        self._granted.wait()
        self.thread = threading.get_ident()


class SharedRepoLock(LockBase):
    """Stands in for ``repo.lock`` in a parallel run.

    Made by the thread that holds ``repo.lock``, which then owns the repo.

    Args:
        before_unlock: called by the owner before it gives up the repo lock.

    Attributes:
        intrusions (int): how many times another process may have had the repo lock.
    """

    def __init__(self, repo: "Repo", before_unlock: Callable[[], None] = lambda: None):
        super().__init__(repo.lock.lockfile)
        self._repo = repo
        self._lock = repo.lock
        self._before_unlock = before_unlock
        self.intrusions = 0
        self._guard = threading.Lock()  # of the fields below
        self._queue: deque[Turn] = deque()
        self._owner: Optional[Turn] = Turn()
        self._owner.thread = threading.get_ident()
        # Owned by the owner of the repo:
        self._file_locked = True
        self._locked_at = time.monotonic()

    @property
    def is_locked(self) -> bool:
        """Whether the calling thread owns the repo."""
        owner = self._owner
        return owner is not None and owner.thread == threading.get_ident()

    def reserve(self, turn: Optional[Turn] = None) -> Turn:
        """Queue for the repo, on behalf of any thread."""
        turn = turn or Turn()
        with self._guard:
            if self._owner is not None:
                self._queue.append(turn)
                return turn
            self._owner = turn
        turn.since = clock()
        turn.grant()
        if turn.begin:
            turn.begin()
        return turn

    def lock(self, turn: Optional[Turn] = None) -> None:
        """Own the repo, however long it takes."""
        turn = turn or self.reserve()
        turn.wait()
        if not self._file_locked:
            self._lock_file()
            turn.since = clock()

    def unlock(self) -> None:
        if not self.is_locked:
            raise DvcException("Unlock called on an unlocked lock")
        assert self._owner
        self.release(self._owner)

    def release(self, turn: Turn) -> None:
        """Pass the ownership on, on behalf of the thread that has it.

        What that has loaded through the repo stays its own: the next owner loads it
        anew.
        """
        self._repo.__dict__.pop("dvcignore", None)
        if (following := self.exchange(turn)) and following.begin:
            following.begin()

    def exchange(self, turn: Turn) -> Optional[Turn]:
        """Pass the ownership on, or get it with the next turn.

        Returns:
            the turn that is next, if no thread waits for it: it is the caller's, or of
            a thread that the caller has begin.
        """
        assert turn is self._owner
        if self._file_locked and time.monotonic() - self._locked_at > MAX_HOLD:
            self._unlock_file()
            time.sleep(PAUSE)
        while True:
            with self._guard:
                if self._queue:
                    self._owner = following = self._queue.popleft()
                    following.since = turn.ended or clock()
                    following.grant()
                    return following if following.begin else None
                if not self._file_locked:
                    self._owner = None
                    return None
            # NOTE: still the owner here, and whoever queues meanwhile is seen
            # in the next round.
            self._unlock_file()

    def _unlock_file(self) -> None:
        self._before_unlock()
        self._repo._reset()
        self._file_locked = False
        try:
            self._lock.unlock()
        except OSError as exc:
            # NOTE: it is unlocked all the same, and the repo has to be passed on; log
            # handlers raise when nobody reads what they write
            with suppress(Exception):
                logger.warning("cannot close the lock file of the repo: %s", exc)

    def _lock_file(self) -> None:
        last_holder = self._last_holder()
        start = time.monotonic()
        # NOTE: what has run is lost if this fails, and others may help it on
        wait_for(self._lock, REPO, gives_up=False)
        self._file_locked = True
        self._locked_at = time.monotonic()
        if self._locked_at - start > TRY_EVERY / 2 or last_holder != os.getpid():
            self.intrusions += 1
        self._repo._reset()

    def _last_holder(self) -> Optional[int]:
        """PID of the process that had the lock last, if it can be known."""
        try:
            with open(self.lockfile, encoding="utf-8") as fobj:
                return int(fobj.read())
        except (OSError, ValueError, TypeError):
            return None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Stand in for ``repo.lock``, which the calling thread holds before and after.

        That owns the repo at first, and may not do so at the end.
        """
        self._repo.lock = self
        try:
            yield
        finally:
            try:
                if not self.is_locked:
                    self.lock()
            finally:
                assert self.is_locked
                self._before_unlock()
                self._repo.lock = self._lock

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, typ, value, tbck) -> None:
        self.unlock()
