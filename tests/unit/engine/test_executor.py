"""The loop of a run: a fake runner, a repo lock without a file, a virtual clock."""

import queue
import signal
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Callable

import pytest

from dvc_parallel.engine import plan as planning
from dvc_parallel.engine.executor import GRACE, Executor
from dvc_parallel.engine.plan import LookAgain, Plan, Resumed
from dvc_parallel.engine.repo_lock import SharedRepoLock
from dvc_parallel.engine.reporter_events import (
    Phase,
    Reporter,
    Reporters,
    RunInfo,
    outcomes_in_words,
)
from dvc_parallel.engine.runner import RunnerClosedError
from dvc_parallel.engine.signals import SIGKILL
from dvc_parallel.engine.stage_paths import PathsBusyError
from tests import HANGS

SIGINT = signal.SIGINT


class RepoLock(SharedRepoLock):
    """Passes the repo on; there is no file for other processes."""

    def __init__(self):
        super().__init__(SimpleNamespace(lock=SimpleNamespace(lockfile="none")))

    def _lock_file(self):
        self._file_locked = True

    def _unlock_file(self):
        self._file_locked = False


class Clock(queue.SimpleQueue):
    """A clock, and an inbox in which time passes at once, if it does at all."""

    now = 0.0
    passes = False

    def __call__(self):
        return self.now

    def get(self, block=True, timeout=None):
        if timeout is None or not self.passes:
            return super().get(block, HANGS)
        try:
            return self.get_nowait()
        except queue.Empty:
            self.now += timeout
            raise


class CommandError(Exception):
    pass


@dataclass
class FakeRunner:
    """Runs functions as commands; one that waits ends with a signal that it heeds."""

    sent: list[int] = field(default_factory=list)
    closed: int = 0
    _signalled: threading.Condition = field(default_factory=threading.Condition)

    def run(self, command: Callable[[], Any]) -> None:
        if self.sent:
            raise RunnerClosedError
        command()

    def wait_for(self, *signums):
        with self._signalled:
            assert self._signalled.wait_for(lambda: {*signums} & {*self.sent}, HANGS)
        raise CommandError("stopped")

    def signal(self, signum):
        with self._signalled:
            self.sent.append(signum)
            self._signalled.notify_all()

    def stopped(self):
        return nullcontext()

    def close(self):
        self.closed += 1


class Story(Reporter):
    """A reporter that keeps what it is told, by stage."""

    def __init__(self):
        self.told = []
        self.summary = None

    def phase(self, stage, phase, **details):
        self.told.append((stage, phase, details))

    def interrupted(self, running):
        self.told.append(("interrupted", running))

    def killing(self, running):
        self.told.append(("killing", running))

    def failing(self, stage, exc, running):
        self.told.append(("failing", stage, running))

    def ended(self, summary):
        self.summary = summary

    def of(self, stage):
        return [phase for rank, phase, *_ in self.told if rank == stage]


class Supplies:
    """Gives each stage its rank; tells what those lack that have to wait."""

    def __init__(self):
        self.lacks = {}

    def environment(self, rank):
        return {"RANK": str(rank)}

    def obstacle(self, rank):
        return self.lacks.get(rank)

    def give_up(self):
        pytest.fail("the process is not about to end")


class Run:
    """A run of fake commands, which are functions, and what has become of it.

    A stage that has none does nothing.
    """

    def __init__(self, upstream, commands=None, jobs=2, on_error="fail", **kwargs):
        self.ranks = range(len(upstream))
        self.commands = commands or {}
        self.clock = Clock()
        self.runner = FakeRunner()
        self.story = Story()
        self.supplies = Supplies()
        self.order = []
        self.unchanged = set()
        self.in_cache = set()
        self.errors = {}
        self.came_to_end = 0
        self.saves_now = kwargs.pop("saves_now", False)
        self.threads = 0
        ready = kwargs.pop("ready", None)
        self.plan = Plan(
            self.ranks, dict(upstream), jobs=jobs, on_error=on_error, ready=ready
        )
        self.lock = RepoLock()
        self.executor = Executor(
            self.plan,
            lock=self.lock,
            runner=self.runner,
            reporter=Reporters(*kwargs.pop("reporters", ()), self.story),
            work=self,
            supplies=self.supplies,
            clock=self.clock,
            inbox=self.clock,
            **kwargs,
        )

    def perform(self):
        return self.executor.run(RunInfo([], self.plan.jobs, self.plan.on_error))

    def in_thread(self):
        self.threads += 1
        return nullcontext()

    def reproduce(self, job):
        assert self.lock.is_locked
        self.order.append(job.rank)
        if job.rank in self.unchanged and not job.force:
            return None
        if job.rank in self.in_cache:
            return f"stage {job.rank}"
        with job.away():
            assert not self.lock.is_locked
            try:
                self.runner.run(partial_of(self.commands.get(job.rank), job))
            finally:
                job.command_ended(failed=False, saves_now=self.saves_now)
        assert self.lock.is_locked
        return f"stage {job.rank}"

    def failed(self, rank, error):
        self.errors[rank] = error

    def come_to_end(self):
        assert self.lock.is_locked  # again by the thread that has begun the run
        self.came_to_end += 1


