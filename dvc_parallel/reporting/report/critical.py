"""What made a run end when it did.

The critical path of a run that has happened, not of its graph: from the stage that
ended last back to the start, each step being what the next one waited for last.  That
is the upstream that ended last, or, where a stage was ready and no slot was free, the
stage whose slot it got.
"""

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from .timeline import Span, StageTimes, Timeline

START = "start"  # nothing had to end before it
UPSTREAM = "upstream"
SLOT = "slot"
POOL = "pool"

# Seconds between the end of a stage and the start of the next one that are no waiting.
HANDOVER = 0.001


@dataclass(frozen=True)
class Step:
    """A stage on the critical path.

    Attributes:
        start, end: the time of the run that it accounts for; the steps of a path
            follow each other without a gap.
        why, behind: its :class:`Cause`; the stage of the step before.
    """

    stage: StageTimes
    start: float
    end: float
    why: str
    behind: Optional[StageTimes]

    @property
    def spans(self) -> Iterator[Span]:
        """What the stage did in that time."""
        for span in self.stage.spans:
            start, end = max(span.start, self.start), min(span.end, self.end)
            if start < end:
                yield Span(span.phase, start, end, span.detail)


@dataclass(frozen=True)
class Cause:
    """Why a stage started when it did.

    Attributes:
        why: what it waited for last: "upstream", "slot", "pool", or "start".
        behind: the stage that it waited for.
        when: when that let it go on.
    """

    why: str
    behind: Optional[StageTimes]
    when: float


class Causes:
    """Tells of each stage of a run that has started why it did when it did."""

    def __init__(self, timeline: Timeline):
        self._timeline = timeline
        self._in_flight = 2 * timeline.jobs
        held = [(stage.held, stage) for stage in timeline.stages if stage.held]
        self._starts = sorted(when[0] for when, _ in held)
        # When stages gave up their slots, and when they ended.
        self._slots = sorted((when[1], stage.index) for when, stage in held)
        self._ends = sorted((stage.end, stage.index) for _, stage in held)

    def of(self, stage: StageTimes) -> Cause:
        assert stage.held
        ready, begun = stage.ready, stage.held[0]
        if begun - ready > HANDOVER:
            release = self._release_before(begun)
            # NOTE: what had ended before it was ready is not what it waited for
            if release and release[0] > ready:
                when, other = release
                queued = (span for span in stage.spans if span.phase == "ready")
                pool = any(span.detail for span in queued)
                return Cause(POOL if pool else SLOT, self._timeline.stages[other], when)
        ups = (self._timeline.stages[index] for index in stage.waits_for)
        through = [up for up in ups if up.held and up.end <= ready + HANDOVER]
        if not through:
            return Cause(START, None, 0.0)
        last = max(through, key=lambda up: (up.end, up.index))
        return Cause(UPSTREAM, last, min(last.end, begun))

    def _release_before(self, when: float) -> Optional[tuple[float, int]]:
        """The last thing that let a stage start at ``when``, and whose it was."""
        place = _count(self._slots, when)
        if not place:
            return None
        released, stage = self._slots[place - 1]
        # NOTE: a plan keeps no more than twice as many stages as jobs in flight, those
        # that are being saved included: then one has to end before another starts
        in_flight = bisect_left(self._starts, when) - _count(self._ends, released)
        if in_flight >= self._in_flight:
            return self._ends[_count(self._ends, when) - 1]
        return released, stage


def _count(times: list[tuple[float, int]], last: float) -> int:
    """How many of some times are not after another one."""
    return bisect_right(times, (last, sys.maxsize))


def critical_path(timeline: Timeline, causes: Causes) -> list[Step]:
    """The steps that lead to the end of a run, first to last.

    Returns:
        list: empty where no stage has started.
    """
    ran = [stage for stage in timeline.stages if stage.held]
    if not ran:
        return []
    stage: Optional[StageTimes] = max(ran, key=lambda stage: (stage.end, stage.index))
    end, steps = timeline.seconds, []
    seen: set[int] = set()
    while stage is not None and stage.index not in seen:
        seen.add(stage.index)
        end = min(end, stage.end)
        cause = causes.of(stage)
        steps.append(Step(stage, cause.when, end, cause.why, cause.behind))
        stage, end = cause.behind, cause.when
    return steps[::-1]
