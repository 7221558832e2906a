"""Two runs side by side: which stages took longer, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from dvc_parallel.engine.reporter_events import Phase

from .timeline import StageTimes, Timeline

# The parts of a stage, and the phases that they are.
PARTS = {
    "queue": ("ready", "lock"),
    "command": ("command",),
    "saving": ("check", "save"),
}


@dataclass(frozen=True)
class Change:
    """A stage in two runs.

    Attributes:
        before, now: it in either run; None where that does not know it.
    """

    name: str
    before: Optional[StageTimes]
    now: Optional[StageTimes]

    @property
    def ran_twice(self) -> bool:
        return all(
            stage is not None and stage.outcome == Phase.RAN
            for stage in (self.before, self.now)
        )

    @property
    def seconds(self) -> Mapping[str, float]:
        """By how much longer it took now, by part; it has to have run twice."""
        before, now = parts(self.before), parts(self.now)
        return {part: now[part] - before[part] for part in PARTS}

    def as_dict(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            "stage": self.name,
            "before": _as_dict(self.before),
            "now": _as_dict(self.now),
            "change": _rounded(self.seconds) if self.ran_twice else None,
        }


def compare(before: Timeline, now: Timeline) -> list[Change]:
    """The stages of two runs: what has become slowest first, what ran once last."""
    sides = [{stage.name: stage for stage in run.stages} for run in (now, before)]
    names = dict.fromkeys(name for side in sides for name in side)
    changes = [Change(name, sides[1].get(name), sides[0].get(name)) for name in names]
    return sorted(
        changes,
        key=lambda one: (
            not one.ran_twice,
            -sum(one.seconds.values()) if one.ran_twice else 0.0,
        ),
    )


def parts(stage: Optional[StageTimes]) -> dict[str, float]:
    """Seconds of a stage by part."""
    if stage is None:
        return dict.fromkeys(PARTS, 0.0)
    return {part: stage.seconds(*phases) for part, phases in PARTS.items()}


def outcomes_differ(changes: Sequence[Change]) -> list[Change]:
    """Those of some stages that came to another end, or are in one of the runs only."""
    return [
        one
        for one in changes
        if (one.before and one.before.outcome) != (one.now and one.now.outcome)
    ]


def _as_dict(stage: Optional[StageTimes]) -> Optional[dict[str, Any]]:
    if stage is None:
        return None
    seconds = round(stage.busy, 4)
    return {"outcome": stage.outcome, "seconds": seconds, **_rounded(parts(stage))}


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {part: round(value, 4) for part, value in seconds.items()}
