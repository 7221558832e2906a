"""The loop of a parallel run.

    Plan      decides which stages start            (plan.py)
    Job       has the repo for one of them          (job.py)
    Runner    runs its commands                     (runner.py)
    Reporter  shows what goes on                    (reporter_events.py)

The plan, and what has become of the stages, is owned by whoever holds the guard: the
thread of a job that has news, which then goes on with the stage whose turn is next, or
the loop.  That waits for what has no such thread: a signal, a question, a time, the end
of the run.  Nothing polls.

It knows nothing of DVC: stages are ranks, what it does to one of them is passed in.
"""

import queue
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from threading import Lock
from typing import Any, Callable, Optional, Protocol, Union

from . import plan, signals
from .job import Job, Question, QueueAgainError, WithdrawnError
from .outcome import Outcome
from .repo_lock import SharedRepoLock
from .reporter_events import Phase, Reporter, RunInfo
from .runner import Runner, RunnerClosedError
from .stage_paths import PathsBusyError
from .thread_pool import Workers

# Seconds from the first Ctrl-C to killing what still runs.
GRACE = 10.0


class Waker(Protocol):
    """What the loop looks at from time to time.  Owned by the owner of the plan."""

    def due(self) -> Optional[float]:
        """Seconds until it is time for that; None for never, as things are."""

    def events(self) -> Iterable[plan.Event]:
        """What has happened by now."""


class Work(Protocol):
    """What is done to stages, and to the repo that they are in."""

    def in_thread(self) -> AbstractContextManager:
        """What each of the threads is in."""

    def reproduce(self, job: Job) -> Any:
        """Reproduce the stage of a job, in a thread that owns the repo.

        Returns:
            what is to be kept of it; None if it has not changed.
        """

    def failed(self, rank: int, error: Exception) -> None:
        """A stage has failed, and the run goes on."""

    def come_to_end(self) -> None:
        """The run has come to its end; for the owner of the repo."""


class Supplies(Protocol):
    """What stages get besides a slot.  Owned by the owner of the plan."""

    def environment(self, rank: int) -> Mapping[str, str]:
        """Variables for the commands of a stage that starts."""

    def obstacle(self, rank: int) -> Optional[str]:
        """The pool that a stage which is ready waits for, if it does."""

    def change(self, rank: int, failed: int) -> None:
        """Have a stage get other slots, as so many of its attempts have failed."""

    def give_up(self) -> None:
        """Give back what is shared with others, as this process is about to end."""


