"""How a run would go: its plan, carried out on a virtual clock.

Pure, as the plan is.  Stages that are up to date take no time.
"""

import heapq
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable

from dvc_parallel.engine.plan import (
    Begun,
    Finished,
    Instruction,
    Plan,
    Start,
    longest_paths,
)


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
        jobs: how many stages run at a time.
        seconds: how long the run takes.
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

    Attributes:
        known: as it was given.
        seconds: what each running stage takes; the median of the known times, or
            one second, where it is not known.
        guesses: how many of them are not known.
        critical_path: the longest path through running stages, from its first one.
        total, critical: the seconds of all running stages, and of those on it.
    """

    def __init__(
        self,
        steps: Sequence[Any],
        upstream: Mapping[Any, set],
        after: Mapping[Any, set],
        known: Mapping[Any, float],
        running: set,
        make_plan: Callable[..., Plan] = Plan,
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

    def course(self, jobs: int) -> Course:
        """How the run goes with a number of jobs."""
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
        return _carry_out(plan, self.seconds)

    def speeds(self, jobs: int) -> list[Speed]:
        """The speeds with 1, 2, 4 ... jobs, up to all that could run at a time.

        Args:
            jobs: a number to be among them.
        """
        width = self.width
        powers = [2**n for n in range(width.bit_length()) if 2**n < width]
        serial = self.course(1).seconds
        counts = sorted({1, *powers, max(1, width), jobs})
        return [self._speed(count, serial) for count in counts]

    @cached_property
    def width(self) -> int:
        """How many stages run at a time where most do, with jobs for all of them."""
        return self.course(max(1, len(self._steps))).width

    def _speed(self, jobs: int, serial: float) -> Speed:
        seconds = self.course(jobs).seconds
        bound = min(jobs, _ratio(self.total, self.critical))
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


def _carry_out(plan: Plan, seconds: Mapping[Any, float]) -> Course:
    now = 0.0
    starts: dict[Any, float] = {}
    ends: list[tuple[float, int, Any]] = []
    running = width = count = 0

    def start(instructions: Sequence[Instruction]) -> None:
        nonlocal count, running
        for instruction in instructions:
            if not isinstance(instruction, Start):
                continue  # it waits for a slot
            stage = instruction.stage
            if stage in seconds:
                starts[stage] = now
                running += 1
            count += 1
            heapq.heappush(ends, (now + seconds.get(stage, 0.0), count, stage))

    start(plan.handle(Begun()))
    while ends:
        if ends[0][0] > now:
            width = max(width, running)
        now, _, stage = heapq.heappop(ends)
        running -= stage in seconds
        start(plan.handle(Finished(stage, stage in seconds)))
    assert plan.done
    # NOTE: stages that take no time at all never run at the same time
    return Course(now, starts, max(width, min(1, len(seconds))))


def _ratio(one: float, other: float) -> float:
    return one / other if other else 1.0
