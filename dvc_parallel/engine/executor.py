"""The loop of a parallel run.

    Plan      decides which stages start            (plan.py)
    Job       runs DVC's own code for one of them   (job.py)
    Runner    runs its commands                     (runner.py)
    Reporter  shows what goes on                    (reporter_events.py)

The plan, and what has become of the stages, is owned by whoever holds the guard: the
thread of a job that has news, which then goes on with the stage whose turn is next, or
the loop.  That waits for what has no such thread: a signal, a question, a time, the end
of the run.  Nothing polls.
"""

import queue
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.exceptions import DvcException
from dvc.repo import reproduce

from . import plan, signals
from .job import Job, Over, Question, Signal, WithdrawnError
from .local_runner import LocalRunner
from .lockfile import Lockfiles
from .ordered_writes import SerialOrder, names_of
from .outcome import Outcome
from .path_conflicts import PathOrder
from .plain_reporter import PlainReporter
from .repo_lock import SharedRepoLock
from .reporter_events import Phase, Reporter, Reporters, RunInfo, logger
from .run_info import describe, plan_of
from .runner import Runner, RunnerClosedError
from .thread_pool import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dvc.stage import Stage
    from networkx import DiGraph

# Seconds from the first Ctrl-C to killing what still runs.
GRACE = 10.0


