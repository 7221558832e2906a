"""A stage being run: what its thread may do, and when.

    ┌ owns the repo ┐             ┌ owns the repo ┐
    │ changed?      │   command   │ save          │
    └───────────────┴─── away ────┴───────────────┘

Everything that a thread does to the repo, it does while it owns it
(:mod:`dvc_parallel.engine.repo_lock`).  It gives it away around a command.  A thread
that ends a job goes on with the one whose turn is next, if that has not begun.
"""

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, Callable, Optional

from .repo_lock import Turn
from .reporter_events import Phase
from .signals import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dvc.stage import Stage

    from .executor import ParallelExecutor
    from .repo_lock import SharedRepoLock

_local = threading.local()


def current_job() -> Optional["Job"]:
    """The job that the calling thread runs, if any."""
    return getattr(_local, "job", None)


class Job:
    """One stage of a parallel run.  Owned by the thread that runs it.

    Attributes:
        stage: the stage.
        rank (int): its place in the order of serial DVC.
        run: the run that it belongs to.
        force (bool): whether it is to be reproduced even if unchanged.
        busy (float): seconds that it would have taken on its own: without
            those in the queue for the repo.
    """

    def __init__(self, run: "ParallelExecutor", stage: "Stage", rank: int):
        self.run = run
        self.stage = stage
        self.rank = rank
        self.name: str = stage.addressing
        self.force = False
        self.busy = 0.0
        self.turn: Optional[Turn] = None
        self._next_turn: Optional[Turn] = None
        self._working_since = 0.0
        self._work = Phase.CHECK

    @property
    def lock(self) -> "SharedRepoLock":
        return self.run.lock

    def tell(self, phase: Phase, **details: Any) -> None:
        """Tell the reporter what the stage is about."""
        self.run.reporter.phase(self.rank, phase, **details)

    def command_ended(self, saves_now: bool = False) -> None:
        """Take note that what remains is to save what commands have made.

        Args:
            saves_now: whether that comes next, and before what starts in its place.
        """
        self._work = Phase.SAVE
        if saves_now:
            self._queue_again()
        self.run.command_ended(self)

    def queue(self, begin: Callable[[], None]) -> None:
        """Take a turn for it; ``begin`` has it run in a thread when that comes."""
        self.turn = Turn(begin, self)
        self.lock.reserve(self.turn)

    @contextmanager
    def in_this_thread(self) -> "Iterator[None]":
        """Be the current job, and own the repo; do not give it away at the end.

        Whoever takes note that the job is over has to release ``turn``, so that
        ownership can go straight to the stages that this one has made ready.
        """
        _local.job = self
        try:
            self._own(self.turn or self.lock.reserve())
            try:
                yield
            finally:
                self.busy += clock() - self._working_since
        finally:
            _local.job = None

    def _own(self, turn: "Turn") -> None:
        # NOTE: a turn has to be released even if the repo could not be locked
        self.turn = turn
        self.lock.lock(turn)
        self._working_since = clock()
        self.tell(self._work)

    @contextmanager
    def away(self) -> "Iterator[None]":
        """Give the repo away for a while.

        What the job has loaded through the repo stays its own: the next owner
        loads it anew.
        """
        assert self.turn
        self.stage.repo.__dict__.pop("dvcignore", None)
        self.lock.release(self.turn)
        try:
            yield
        finally:
            self.busy += clock() - self._working_since
            if self._next_turn is None:
                self._queue_again()
            turn, self._next_turn = self._next_turn, None
            assert turn
            self._own(turn)

    def _queue_again(self) -> None:
        self._next_turn = self.lock.reserve()
        self.tell(Phase.LOCK)


class WithdrawnError(Exception):
    """The run has stopped before a stage that was started did anything."""


@dataclass
class Over:
    """The job is over, and still owns the repo; told by its thread."""

    job: Job
    result: Optional["Stage"] = None
    exc: Optional[BaseException] = None


@dataclass
class Signal:
    signum: int


@dataclass
class Question:
    """To be asked on the main thread, where Ctrl-C can interrupt it."""

    ask: Callable[[], Any]
    answered: Event
    answer: Any = None