def partial_of(command, job):
    def run():
        job.tell(Phase.COMMAND)
        return command and command(job)

    return run


def chain(count):
    return {rank: [rank - 1] if rank else [] for rank in range(count)}


def apart(count):
    return {rank: [] for rank in range(count)}


def fail(_job):
    raise CommandError("exit 1")


def test_stages_run_after_their_upstreams():
    run = Run({0: [], 1: [0], 2: [1], 3: [0]}, jobs=1)
    outcome = run.perform()
    # NOTE: 3 does not wait until 1 is saved, as 2 does
    assert run.order == [0, 1, 3, 2]
    assert outcome.results == {rank: f"stage {rank}" for rank in range(4)}
    waits, ends = [Phase.LOCK, Phase.CHECK], [Phase.LOCK, Phase.SAVE, Phase.RAN]
    assert run.story.of(0) == [*waits, Phase.COMMAND, *ends]
    assert run.story.summary.end == "ok"
    assert run.runner.closed == run.came_to_end == 1
    assert run.lock.is_locked


def test_as_many_at_a_time_as_there_are_jobs():
    together = threading.Barrier(3)
    running, most = [], []

    def command(job):
        running.append(job.rank)
        most.append(len(running))
        together.wait(HANGS)
        running.remove(job.rank)

    run = Run(apart(9), dict.fromkeys(range(9), command), jobs=3)
    run.perform()
    assert max(most) == 3
    assert sorted(run.order) == list(range(9))


def test_a_stage_starts_as_soon_as_its_own_upstreams_are_done():
    late_has_begun = threading.Event()
    run = Run(
        {0: [], 1: [], 2: [1]},
        {
            0: lambda _: late_has_begun.wait(HANGS) or pytest.fail("levels"),
            2: lambda _: late_has_begun.set(),
        },
    )
    assert len(run.perform().results) == 3


def test_a_stage_that_saves_needs_no_slot():
    second_runs = threading.Event()
    run = Run(apart(2), {1: lambda _: second_runs.set()}, jobs=1)
    reproduce = run.reproduce

    def slow_to_save(job):
        result = reproduce(job)
        if job.rank == 0:
            with job.away():
                assert second_runs.wait(HANGS)
        return result

    run.reproduce = slow_to_save
    assert len(run.perform().results) == 2


def test_what_has_not_changed_is_no_result():
    run = Run(chain(3))
    run.unchanged, run.in_cache = {0}, {1}
    outcome = run.perform()
    assert outcome.results == {1: "stage 1", 2: "stage 2"}
    assert outcome.restored == {1}
    ends = [Phase.UNCHANGED, Phase.RESTORED, Phase.RAN]
    assert [run.story.of(stage)[-1] for stage in range(3)] == ends
    outcomes = run.story.summary.outcomes
    assert outcomes_in_words(outcomes) == "1 ran, 1 restored, 1 unchanged"


def test_how_long_a_stage_took_is_told_once_and_adds_up():
    run = Run(chain(2), jobs=1)
    run.perform()
    ends = [details for _, phase, details in run.story.told if phase is Phase.RAN]
    jobs = run.executor.jobs.values()
    assert [end["seconds"] for end in ends] == [round(job.busy, 4) for job in jobs]
    assert run.story.summary.busy == sum(job.busy for job in jobs)
    # NOTE: with what it took to hand the repo over
    assert all(job.owned > 0 for job in jobs)
    assert [end["owned"] for end in ends] == [round(job.owned, 4) for job in jobs]


def test_commands_get_what_the_stage_was_given_as_it_started():
    seen = {}
    run = Run(apart(3), {2: lambda job: seen.update(job.env)})
    run.perform()
    assert seen == {"RANK": "2"}


