"""Where the time of a run went."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

from dvc_parallel.engine.plan import longest_paths
from dvc_parallel.engine.terminal import duration
from dvc_parallel.engine.usage import Usage, together

from .critical import POOL, SLOT, Causes, critical_path
from .timeline import FAILED, StageTimes, Timeline, timeline

if TYPE_CHECKING:
    from dvc_parallel.reporting.records import Run

# Version of the summary in JSON; new keys do not change it.
SCHEMA_VERSION = 2

# What a stage can wait for, in the order in which it meets it.
CAUSES = ("upstream", "slot", "pool", "lock", "saving")
# What happens on the critical path; "handover" is between the end of one and the
# start of the next.
ON_PATH = ("command", "check", "save", "lock", "handover")

# The part of a run from which on DVC's own work is what limits it; and that by which it
# has to be longer than its longest chain if slots are to be.
LIMITING = 0.7
NOTABLE = 0.1


@dataclass
class Waiting:
    """The time that stages waited for one cause.

    Attributes:
        seconds: of all stages together.
        stages: how many had to wait.
        longest: the stage that waited longest.
        longest_seconds: how long it did.
    """

    seconds: float = 0.0
    stages: int = 0
    longest: Optional[StageTimes] = None
    longest_seconds: float = 0.0

    def add(self, stage: StageTimes, seconds: float) -> None:
        if seconds <= 0:
            return
        self.seconds += seconds
        self.stages += 1
        if seconds > self.longest_seconds:
            self.longest, self.longest_seconds = stage, seconds


class Summary:
    """The summary of a run.

    Attributes:
        timeline: the run.
        causes: why stages started when they did.
        path: its critical path.
    """

    def __init__(self, timeline: Timeline):
        self.timeline = timeline
        self.causes = Causes(timeline)
        self.path = critical_path(timeline, self.causes)

    @cached_property
    def outcomes(self) -> Mapping[str, int]:
        """How many stages ended in which way."""
        return Counter(stage.outcome for stage in self.timeline.stages)

    @cached_property
    def busy(self) -> float:
        """Seconds of all stages together, without those in which they waited."""
        return sum(stage.busy for stage in self.timeline.stages)

    @cached_property
    def chain(self) -> float:
        """Seconds of the longest chain of stages that depend on each other.

        No number of jobs would have made this run shorter than that.
        """
        stages = self.timeline.stages
        chains = longest_paths(
            range(len(stages)),
            lambda index: stages[index].waits_for,
            [stage.busy for stage in stages],
        )
        return max(chains.values(), default=0.0)

    @cached_property
    def waiting(self) -> Mapping[str, Waiting]:
        """The time that stages waited, by cause."""
        waiting = {cause: Waiting() for cause in CAUSES}
        for stage in self.timeline.stages:
            waiting["upstream"].add(stage, stage.ready)
            queued = [span for span in stage.spans if span.phase == "ready"]
            in_pools = sum(span.seconds for span in queued if span.detail)
            waiting["slot"].add(stage, stage.seconds("ready") - in_pools)
            waiting["pool"].add(stage, in_pools)
            waiting["lock"].add(stage, stage.seconds("lock"))
            waiting["saving"].add(stage, stage.seconds("save"))
        return waiting

    @cached_property
    def on_path(self) -> Mapping[str, float]:
        """Seconds on the critical path, by what happened."""
        seconds = dict.fromkeys(ON_PATH, 0.0)
        for step in self.path:
            told = 0.0
            for span in step.spans:
                if span.phase != "ready":
                    seconds[span.phase] += span.seconds
                    told += span.seconds
            seconds["handover"] += step.end - step.start - told
        return seconds

    @property
    def slowest(self) -> list[StageTimes]:
        """Stages that were reproduced or failed, the slowest ones first."""
        ran = [stage for stage in self.timeline.stages if stage.busy > 0]
        return sorted(ran, key=lambda stage: (-stage.busy, stage.index))

    @property
    def failed(self) -> list[StageTimes]:
        return [stage for stage in self.timeline.stages if stage.outcome == FAILED]

    @property
    def owned(self) -> float:
        """Seconds in which DVC worked on one stage and kept others from the repo."""
        return sum(stage.owned for stage in self.timeline.stages)

    @property
    def advice(self) -> str:
        """What would make such a run shorter, or that nothing would."""
        seconds = self.timeline.seconds
        if not self.path or not seconds:
            return ""
        if self.owned > LIMITING * seconds:
            return (
                f"DVC's own work took {duration(self.owned)} of the "
                f"{duration(seconds)}, for one stage at a time. More jobs do not help; "
                "fewer and longer stages do."
            )
        waits = Counter(step.why for step in self.path)
        queued = waits[SLOT] + waits[POOL]
        if queued and self.chain < (1 - NOTABLE) * seconds:
            known = (
                f"The longest chain of stages takes {duration(self.chain)} of the "
                f"{duration(seconds)}. "
            )
            if waits[POOL] > waits[SLOT]:
                return f"{known}On the critical path, stages waited for pools."
            return f"{known}More jobs help, unless the machine is busy already."
        step = max(self.path, key=lambda step: step.end - step.start)
        return (
            "More jobs do not help: stages that depend on each other take that long. "
            f"Of those on the critical path, '{step.stage.name}' takes longest, "
            f"{duration(step.end - step.start)}."
        )

    @property
    def used(self) -> Optional[Usage]:
        """What all stages have used; their memory together, when that was most."""
        used = [stage.used for stage in self.timeline.stages if stage.used]
        if not used:
            return None
        peaks = [one.memory for one in used if one.memory is not None]
        peaks += (size for _, size in self.timeline.memory())
        memory = max(peaks, default=None)
        summed = together([Usage(0.0), *used])
        return summed and replace(summed, memory=memory, seconds=self.timeline.seconds)

    @property
    def largest(self) -> Optional[StageTimes]:
        """The stage that used most memory."""
        known = [
            (stage.used.memory, -stage.index)
            for stage in self.timeline.stages
            if stage.used and stage.used.memory
        ]
        return self.timeline.stages[-max(known)[1]] if known else None

    @property
    def usage(self) -> float:
        """Which part of the time of all slots was used, from 0 to 1."""
        held = sum(
            stage.held[1] - stage.held[0]
            for stage in self.timeline.stages
            if stage.held
        )
        all_of_it = self.timeline.jobs * self.timeline.seconds
        return min(1.0, held / all_of_it) if all_of_it else 0.0

    def as_dict(self, most: int = 20) -> dict[str, Any]:
        """The same for scripts: numbers are seconds, stages go by their names."""

        def seconds(value: float) -> float:
            return round(value, 4)

        used, largest = self.used, self.largest
        return {
            "seconds": seconds(self.timeline.seconds),
            "jobs": self.timeline.jobs,
            "stages": len(self.timeline.stages),
            "outcomes": dict(self.outcomes),
            "busy": seconds(self.busy),
            "longest_chain": seconds(self.chain),
            "slots_used": round(self.usage, 4),
            "repo_owned": seconds(self.owned),
            "advice": self.advice,
            "used": used and {**used.summary, "largest": largest and largest.name},
            "waiting": {
                cause: {
                    "seconds": seconds(waiting.seconds),
                    "stages": waiting.stages,
                    "longest": waiting.longest and waiting.longest.name,
                    "longest_seconds": seconds(waiting.longest_seconds),
                }
                for cause, waiting in self.waiting.items()
            },
            "critical_path": {
                "seconds": {what: seconds(on) for what, on in self.on_path.items()},
                "steps": [
                    {
                        "stage": step.stage.name,
                        "start": seconds(step.start),
                        "end": seconds(step.end),
                        "waited_for": step.why,
                        "behind": step.behind and step.behind.name,
                    }
                    for step in self.path
                ],
            },
            "slowest": [
                {
                    "stage": stage.name,
                    "seconds": seconds(stage.busy),
                    "command": seconds(stage.seconds("command")),
                    "outcome": stage.outcome,
                    "used": stage.used and stage.used.summary,
                }
                for stage in self.slowest[:most]
            ],
            "failed": [
                {
                    "stage": stage.name,
                    "seconds": seconds(stage.busy),
                    "exit": stage.exit,
                    "error": stage.error,
                }
                for stage in self.failed
            ],
        }


def summary_of(run: "Run") -> Summary:
    """Sum up a run that was recorded."""
    return Summary(timeline(run.stages, run.header.get("jobs", 1), run.now))


def as_dict(run: "Run", found: Summary) -> dict[str, Any]:
    """What scripts are told of a run."""
    return {
        "version": SCHEMA_VERSION,
        "id": run.id,
        "started": run.header["started"],
        "state": run.state,
        "command": run.header.get("command"),
        **found.as_dict(),
    }
