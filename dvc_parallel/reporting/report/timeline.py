"""When each stage of a run did what, and in which slot."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_parallel.engine.reporter_events import FINAL, Phase
from dvc_parallel.engine.usage import Usage

if TYPE_CHECKING:
    from dvc_parallel.reporting.records import Stage

# What a stage of a run that goes on has instead of an outcome.
WAITING = "waiting"
RUNNING = "running"
# The outcomes of stages that have not come to a good end by themselves.
FAILED, INTERRUPTED = Phase.FAILED.value, Phase.INTERRUPTED.value

# What spans call the phases.
_PHASES = {
    **{phase: phase for phase in ("ready", "lock", "check", "command", "save")},
    "retry": "check",
    "queued": "ready",
}


@dataclass(frozen=True)
class Span:
    """A phase of a stage, in seconds since the start of the run.

    Attributes:
        phase: "ready" (waits for a slot or a worker), "lock" (for the repo), "check",
            "command" or "save".
        start, end: when.
        detail: the command that ran, or the pool that was waited for.
    """

    phase: str
    start: float
    end: float
    detail: str = ""

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass
class StageTimes:
    """The times of one stage of a run.

    Attributes:
        index: its place in the order of serial DVC.
        waits_for: indexes of the stages that it had to wait for.
        spans: its phases, without a gap; empty if it always waited for upstreams.
        outcome: one of :data:`OUTCOMES`, or "waiting" or "running".
        end: when it ended; where it has not, the end of the records.
        error: why it failed.
        slot: the slot that it held, from 0; None if it never had one.
        saving_lane: as ``slot``, for the time after its last command.
        worker: where its last command ran, if not on this machine.
        took: seconds that it took by the clock of the run; None if not known.
        owned: seconds of these in which it kept others from the repo.
        used: by its commands; None where that is not known.
        memory: bytes that they used, as far as known, with start and end.
    """

    index: int
    name: str
    waits_for: tuple[int, ...] = ()
    spans: list[Span] = field(default_factory=list)
    outcome: str = WAITING
    end: float = 0.0
    error: str = ""
    exit: Optional[int] = None
    slot: Optional[int] = None
    saving_lane: Optional[int] = None
    worker: str = ""
    took: Optional[float] = None
    owned: float = 0.0
    used: Optional[Usage] = None
    memory: list[tuple[float, float, int]] = field(default_factory=list)

    @property
    def ready(self) -> float:
        """When it had nothing to wait for any more but a slot."""
        return self.spans[0].start if self.spans else self.end

    @property
    def held(self) -> Optional[tuple[float, float]]:
        """From when to when it held a slot: to the end of its last command."""
        work = [span for span in self.spans if span.phase != "ready"]
        if not work:
            return None
        ends = [span.end for span in work if span.phase == "command"]
        return work[0].start, (ends[-1] if ends else self.end)

    @property
    def saved(self) -> Optional[tuple[float, float]]:
        """From when to when it went on after it had given up its slot."""
        if self.held is None or self.held[1] >= self.end:
            return None
        return self.held[1], self.end

    def seconds(self, *phases: str) -> float:
        """How long it was in any of the phases."""
        return sum(span.seconds for span in self.spans if span.phase in phases)

    @property
    def busy(self) -> float:
        """Seconds in which it did something itself."""
        if self.took is not None:
            return self.took
        return self.seconds("check", "command", "save")


@dataclass(frozen=True)
class Timeline:
    """A run.

    Attributes:
        stages: all stages, in the order of serial DVC.
        seconds: how long the run took, or has been recorded so far.
        jobs: how many stages could run a command at a time.
        slots: how many slots there are to show; as many as jobs.
        lanes: how many stages were being saved at a time at most.
    """

    stages: list[StageTimes]
    seconds: float
    jobs: int
    slots: int
    lanes: int

    def memory(self, most: Optional[int] = None) -> list[tuple[float, int]]:
        """Bytes that all stages together used, from each of some times on.

        Args:
            most: how many times there may be. Of more, each stands for some time, and
                has what was used at most.
        """
        changes: dict[float, int] = {}
        for stage in self.stages:
            for start, end, size in stage.memory:
                changes[start] = changes.get(start, 0) + size
                changes[end] = changes.get(end, 0) - size
        found: list[tuple[float, int]] = []
        size, part = 0, self.seconds / most if most else 0.0
        for when in sorted(changes):
            size += changes[when]
            if found and part and when < found[-1][0] + part:
                found[-1] = found[-1][0], max(size, found[-1][1])
            else:
                found.append((when, size))
        # NOTE: what was used for a moment only must not seem to last
        return [*found, (found[-1][0] + part, size)] if found and part else found


def timeline(records: Sequence["Stage"], jobs: int, seconds: float) -> Timeline:
    """Put the records of a run together.

    Args:
        records: of its stages, in the order of serial DVC. What does not make sense
            in them is left out.
        jobs: how many stages could run a command at a time.
        seconds: when the run ended, or up to when it is to be told.
    """
    last = max((record.phases[-1][0] for record in records if record.phases), default=0)
    seconds = max(last, seconds)
    stages = [
        StageTimes(
            index,
            record.name,
            tuple(
                other
                for other in (*record.upstream, *record.after)
                if 0 <= other < index
            ),
            error=str(record.details.get("error") or ""),
            exit=record.exit,
            worker=str(record.worker or ""),
            took=record.took,
            owned=record.details.get("owned", 0.0),
            used=record.used,
        )
        for index, record in enumerate(records)
    ]
    for stage, record in zip(stages, records):
        _fill_in(stage, record.phases, seconds)

    slots = max(jobs, _assign(stages, lambda stage: stage.held, "slot"))
    lanes = _assign(stages, lambda stage: stage.saved, "saving_lane")
    return Timeline(stages, seconds, jobs, slots, lanes)


def _fill_in(
    stage: StageTimes,
    phases: Iterable[tuple[float, str, Mapping[str, Any]]],
    seconds: float,
) -> None:
    stage.end = seconds
    begun: Optional[tuple[str, float, str]] = None
    for when, phase, details in phases:
        if begun:
            when = max(when, begun[1])
            stage.spans.append(Span(begun[0], begun[1], when, begun[2]))
            if used := details.get("used"):
                stage.memory += _memory(used, begun[1], when)
            begun = None
        if phase in FINAL:
            stage.end = when
            stage.outcome = phase
            return
        if phase in _PHASES:
            detail = str(details.get("cmd") or details.get("pool") or "")
            begun = _PHASES[phase], when, detail
            stage.outcome = RUNNING
    if begun:
        stage.spans.append(Span(begun[0], begun[1], seconds, begun[2]))


def _memory(
    used: Usage, start: float, end: float
) -> Iterable[tuple[float, float, int]]:
    """Bytes that a command used, with start and end."""
    samples = [(min(start + after, end), size) for after, size in used.samples]
    if not samples and used.memory:
        samples = [(start, used.memory)]
    # NOTE: nobody has looked before the first of them
    starts = [start, *(when for when, _ in samples[1:])]
    sizes = [size for _, size in samples]
    return zip(starts, [*starts[1:], end], sizes)


def _assign(
    stages: Iterable[StageTimes],
    interval: Callable[[StageTimes], Optional[tuple[float, float]]],
    attribute: str,
) -> int:
    """Number what goes on at a time: each stage gets the lowest number that is free.

    Returns:
        int: how many numbers it takes.
    """
    held = [(when, stage) for stage in stages if (when := interval(stage))]
    free: list[int] = []
    taken: list[tuple[float, int]] = []
    count = 0
    for (start, end), stage in sorted(held, key=lambda item: (item[0], item[1].index)):
        while taken and taken[0][0] <= start:
            heapq.heappush(free, heapq.heappop(taken)[1])
        if not free:
            free.append(count)
            count += 1
        number = heapq.heappop(free)
        setattr(stage, attribute, number)
        heapq.heappush(taken, (end, number))
    return count