def test_who_waits_for_a_slot_says_what_it_lacks_besides():
    run = Run(apart(2), jobs=1)
    run.supplies.lacks = {1: "gpu"}
    run.perform()
    assert (1, Phase.READY, {"pool": "gpu"}) in run.story.told


def test_after_a_failure_those_that_run_end_and_no_other_starts():
    failed = threading.Event()

    def first(job):
        # NOTE: it is still running when the other one has failed
        assert failed.wait(HANGS)

    # NOTE: 3 gets the slot of 1, but not the repo before 1 is found to have failed
    run = Run({0: [], 1: [], 2: [0], 3: []}, {0: first, 1: fail}, saves_now=True)
    tell = run.story.failing

    def failing(stage, exc, running):
        tell(stage, exc, running)
        failed.set()

    run.story.failing = failing
    outcome = run.perform()
    assert outcome.results == {0: "stage 0"}
    assert [*outcome.failed] == [1]
    assert ("failing", 1, 1) in run.story.told
    assert not {2, 3} & {*run.order}
    assert run.story.of(3)[-1] == Phase.NOT_RUN
    assert not run.came_to_end
    assert run.story.summary.end == "failed"
    assert run.story.summary.outcomes[Phase.NOT_RUN] == 2


def test_keep_going_skips_what_depends_on_the_failed():
    run = Run({0: [], 1: [0], 2: [1], 3: []}, {0: fail}, on_error="keep-going")
    outcome = run.perform()
    assert [*outcome.results] == [3]
    assert [*run.errors] == [0]
    assert (1, Phase.NOT_RUN, {"failed": 0}) in run.story.told
    assert (2, Phase.NOT_RUN, {"failed": 0}) in run.story.told
    assert run.came_to_end == 1


def test_ignore_runs_what_depends_on_the_failed():
    run = Run(chain(2), {0: fail}, on_error="ignore")
    assert [*run.perform().results] == [1]
    assert [*run.errors] == [0]


def interrupt(run, *signums):
    """A command that gets the process a signal, and ends with one of its own."""

    def command(_job):
        signal.raise_signal(SIGINT)
        run.runner.wait_for(*signums)

    return command


def test_a_signal_ends_what_runs_and_nothing_else_starts():
    run = Run(chain(2))
    run.commands = {0: interrupt(run, SIGINT)}
    outcome = run.perform()
    assert run.runner.sent == [SIGINT]
    assert outcome.signal == SIGINT
    assert outcome.is_cut_short
    assert [*outcome.interrupted] == [0]
    assert run.story.of(0)[-1] is Phase.INTERRUPTED
    assert run.story.summary.end == "interrupted"
    assert run.order == [0]
    assert not run.came_to_end


def test_what_ends_well_after_a_signal_counts():
    run = Run(apart(1))

    def command(_job):
        signal.raise_signal(SIGINT)
        with pytest.raises(CommandError):
            run.runner.wait_for(SIGINT)

    run.commands = {0: command}
    outcome = run.perform()
    assert outcome.results == {0: "stage 0"}
    assert not outcome.is_cut_short


def test_a_second_signal_kills():
    run = Run(apart(1))
    tell = run.story.interrupted

    def interrupted(running):
        tell(running)
        signal.raise_signal(SIGINT)

    run.story.interrupted = interrupted
    run.commands = {0: interrupt(run, SIGKILL)}
    run.perform()
    assert run.runner.sent == [SIGINT, SIGKILL]
    told = [text for text in run.story.told if text[1] == 1]
    assert told == [("interrupted", 1), ("killing", 1)]


def test_what_does_not_heed_a_signal_is_killed_after_a_while():
    run = Run(apart(1))
    run.commands = {0: interrupt(run, SIGKILL)}
    run.clock.passes = True
    run.perform()
    assert run.runner.sent == [SIGINT, SIGKILL]
    assert run.clock.now == pytest.approx(GRACE)


def test_a_question_is_asked_by_the_main_thread():
    asked = []

    def ask():
        asked.append(threading.current_thread())
        return "yes"

    run = Run(apart(1))
    reproduce = run.reproduce
    run.reproduce = lambda job: reproduce(job) and run.executor.ask(ask)
    assert run.perform().results == {0: "yes"}
    assert asked == [threading.main_thread()]