class Executor:
    """Runs the stages of a plan in parallel.

    To be used once, by the thread that holds ``repo.lock``.

    Args:
        plan: has not begun.
        lock: shares the repo among the jobs.
        runner: where commands run.
        reporter: is told what goes on; raises nothing.
        work: what is done to stages.
        supplies: what they get besides a slot.
        wakers: looked at from time to time.
        postpone: takes a stage that has done nothing, as others use its paths; one of
            the wakers resumes it.  Without it, the stage fails.
        clock: tells the time in seconds.
        inbox: where threads leave messages for the loop.

    Attributes:
        jobs: those that have been started, by rank.
        outcome: what has become of the stages so far.
    """

    def __init__(
        self,
        plan: plan.Plan,
        *,
        lock: SharedRepoLock,
        runner: Runner,
        reporter: Reporter,
        work: Work,
        supplies: Supplies,
        wakers: Sequence[Waker] = (),
        postpone: Optional[Callable[[int, PathsBusyError], None]] = None,
        clock: Callable[[], float] = signals.clock,
        inbox: Optional[queue.SimpleQueue] = None,
    ):
        self._plan = plan
        self._lock = lock
        self._runner = runner
        self._reporter = reporter
        self._work = work
        self._supplies = supplies
        self._wakers = wakers
        self._postpone = postpone
        self._clock = clock
        self._inbox = inbox or queue.SimpleQueue()
        self._workers = Workers(2 * plan.jobs, work.in_thread)

        self._guard = Lock()  # of the plan, and of the fields below
        self.jobs: dict[int, Job] = {}
        self.outcome = Outcome()
        self._in_flight: set[Job] = set()
        self._again: dict[int, BaseException] = {}  # why stages are to start again
        self._kill_at: Optional[float] = None
        self._looks_at: Optional[float] = None  # when the loop does so by itself
        self._error: Optional[BaseException] = None  # of our own, in a thread
        self._is_ending = False  # after such an error
        self._is_looping = False  # or else it does not get to messages
        self._is_to_stop = False  # by a signal

    def run(self, info: RunInfo) -> Outcome:
        """Run the stages, and leave ``repo.lock`` locked by the calling thread.

        Args:
            info: what the reporter is told of the run.
        """
        with closing(self._reporter):
            start = self._clock()
            self._reporter.begun(info)
            with (
                signals.as_events(self._notify, self._give_up, self.wake),
                self._lock.shared(),
                self._workers,
            ):
                try:
                    self._is_looping = True
                    self._loop()
                    self._is_looping = False
                except BaseException:
                    self._is_looping = False
                    self._wind_down()
                    raise
                finally:
                    self._runner.close()
                    self._reporter.stages_over()
            for rank, error in self._again.items():
                self._has_ended_badly(self.jobs[rank], error)
            self.outcome.end(self._plan)
            # NOTE: with another `on_error`, serial DVC, too, has come to the last
            has_failed = self._plan.on_error == "fail" and self.outcome.failed
            if not has_failed and not self.outcome.is_cut_short:
                self._work.come_to_end()
            busy = (job.busy for job in self.jobs.values())
            self._reporter.ended(
                self.outcome.summary(self._plan, self._clock() - start, busy)
            )
        return self.outcome

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new starts any more."""
        return self._plan.stopping

    def wake(self) -> None:
        """Have the loop look whether there is something to do; for any thread."""
        self._inbox.put(None)

    def _loop(self) -> None:
        with self._guard:
            self._carry_out(plan.Begun())
        self._lock.unlock()
        while not self._is_through():
            message = self._next_message()
            if isinstance(message, Question):
                self._put(message)
            elif message is None:
                self._look()
            elif message in signals.STOPS:
                with self._reporter.hold():
                    self._stop(message)
            else:
                with self._guard:
                    self._interrupt(message)

    def _is_through(self) -> bool:
        """Whether nothing runs, and nothing will be started any more.

        Raises:
            BaseException: an error of our own has occurred in a thread.
        """
        with self._guard:
            if self._error is not None:
                raise self._error
            return self._plan.done and not self._in_flight

    def _look(self) -> None:
        """Do what it is time for."""
        self._reporter.tick()
        with self._guard:
            if self._time_to_kill() == 0:
                self._interrupt(None)
            elif not self._plan.done:
                for waker in self._wakers:
                    for event in waker.events():
                        self._carry_out(event)

    def _wind_down(self) -> None:
        """Get all threads to their end, after an error of our own."""
        with self._guard:
            self._is_ending = True
        self._runner.signal(signals.SIGKILL)
        if self._lock.is_locked:  # and jobs that have begun wait for it
            self._lock.unlock()
        while self._in_flight:
            message = self._inbox.get()
            if isinstance(message, Question):
                message.answered.set()

    def _put(self, question: Question) -> None:
        with self._reporter.hold():
            self._is_looping = False
            try:
                with signals.interruptible():
                    question.answer = question.ask()
            except KeyboardInterrupt:
                self._notify(signals.SIGINT)
            finally:
                self._is_looping = True
                question.answered.set()

    def _next_message(self) -> Union[Question, int, None]:
        """Wait for a message, or until there is something to do without one.

        Returns:
            a question, the number of a signal, or None to have a look.
        """
        with suppress(queue.Empty):
            return self._inbox.get_nowait()
        with self._guard:
            timeout = self._due()
            self._looks_at = None if timeout is None else self._clock() + timeout
        try:
            return self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None

    def _due(self) -> Optional[float]:
        """Seconds until the loop has something to do by itself, if ever."""
        times = [waker.due() for waker in self._wakers]
        times += self._time_to_kill(), self._reporter.due()
        return min((time for time in times if time is not None), default=None)

    def _is_due_earlier(self) -> bool:
        """Whether that is before the loop looks."""
        due = self._due()
        if due is None:
            return False
        return self._looks_at is None or self._clock() + due < self._looks_at

    def _time_to_kill(self) -> Optional[float]:
        if self._kill_at is None:
            return None
        return max(0.0, self._kill_at - self._clock())

    def _carry_out(self, event: plan.Event) -> None:
        """Have the plan handle an event, and do what is to be done now."""
        for instruction in self._plan.handle(event):
            rank = instruction.stage
            if isinstance(instruction, plan.Start):
                self._start(rank, instruction.force)
            elif isinstance(instruction, plan.Wait):
                obstacle = self._supplies.obstacle(rank)
                details = {"pool": obstacle} if obstacle else {}
                self._reporter.phase(rank, Phase.READY, **details)
            else:
                self._reporter.phase(rank, Phase.NOT_RUN, failed=instruction.failed)

    def _start(self, rank: int, force: bool) -> None:
        job = Job(
            rank,
            force,
            self._supplies.environment(rank),
            self._lock,
            self._reporter,
            on_command_end=partial(self._news, partial(plan.CommandEnded, rank)),
        )
        if before := self.jobs.get(rank):
            job.busy, job.owned = before.busy, before.owned
        job.tell(Phase.LOCK)
        self.jobs[rank] = job
        is_set_aside = self._workers.set_aside()
        # NOTE: where the system starts no more threads, a turn of a job that waits for
        # one would be the end: nobody comes after it
        if is_set_aside:
            job.queue(partial(self._workers.call, self._run_jobs, job))
        else:
            self._workers.call_later(self._run_jobs, job)
        # NOTE: its thread needs the guard to take it out again
        self._in_flight.add(job)

    def _run_jobs(self, job: Optional[Job]) -> None:
        """Run a job, and those whose turn is next in the same thread."""
        while job is not None:
            result, error = None, None
            try:
                with job.in_this_thread():
                    self._refuse_if_stopping()
                    result = self._work.reproduce(job)
            except BaseException as exc:  # noqa: BLE001
                error = exc
            self._news(partial(self._over, job, result, error))
            job = self._leave(job)

    def _leave(self, job: Job) -> Optional[Job]:
        """Pass on the repo of a job that is over.

        Returns:
            the job whose turn is next, if it has not begun.
        """
        following = None
        assert job.turn
        try:
            # NOTE: only now, so that what it has made ready comes next
            if turn := self._lock.exchange(job.turn):
                following = turn.job
                self._workers.let_go()
        except BaseException as exc:  # noqa: BLE001
            self._has_failed(exc)
        with self._guard:
            self._in_flight.remove(job)
            if self._is_ending or self._plan.done:
                self.wake()
        return following

    def _news(self, happened: Callable[[], plan.Event]) -> None:
        """Do what is to be done after something has happened; raises nothing."""
        try:
            with self._guard:
                if self._is_ending:
                    return
                self._carry_out(happened())
                if self._is_due_earlier():
                    self.wake()
        except BaseException as exc:  # noqa: BLE001
            self._has_failed(exc)

    def _has_failed(self, exc: BaseException) -> None:
        """Have the loop raise an error of our own."""
        with self._guard:
            self._error = self._error or exc
        self.wake()

    def _refuse_if_stopping(self) -> None:
        if self.outcome.signal is not None or self._is_ending:
            raise RunnerClosedError
        if self.outcome.failed and self._plan.on_error == "fail":
            raise WithdrawnError

    def ask(self, ask: Callable[[], Any]) -> Any:
        """Ask the user something; for the thread that owns the repo."""
        question = Question(ask)
        self._inbox.put(question)
        question.answered.wait()
        return question.answer

    def _over(
        self, job: Job, result: Any, error: Optional[BaseException]
    ) -> plan.Event:
        """Take note that a job is over; it still owns the repo."""
        rank = job.rank
        if error is None:
            self._again.pop(rank, None)
            changed = bool(result)
            if changed:
                self.outcome.results[rank] = result
                if not job.ran:
                    self.outcome.restored.add(rank)
            ended = Phase.RAN if job.ran else Phase.RESTORED
            job.tell_outcome(ended if changed else Phase.UNCHANGED)
            return plan.Finished(rank, changed)

        if isinstance(error, PathsBusyError) and self._postpone is not None:
            if not self.is_stopping:
                job.tell(Phase.LOCK)
                self._postpone(rank, error)
                return plan.Postponed(rank)
            error = WithdrawnError()
        failed_before = self._again.pop(rank, None)
        if isinstance(error, QueueAgainError):
            cause = error.__cause__
            assert cause
            if not self.is_stopping:
                self._again[rank] = cause
                self._supplies.change(rank, error.failed)
                return plan.QueuedAgain(rank)
            error = cause
        if isinstance(error, WithdrawnError):
            if failed_before is None:
                job.tell(Phase.NOT_RUN, failed=None)
                return plan.Withdrawn(rank)
            error = failed_before
        self._has_ended_badly(job, error)
        return plan.Failed(rank)

    def _has_ended_badly(self, job: Job, error: BaseException) -> None:
        rank = job.rank
        if self.outcome.signal is not None:
            self.outcome.interrupted[rank] = error
            job.tell_outcome(Phase.INTERRUPTED)
            return

        self.outcome.failed[rank] = error
        status = {} if job.status is None else {"exit": job.status}
        job.tell_outcome(Phase.FAILED, error=str(error), **status)
        if isinstance(error, Exception):
            if self._plan.on_error == "fail":
                self._reporter.failing(rank, error, self._running)
            else:
                self._work.failed(rank, error)

    @property
    def _running(self) -> int:
        # NOTE: others that have been started do nothing any more: they find out when
        # their turn of the repo comes
        return sum(job.is_at_work for job in self._in_flight)

    def _notify(self, signum: int) -> None:
        if signum not in signals.STOPS:
            self._inbox.put(signum)
        # NOTE: each attempt at the terminal from the background sends one
        elif not self._is_to_stop:
            self._is_to_stop = True
            if self._is_looping and signum == signals.SIGTSTP:
                self._inbox.put(signum)
            else:
                # NOTE: the loop may be what tries to use the terminal
                self._stop(signum)

    def _stop(self, signum: int) -> None:
        """Stop with all commands, and go on with them when the shell says so."""
        try:
            if signum == signals.SIGTSTP or not signals.is_in_foreground():
                with self._runner.stopped():
                    signals.stop(signum)
        finally:
            self._is_to_stop = False

    def _give_up(self) -> None:
        self._runner.signal(signals.SIGKILL)
        self._supplies.give_up()

    def _interrupt(self, signum: Optional[int]) -> None:
        """First, pass the signal on; the second time or after a while, kill."""
        if self.outcome.signal is None:
            assert signum
            self.outcome.signal = signum
            self._plan.handle(plan.Interrupted())
            self._runner.signal(signum)
            self._kill_at = self._clock() + GRACE
            self._reporter.interrupted(self._running)
        else:
            self._kill_at = None
            self._runner.signal(signals.SIGKILL)
            self._reporter.killing(self._running)
