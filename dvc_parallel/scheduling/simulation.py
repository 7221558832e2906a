"""How a run would go: its plan, carried out on a virtual clock.

Pure, as the plan is.  Where it is known how long stages keep the repo from each other,
before their commands and after them, one at a time has it, first come first served.
Stages that are up to date take no other time.
"""

import heapq
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable

from dvc_parallel.engine.plan import (
    Begun,
    CommandEnded,
    Finished,
    Instruction,
    Plan,
    Start,
    longest_paths,
)


@dataclass(frozen=True)
class RepoTimes:
    """How long stages have the repo for themselves.

    Attributes:
        running: seconds before and after the command, of stages that run.
        unchanged: seconds of each of the others.
    """

    running: Mapping[Any, tuple[float, float]]
    unchanged: float


NO_TIMES = RepoTimes({}, 0.0)


@dataclass(frozen=True)
class Course:
    """How a run goes.

    Attributes:
        seconds: how long it takes.
        starts: seconds from its begin to that of each stage, as they begin.
        width: how many stages run at a time where most do.
    """

    seconds: float
    starts: Mapping[Any, float]
    width: int


@dataclass(frozen=True)
class Speed:
    """The effect of a number of jobs.

    Attributes:
        speedup: how many times as fast that is as with one job.
        bound: the speed-up that no order of stages can exceed.
    """

    jobs: int
    seconds: float
    speedup: float
    bound: float


class Forecast:
    """The times of a run.

    Args:
        steps: all stages, in the order of serial DVC.
        upstream, after, known: as ``upstream``, ``after`` and ``seconds`` of the plan.
        running: those of the stages that are not up to date.
        make_plan: makes the plan, as :class:`Plan` does.
        repo: how long stages have the repo for themselves.

    Attributes:
        known: as it was given.
        seconds: what each running stage takes; the median of the known times, or
            one second, where it is not known.
        guesses: how many of them are not known.
        critical_path: the longest path through running stages, from its first one.
        total, critical: the seconds of all running stages, and of those on it.
        owned: the seconds of all stages in which they have the repo for themselves: no
            number of jobs takes less.
    """

    def __init__(
        self,
        steps: Sequence[Any],
        upstream: Mapping[Any, set],
        after: Mapping[Any, set],
        known: Mapping[Any, float],
        running: set,
        make_plan: Callable[..., Plan] = Plan,
        repo: RepoTimes = NO_TIMES,
    ):
        self._steps, self._upstream, self._after = steps, upstream, after
        self._make_plan = make_plan
        self.known = known
        usual = statistics.median(known.values()) if known else 1.0
        self.seconds = {s: known.get(s, usual) for s in steps if s in running}
        self.guesses = sum(stage not in known for stage in self.seconds)
        self.critical_path = self._critical_path()
        self.total = sum(self.seconds.values())
        self.critical = sum(self.seconds[stage] for stage in self.critical_path)
        self._repo = repo
        self.owned = sum(sum(repo.running.get(stage, ())) for stage in self.seconds)
        self.owned += repo.unchanged * (len(steps) - len(self.seconds))

    def course(self, jobs: int) -> Course:
        """How the run goes with a number of jobs."""
        return self._course(jobs, self._repo)

    def _course(self, jobs: int, repo: RepoTimes) -> Course:
        after = self._after
        if jobs == 1:  # as DVC goes through them by itself
            after = {stage: {last} for last, stage in zip(self._steps, self._steps[1:])}
        plan = self._make_plan(
            steps=self._steps,
            upstream=self._upstream,
            after=after,
            seconds=self.known,
            jobs=jobs,
        )
        return _Run(plan, self.seconds, repo).course()

    def speeds(self, jobs: int) -> list[Speed]:
        """The speeds with these, and 1, 2, 4 ... jobs, up to all that run at a time."""
        width = self.width
        powers = [2**n for n in range(width.bit_length()) if 2**n < width]
        serial = self.course(1).seconds
        counts = sorted({1, *powers, max(1, width), jobs})
        return [self._speed(count, serial) for count in counts]

    @cached_property
    def width(self) -> int:
        """How many stages run at a time where most do, with jobs for all of them."""
        return self._course(max(1, len(self._steps)), NO_TIMES).width

    def _speed(self, jobs: int, serial: float) -> Speed:
        seconds = self.course(jobs).seconds
        bound = min(jobs, _ratio(serial, max(self.critical, self.owned)))
        return Speed(jobs, seconds, _ratio(serial, seconds), bound)

    def _critical_path(self) -> list:
        def before(stage: Any) -> set:
            return {*self._upstream.get(stage, ()), *self._after.get(stage, ())}

        seconds = {**dict.fromkeys(self._steps, 0.0), **self.seconds}
        ends = longest_paths(self._steps, before, seconds)
        path = []
        at = max(ends, key=ends.__getitem__, default=None)
        while at is not None:
            path.append(at)
            at = max(before(at), key=lambda other: (ends[other], other), default=None)
        return [stage for stage in reversed(path) if stage in self.seconds]


class _Run:
    """A run on a virtual clock.  Single use."""

    def __init__(self, plan: Plan, seconds: Mapping[Any, float], repo: RepoTimes):
        self._plan, self._seconds, self._repo = plan, seconds, repo
        self._now = 0.0
        self._free_at = 0.0  # the repo
        self._starts: dict[Any, float] = {}
        self._running = self._width = 0
        self._count = 0
        self._to_come: list[tuple[float, int, Callable[[Any], None], Any]] = []

    def course(self) -> Course:
        self._start(self._plan.handle(Begun()))
        while self._to_come:
            if self._to_come[0][0] > self._now:
                self._width = max(self._width, self._running)
            self._now, _, happens, stage = heapq.heappop(self._to_come)
            happens(stage)
        assert self._plan.done
        # NOTE: stages that take no time at all never run at the same time
        width = max(self._width, min(1, len(self._seconds)))
        return Course(self._now, self._starts, width)

    def _at(self, when: float, happens: Callable[[Any], None], stage: Any) -> None:
        self._count += 1
        heapq.heappush(self._to_come, (when, self._count, happens, stage))

    def _own(self, seconds: float) -> float:
        """Queue for the repo; return when the work in it is done."""
        if not seconds:
            return self._now
        self._free_at = max(self._now, self._free_at) + seconds
        return self._free_at

    def _start(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if not isinstance(instruction, Start):
                continue  # it waits for a slot
            stage = instruction.stage
            if stage not in self._seconds:
                self._at(self._own(self._repo.unchanged), self._over, stage)
                continue
            self._starts[stage] = self._now
            self._running += 1
            owned = before, after = self._repo.running.get(stage, (0.0, 0.0))
            command = max(0.0, self._seconds[stage] - sum(owned))
            # NOTE: with nothing to save, a stage ends with its command
            ends = self._command_ended if after else self._over
            self._at(self._own(before) + command, ends, stage)

    def _command_ended(self, stage: Any) -> None:
        _, after = self._repo.running[stage]
        # NOTE: it queues before what starts in its place
        self._at(self._own(after), self._over, stage)
        self._start(self._plan.handle(CommandEnded(stage)))

    def _over(self, stage: Any) -> None:
        runs = stage in self._seconds
        self._running -= runs
        self._start(self._plan.handle(Finished(stage, runs)))


def _ratio(one: float, other: float) -> float:
    return one / other if other else 1.0