def test_ctrl_c_at_a_question_is_a_signal():
    def ask():
        raise KeyboardInterrupt

    run = Run(chain(2))
    reproduce = run.reproduce
    run.reproduce = lambda job: (run.executor.ask(ask), reproduce(job))[1]
    outcome = run.perform()
    assert outcome.signal == SIGINT
    assert run.order == [0]


def test_a_reporter_that_raises_changes_nothing():
    class Bad(Reporter):
        def phase(self, stage, phase, **details):
            raise OSError("nobody reads it")

        due = tick = ended = close = phase

    run = Run(chain(3), reporters=[Bad()])
    assert len(run.perform().results) == 3


@pytest.mark.parametrize("name", ["signal", "close"])
def test_a_runner_that_raises_ends_the_run(name):
    def bad(*_args):
        raise OSError(f"no {name}")

    run = Run(apart(1))
    if name == "signal":
        run.commands = {0: interrupt(run, SIGINT)}
        send = run.runner.signal

        def bad(signum):
            send(signum)
            raise OSError("no signal")

    setattr(run.runner, name, bad)
    with pytest.raises(OSError, match=f"no {name}"):
        run.perform()
    assert run.lock.is_locked


def test_an_error_of_our_own_waits_for_what_runs():
    killed = []

    def stubborn(_job):
        try:
            run.runner.wait_for(SIGKILL)
        finally:
            killed.append(1)

    run = Run(apart(2), {0: stubborn})
    run.supplies.environment = lambda rank: {} if rank == 0 else 1 / 0
    with pytest.raises(ZeroDivisionError):
        run.perform()
    assert run.runner.sent == [SIGKILL]
    assert killed == ([1] if 0 in run.order else [])
    assert run.runner.closed == 1


class Neighbour:
    """A waker: another process has the paths of a stage until some time."""

    def __init__(self, clock, until):
        self._clock, self._until = clock, until
        self.waiting = []
        self.looked = []

    def add(self, rank, busy):
        assert isinstance(busy, PathsBusyError)
        self.waiting.append(rank)

    def due(self):
        return 1.0 if self.waiting else None

    def events(self):
        self.looked.append(self._clock())
        if self._clock() < self._until:
            return []
        free, self.waiting = self.waiting, []
        return [Resumed(rank) for rank in free]


def busy_until(until, upstream, **kwargs):
    """A run whose stage 0 finds its paths in use until some time."""
    run = Run(upstream, **kwargs)
    run.clock.passes = True
    neighbour = Neighbour(run.clock, until)
    run.executor._wakers, run.executor._postpone = [neighbour], neighbour.add
    reproduce = run.reproduce

    def try_to(job):
        if job.rank == 0 and run.clock() < until:
            raise PathsBusyError("busy", [], ["/out"])
        return reproduce(job)

    run.reproduce = try_to
    return run, neighbour


def test_a_stage_whose_paths_others_use_waits_and_holds_no_slot():
    run, neighbour = busy_until(2.5, apart(2), jobs=1)
    outcome = run.perform()
    assert [*outcome.results] == [1, 0]
    assert run.order == [1, 0]
    assert neighbour.looked[-1] == 3.0  # looked each second, as it says


def test_a_stage_that_waits_for_paths_is_not_started_after_a_failure():
    run, _ = busy_until(99.0, apart(2), jobs=1)
    run.commands = {1: fail}
    outcome = run.perform()
    assert [*outcome.failed] == [1]
    assert run.story.summary.outcomes[Phase.NOT_RUN] == 1


def test_without_anybody_to_wait_for_paths_the_stage_fails():
    run, _ = busy_until(9.0, apart(1))
    run.executor._postpone = None
    assert isinstance(run.perform().failed[0], PathsBusyError)


def test_what_may_be_admitted_later_is_looked_at_again():
    class Later(planning.InOrder):
        """A ready queue that lets nothing start before some time."""

        def starting(self):
            return super().starting() if run.clock() >= 5 else iter(())

        def due(self):
            return 1.0 if [*self] else None

        def events(self):
            return [LookAgain()]

    later = Later()
    run = Run(apart(2), ready=later, wakers=[later])
    run.clock.passes = True
    assert len(run.perform().results) == 2
    assert run.clock.now == 5.0


def test_a_thread_goes_on_with_the_stage_whose_turn_is_next():
    run = Run(chain(50), jobs=8)
    run.unchanged = set(range(50))
    run.perform()
    assert run.threads <= 2
