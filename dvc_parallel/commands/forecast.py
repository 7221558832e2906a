"""What ``dvc-parallel plan`` says: which stages would run, why, when, how long.

DryRun     which stages run, and why     (dry_run.py)
Forecast   how long that takes           (simulation.py)
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from dvc_parallel.scheduling.durations import Durations
from dvc_parallel.scheduling.simulation import Forecast, Speed

from .dry_run import DryRun, Step

# Version of what `as_dict` returns; new keys do not change it.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A stage that would run, or may.

    Attributes:
        name: of the stage.
        seconds: how long it takes.
        start: seconds from the begin of the run to its start.
        guessed: whether no earlier duration of it is known.
        critical: whether it is on the critical path.
    """

    step: Step
    name: str
    seconds: float
    start: float
    guessed: bool
    critical: bool


class Outlook:
    """The forecast of a run.

    Args:
        dry_run: which stages would run.
        durations: how long stages took in earlier runs.
    """

    def __init__(self, dry_run: DryRun, durations: Durations):
        self._steps = steps = dry_run.steps
        self.jobs = dry_run.jobs
        self.runner = dry_run.runner
        known = durations.load()
        ranks = range(len(steps))
        names = [step.stage.addressing for step in steps]
        after = {rank: step.after for rank, step in enumerate(steps)}
        if not dry_run.side_by_side:
            after = {rank: {rank - 1} for rank in ranks[1:]}
        running = {rank for rank in ranks if steps[rank].runs}
        self._names = names
        self.forecast = Forecast(
            ranks,
            {rank: step.upstream for rank, step in enumerate(steps)},
            after,
            {rank: known[names[rank]] for rank in ranks if names[rank] in known},
            running,
            dry_run.make_plan,
        )
        self.up_to_date = [names[rank] for rank in ranks if rank not in running]
        self.critical_path = [names[rank] for rank in self.forecast.critical_path]

    @cached_property
    def speeds(self) -> list[Speed]:
        """The speeds with this and other numbers of jobs."""
        return self.forecast.speeds(self.jobs)

    @cached_property
    def entries(self) -> list[Entry]:
        """The stages that would or may run, in the order in which they start."""
        forecast = self.forecast
        critical = set(forecast.critical_path)
        return [
            Entry(
                self._steps[rank],
                self._names[rank],
                forecast.seconds[rank],
                start,
                rank not in forecast.known,
                rank in critical,
            )
            for rank, start in forecast.course(self.jobs).starts.items()
        ]

    def upstream(self, entry: Entry) -> list[str]:
        """The stages that would or may run, and that another waits for."""
        ranks = sorted(entry.step.upstream | entry.step.after)
        return [self._names[rank] for rank in ranks if self._steps[rank].runs]

    def as_dict(self) -> dict[str, Any]:
        """All of it, for ``--json``; described in docs/plan.md."""
        return {
            "version": SCHEMA_VERSION,
            "jobs": self.jobs,
            "runner": self.runner,
            "stages": [
                {
                    "name": entry.name,
                    "runs": "yes" if entry.step.certain else "maybe",
                    "reasons": [_without_none(reason) for reason in entry.step.reasons],
                    "upstream": self.upstream(entry),
                    "start": round(entry.start, 3),
                    "seconds": round(entry.seconds, 3),
                    "guessed": entry.guessed,
                    "critical": entry.critical,
                }
                for entry in self.entries
            ],
            "up_to_date": self.up_to_date,
            "seconds": round(self.forecast.total, 3),
            "critical_path": {
                "stages": self.critical_path,
                "seconds": round(self.forecast.critical, 3),
            },
            "width": self.forecast.width,
            "speeds": [
                {name: round(value, 3) for name, value in asdict(speed).items()}
                for speed in self.speeds
            ],
        }


def _without_none(value: Any) -> dict[str, Any]:
    return {name: item for name, item in asdict(value).items() if item is not None}
