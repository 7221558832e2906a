"""A stage being run: what its thread may do, and when.

    ┌ owns the repo ┐             ┌ owns the repo ┐             ┌ owns the repo ┐
    │ changed?      │   command   │ record hashes │ hash, copy  │ dvc.lock      │
    └───────────────┴─── away ────┴───────────────┴─── away ────┴───────────────┘

Everything that a thread does to the repo, it does while it owns it
(:mod:`dvc_parallel.engine.repo_lock`).  It gives it away around a command, and while it
reads or copies large data.  A thread that ends a job goes on with the one whose turn is
next, if that has not begun.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from threading import Event
from typing import TYPE_CHECKING, Any, Callable, Optional

from .repo_lock import Turn
from .reporter_events import Phase
from .signals import clock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .repo_lock import SharedRepoLock
    from .reporter_events import Reporter
    from .usage import Usage


class Job:
    """One stage of a parallel run.  Owned by the thread that runs it.

    Args:
        rank: the place of the stage in the order of serial DVC.
        force: whether it is to be reproduced even if unchanged.
        env: variables for its commands.
        lock: passes the repo on from job to job.
        reporter: is told what the stage is about.
        on_command_end: called in its thread when it needs its slot no longer.

    Attributes:
        busy (float): seconds that it would have taken on its own: without
            those in the queue for the repo.
        owned (float): seconds for which it kept others from the repo.
        ran (bool): whether it has run a command, or has none to run.
        status (int): exit status of its last command, if that has failed.
        is_at_work (bool): whether it has had the repo, and is not over.
        used (Usage): by a command that has ended, for the reporter to be told with
            the phase that comes after it.
    """

    def __init__(
        self,
        rank: int,
        force: bool,
        env: Mapping[str, str],
        lock: "SharedRepoLock",
        reporter: "Reporter",
        on_command_end: Callable[[], None],
    ):
        self.rank = rank
        self.force = force
        self.env = env
        self.busy = 0.0
        self.owned = 0.0
        self.ran = False
        self.status: Optional[int] = None
        self.is_at_work = False
        self.used: Optional[Usage] = None
        self.turn: Optional[Turn] = None
        self._lock = lock
        self._reporter = reporter
        self._on_command_end = on_command_end
        self._next_turn: Optional[Turn] = None
        self._working_since = 0.0
        self._work = Phase.CHECK
        self._has_failed = False
        self._pins = 0

    @property
    def has_run(self) -> bool:
        """Whether what remains is to save what its commands have made."""
        return self._work is Phase.SAVE

    @property
    def owns_repo(self) -> bool:
        """Whether the calling thread, which is that of the job, owns the repo."""
        return self._lock.is_locked

    @property
    def intrusions(self) -> int:
        """How many times another process may have had the repo in this run."""
        return self._lock.intrusions

    def tell(self, phase: Phase, **details: Any) -> None:
        """Tell the reporter what the stage is about."""
        if phase is Phase.COMMAND:
            self.ran, self.status = True, None
        if self.used is not None:
            details["used"], self.used = self.used.as_dict(), None
        self._reporter.phase(self.rank, phase, **details)

    def tell_outcome(self, outcome: Phase, **details: Any) -> None:
        """Tell the reporter how the stage has ended, and how long it took."""
        seconds, owned = round(self.busy, 4), round(self.owned, 4)
        self.tell(outcome, seconds=seconds, owned=owned, **details)

    def show(self, stream: str, data: bytes) -> None:
        """Show what a command has printed."""
        self._reporter.output(self.rank, stream, data)

    def command_ended(self, failed: bool, saves_now: bool = False) -> None:
        """Take note that what remains is to save what commands have made.

        Args:
            failed: whether there is nothing to save, but to find that they have failed.
            saves_now: whether that comes next, and before what starts in its place.
        """
        self._work = Phase.SAVE
        self._has_failed = failed
        if saves_now:
            self._queue_again()
        self._on_command_end()

    def queue(self, begin: Callable[[], None]) -> None:
        """Take a turn for it; ``begin`` has it run in a thread when that comes."""
        self.turn = Turn(begin, self)
        self._lock.reserve(self.turn)

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Own the repo, and do not give it away at the end.

        Whoever takes note that the job is over has to release ``turn``, so that
        ownership can go straight to the stages that this one has made ready.
        """
        self._own(self.turn or self._lock.reserve())
        try:
            yield
        finally:
            now = clock()
            self.busy += now - self._working_since
            self.is_at_work = False
            assert self.turn
            self.owned += now - self.turn.since
            self.turn.ended = now

    def _own(self, turn: "Turn") -> None:
        # NOTE: a turn has to be released even if the repo could not be locked
        self.turn = turn
        self._lock.lock(turn)
        self._working_since = clock()
        self.is_at_work = True
        if not self._has_failed:
            self.tell(self._work)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Give the repo away for a while."""
        assert self.turn
        since = self.turn.since
        self._lock.release(self.turn)
        self.owned += clock() - since
        try:
            yield
        finally:
            self.busy += clock() - self._working_since
            if self._next_turn is None:
                self._queue_again()
            turn, self._next_turn = self._next_turn, None
            assert turn
            self._own(turn)

    def away_if(self, condition: bool) -> "AbstractContextManager[None]":
        """Give the repo away for a while on a condition, if not pinned."""
        return self.away() if condition and not self._pins else nullcontext()

    def pause(self, seconds: float) -> None:
        """Wait, without the repo."""
        with self.away_if(True):
            time.sleep(seconds)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Own the repo throughout, because it is not as others expect it."""
        self._pins += 1
        try:
            yield
        finally:
            self._pins -= 1

    def _queue_again(self) -> None:
        self._next_turn = self._lock.reserve()
        self.tell(Phase.LOCK, **({"failing": True} if self._has_failed else {}))


class WithdrawnError(Exception):
    """The run has stopped before a stage that was started did anything."""


class QueueAgainError(Exception):
    """A stage has to start again with other slots; its cause is why.

    Args:
        failed: how many of its attempts have failed.
    """

    def __init__(self, failed: int):
        super().__init__(failed)
        self.failed = failed


class Question:
    """To be asked on the main thread, where Ctrl-C can interrupt it."""

    def __init__(self, ask: Callable[[], Any]):
        self.ask = ask
        self.answered = Event()
        self.answer: Any = None