class ParallelExecutor:
    """Reproduces stages in parallel, and leaves what serial DVC would.

    To be used once, by the thread that holds ``repo.lock``.

    Args:
        steps: stages to reproduce, in the order of serial DVC.
        graph: the graph whose edges run from stages to their upstreams.
        jobs: how many stages may run a command at a time.
        on_error, force, force_downstream: as for ``Repo.reproduce``.
        repro_fn: reproduces one stage; called in a thread that owns the repo.
        lockfiles: the dvc.lock files of the repo.
        runner: where commands run.
        reporters: show what goes on, instead of plain lines.
        kwargs: for ``repro_fn``.
    """

    def __init__(
        self,
        steps: Sequence["Stage"],
        graph: "DiGraph",
        jobs: int,
        *,
        on_error: str = "fail",
        force: bool = False,
        force_downstream: bool = False,
        repro_fn: Callable[..., Optional["Stage"]],
        lockfiles: Lockfiles,
        runner: Optional[Runner] = None,
        reporters: Sequence[Reporter] = (),
        **kwargs,
    ):
        self.repo = steps[0].repo
        self.steps = steps
        self.graph = graph
        self.on_error = on_error
        self.repro_fn = repro_fn
        self.kwargs = kwargs
        self.runner = runner or LocalRunner()
        self.reporter = Reporters(*(reporters or [PlainReporter()]))

        self.upstream = [list(graph.successors(stage)) for stage in steps]
        self.path_order = PathOrder(steps)
        self.info = RunInfo(
            describe(steps, graph, self.path_order, self._known_seconds()),
            jobs,
            on_error,
        )
        self.order = SerialOrder(self.repo.tmp_dir, names_of(steps), lockfiles)
        self.plan = self._make_plan(force=force, force_downstream=force_downstream)
        self.lock: SharedRepoLock

        self._inbox: queue.SimpleQueue = queue.SimpleQueue()
        self._in_flight: set[Job] = set()
        self._workers: Workers
        self._guard = Lock()  # of the plan, and of the fields below
        self._started: dict[int, Job] = {}
        self.outcome = Outcome()
        self._kill_at: Optional[float] = None
        self._looks_at: Optional[float] = None  # when the loop does so by itself
        self._error: Optional[BaseException] = None  # of our own, in a thread
        self._is_ending = False  # after such an error
        self._is_looping = False  # or else it does not get to messages
        self._is_to_stop = False  # by a signal

    def _known_seconds(self) -> Mapping[str, float]:
        """How long stages took in earlier runs, as far as it is known."""
        return {}

    def _make_plan(self, **kwargs) -> plan.Plan:
        return plan_of(self.info, found_late=self.path_order.found_late, **kwargs)

    def _make_lock(self) -> SharedRepoLock:
        return SharedRepoLock(self.repo)

    def _make_job(self, rank: int) -> Job:
        return Job(self, self.steps[rank], rank)

    def _end_thread(self) -> None:
        """Called in each of the threads before it ends."""
        self.repo.state.close()

    def run(self) -> list["Stage"]:
        """Reproduce the stages.

        Returns:
            list: those that have been reproduced, in the order of serial DVC.

        Raises:
            ReproductionError: as serial DVC, naming all stages that failed.
            KeyboardInterrupt: for Ctrl-C.
        """
        with closing(self.reporter):
            start = signals.clock()
            self.reporter.begun(self.info)
            with (
                signals.as_events(self._notify, self._give_up, self._wake),
                self._shared_repo(),
                Workers(2 * self.plan.jobs, at_end=self._end_thread) as self._workers,
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
                    self.runner.close()
                    self.reporter.stages_over()
                # NOTE: with another `on_error`, serial DVC, too, has come to the last
                has_failed = self.on_error == "fail" and self.outcome.failed
                if not has_failed and not self.outcome.is_cut_short(self.plan):
                    self.order.come_to_end()
            busy = (job.busy for job in self._started.values())
            self.reporter.ended(
                self.outcome.summary(self.plan, signals.clock() - start, busy)
            )
        return self._conclude()

    @contextmanager
    def _shared_repo(self) -> "Iterator[None]":
        self.repo.lock = self.lock = self._make_lock()
        try:
            yield
        finally:
            try:
                if not self.lock.is_locked:
                    self.lock.lock()
            finally:
                self.lock.give_back()

    def _loop(self) -> None:
        with self._guard:
            self._carry_out(self.plan.handle(plan.Begun()))
        self.lock.unlock()
        while not self._is_through():
            message = self._next_message()
            if isinstance(message, Question):
                self._put(message)
            elif not isinstance(message, Signal):
                self._look()
            elif message.signum in signals.STOPS:
                with self.reporter.hold():
                    self._stop(message.signum)
            else:
                with self._guard:
                    self._interrupt(message.signum)

    def _is_through(self) -> bool:
        """Whether nothing runs, and nothing will be started any more.

        Raises:
            BaseException: an error of our own has occurred in a thread.
        """
        with self._guard:
            if self._error is not None:
                raise self._error
            return self.plan.done and not self._in_flight

    def _look(self) -> None:
        """Do what it is time for."""
        self.reporter.tick()
        with self._guard:
            if self._time_to_kill() == 0:
                self._interrupt(None)
            elif not self.plan.done:
                self._carry_out(self._look_again())

    def _wind_down(self) -> None:
        """Get all threads to their end, after an error of our own."""
        with self._guard:
            self._is_ending = True
        self.runner.signal(signals.SIGKILL)
        while self._in_flight:
            message = self._inbox.get()
            if isinstance(message, Question):
                message.answered.set()

    def _put(self, question: Question) -> None:
        with self.reporter.hold():
            self._is_looping = False
            try:
                with signals.interruptible():
                    question.answer = question.ask()
            except KeyboardInterrupt:
                self._notify(signals.SIGINT)
            finally:
                self._is_looping = True
                question.answered.set()

    def _next_message(self):
        """Wait for a message, or until there is something to do without one."""
        with suppress(queue.Empty):
            return self._inbox.get_nowait()
        with self._guard:
            timeout = self._due()
            self._looks_at = None if timeout is None else time.monotonic() + timeout
        try:
            return self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None

    def _due(self) -> Optional[float]:
        """Seconds until the loop has something to do by itself, if ever."""
        times = (time for time in self._times() if time is not None)
        return min(times, default=None)

    def _is_due_earlier(self) -> bool:
        """Whether that is before the loop looks."""
        due = self._due()
        if due is None:
            return False
        return self._looks_at is None or time.monotonic() + due < self._looks_at

    def _times(self) -> Iterable[Optional[float]]:
        """Seconds until there is something to do without a message, if ever."""
        return self._time_to_kill(), self.reporter.due()

    def _time_to_kill(self) -> Optional[float]:
        if self._kill_at is None:
            return None
        return max(0.0, self._kill_at - signals.clock())

    def _look_again(self) -> Sequence[plan.Instruction]:
        """Called where no stage has news: may others start by now?"""
        return ()

    def _carry_out(self, instructions) -> None:
        for instruction in instructions:
            rank = instruction.stage
            if isinstance(instruction, plan.Start):
                self._start(self._make_job(rank), instruction.force)
            elif isinstance(instruction, plan.Wait):
                self.reporter.phase(rank, Phase.READY, **self._obstacle(rank))
            else:
                self.reporter.phase(rank, Phase.SKIPPED, failed=instruction.failed)

    def _start(self, job: Job, force: bool) -> None:
        job.tell(Phase.LOCK)
        job.force = force
        self._started[job.rank] = job
        is_set_aside = self._workers.set_aside()
        # NOTE: where the system starts no more threads, a turn of a job that waits for
        # one would be the end: nobody comes after it
        if is_set_aside:
            job.queue(partial(self._workers.call, self._run_jobs, job))
        else:
            self._workers.call_later(self._run_jobs, job)
        # NOTE: its thread needs the guard to take it out again
        self._in_flight.add(job)

    def _obstacle(self, rank: int) -> Mapping[str, Any]:  # noqa: ARG002
        """Details of what a stage that is ready waits for, besides a slot."""
        return {}

    def _run_jobs(self, job: Optional[Job]) -> None:
        """Run a job, and those whose turn is next in the same thread."""
        while job is not None:
            message = Over(job)
            try:
                with job.in_this_thread():
                    self._refuse_if_stopping()
                    message.result = self._reproduce(job, job.force)
            except BaseException as exc:  # noqa: BLE001
                message.exc = exc
            job = self._leave(message)

    def _leave(self, message: Over) -> Optional[Job]:
        """Take note that a job is over, and pass the repo on.

        Returns:
            the job whose turn is next, if it has not begun.
        """
        job, following = message.job, None
        assert job.turn
        self._news(lambda: self._over(message))
        try:
            # NOTE: only now, so that what it has made ready comes next
            if turn := self.lock.exchange(job.turn):
                following = turn.job
                self._workers.let_go()
        except BaseException as exc:  # noqa: BLE001
            self._has_failed(exc)
        with self._guard:
            self._in_flight.remove(job)
            if self._is_ending or self.plan.done:
                self._wake()
        return following

    def _news(self, handle: Callable[[], Iterable[plan.Instruction]]) -> None:
        """Handle an event, and carry out what is to be done now; raises nothing."""
        try:
            with self._guard:
                if self._is_ending:
                    return
                self._carry_out(handle())
                if self._is_due_earlier():
                    self._wake()
        except BaseException as exc:  # noqa: BLE001
            self._has_failed(exc)

    def _has_failed(self, exc: BaseException) -> None:
        """Have the loop raise an error of our own."""
        with self._guard:
            self._error = self._error or exc
        self._wake()

    def _refuse_if_stopping(self) -> None:
        if self.outcome.signal is not None:
            raise RunnerClosedError
        if self.outcome.failed and self.on_error == "fail":
            raise WithdrawnError

    def _reproduce(self, job: Job, force: bool) -> Optional["Stage"]:
        return self.repro_fn(
            job.stage, upstream=self.upstream[job.rank], force=force, **self.kwargs
        )

    def command_ended(self, job: Job) -> None:
        """Take note that a job needs its slot no longer."""
        self._news(lambda: self.plan.handle(plan.CommandEnded(job.rank)))

    def ask(self, ask: Callable[[], Any]) -> Any:
        """Ask the user something, while the repo is owned."""
        question = Question(ask, Event())
        self._inbox.put(question)
        question.answered.wait()
        return question.answer

    def _over(self, message: Over):
        job, exc = message.job, message.exc
        if exc is None:
            changed = bool(message.result)
            if message.result:
                self.outcome.results[job.rank] = message.result
            job.tell(Phase.DONE, changed=changed)
            return self.plan.handle(plan.Finished(job.rank, changed))

        if isinstance(exc, WithdrawnError):
            job.tell(Phase.SKIPPED, failed=None)
            return self.plan.handle(plan.Withdrawn(job.rank))

        instructions = self.plan.handle(plan.Failed(job.rank))
        if self.outcome.signal is not None:
            self.outcome.stopped[job.rank] = exc
            job.tell(Phase.STOPPED)
            return instructions

        self.outcome.failed[job.rank] = exc
        job.tell(Phase.FAILED, error=str(exc))
        if isinstance(exc, Exception):
            if self.on_error == "fail":
                self.reporter.failing(exc, self._running)
            else:
                reproduce.handle_error(self.graph, self.on_error, exc, job.stage)
        return instructions

    @property
    def _running(self) -> int:
        return self.plan.count(plan.State.RUNNING) + self.plan.count(plan.State.SAVING)

    def _notify(self, signum: int) -> None:
        if signum not in signals.STOPS:
            self._inbox.put(Signal(signum))
        # NOTE: each attempt at the terminal from the background sends one
        elif not self._is_to_stop:
            self._is_to_stop = True
            if self._is_looping and signum == signal.SIGTSTP:
                self._inbox.put(Signal(signum))
            else:
                # NOTE: the loop may be what tries to use the terminal
                self._stop(signum)

    def _stop(self, signum: int) -> None:
        """Stop with all commands, and go on with them when the shell says so."""
        try:
            if signum == signal.SIGTSTP or not signals.is_in_foreground():
                with self.runner.stopped():
                    signals.stop(signum)
        finally:
            self._is_to_stop = False

    def _wake(self) -> None:
        self._inbox.put(None)

    def _give_up(self) -> None:
        self.runner.signal(signals.SIGKILL)

    def _interrupt(self, signum: Optional[int]) -> None:
        """First, pass the signal on; the second time or after a while, kill."""
        if self.outcome.signal is None:
            assert signum
            self.outcome.signal = signum
            self.plan.handle(plan.Interrupted())
            self.runner.signal(signum)
            self._kill_at = signals.clock() + GRACE
            self.reporter.interrupted(self._running)
        else:
            self._kill_at = None
            self.runner.signal(signals.SIGKILL)
            self.reporter.killing(self._running)

    def _conclude(self) -> list["Stage"]:
        outcome = self.outcome
        if outcome.is_cut_short(self.plan):
            assert outcome.signal
            signals.die_of(outcome.signal)
        for exc in outcome.failed.values():
            if not isinstance(exc, Exception):
                raise exc
        if outcome.failed and self.on_error != "ignore":
            causes = [outcome.failed[rank] for rank in sorted(outcome.failed)]
            failed = [self.steps[rank] for rank in sorted(outcome.failed)]
            if self.on_error == "fail" and len(failed) > 1:
                for stage, exc in zip(failed, causes):
                    self._tell_error(exc, stage)
            self._raise_error(causes[0] if self.on_error == "fail" else None, *failed)
        return [outcome.results[rank] for rank in sorted(outcome.results)]

    def _tell_error(self, cause: BaseException, stage: "Stage") -> None:
        """Show an error as DVC does where it is the only one."""
        try:
            self._raise_error(cause, stage)
        except DvcException as exc:
            with suppress(Exception):
                logger.error("", exc_info=exc)

    def _raise_error(self, cause: Optional[BaseException], *failed: "Stage") -> None:
        reproduce._raise_error(cause, *failed)  # type: ignore[arg-type]
