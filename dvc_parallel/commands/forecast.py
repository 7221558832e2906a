"""What ``dvc-parallel plan`` says: which stages would run, why, when, how long.

DryRun         which stages run, and why           (dry_run.py)
earlier_times  what DVC itself takes for each, by the records of runs
Forecast       how long that takes                 (simulation.py)
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from statistics import median
from typing import Any

from dvc_parallel.engine.machine import available_cpus, available_memory
from dvc_parallel.engine.reporter_events import Phase
from dvc_parallel.remote.choose_runner import LOCAL
from dvc_parallel.reporting.records import Run, Runs
from dvc_parallel.reporting.records.reader import RecordError
from dvc_parallel.scheduling.durations import Durations
from dvc_parallel.scheduling.simulation import Forecast, RepoTimes, Speed

from .dry_run import DryRun, Step
from .sizes import Machine, uses

# Version of what `as_dict` returns; new keys do not change it.
SCHEMA_VERSION = 1

# Runs whose records are looked at for what DVC itself takes.
MOST_RUNS = 5
# Seconds up to which a command is short: what it takes is what it took when others
# disturbed it least, as its process, DVC's threads and other stages share the CPUs.
SHORT = 0.5


def earlier_times(
    runs: Iterable[Run], names: Iterable[str]
) -> tuple[RepoTimes, dict[str, float]]:
    """What stages took in some runs, the last one first.

    Returns:
        how long they had the repo for themselves, as long as others if that is not
        known; and seconds of the shortest run of each.
    """
    owned: dict[str, tuple[float, float]] = {}
    commands: dict[str, float] = {}
    unchanged: list[float] = []
    for run in runs:
        for stage in run.stages:
            seconds = stage.details.get("owned")
            if seconds is None:
                continue
            if stage.phase == Phase.UNCHANGED:
                unchanged.append(seconds)
            elif stage.phase == Phase.RAN:
                before = stage.seconds_in("check")
                both = before + stage.seconds_in("save")
                before = seconds * before / both if both else 0.0
                owned.setdefault(stage.name, (before, seconds - before))
                command = stage.seconds_in("command")
                commands[stage.name] = min(commands.get(stage.name, command), command)
    usual = tuple(median(times) for times in zip(*owned.values())) or (0.0, 0.0)
    running = {name: owned.get(name, (usual[0], usual[1])) for name in names}
    repo = RepoTimes(running, median(unchanged) if unchanged else 0.0)
    least = {
        name: sum(running[name]) + seconds
        for name, seconds in commands.items()
        if name in running
    }
    return repo, least


def last_runs(tmp_dir: str) -> Iterable[Run]:
    """The last runs that are recorded, the last one first."""
    with suppress(RecordError):
        yield from islice(Runs(tmp_dir).all(newest_first=True), MOST_RUNS)


@dataclass(frozen=True)
class Entry:
    """A stage that would run, or may.

    Attributes:
        guessed: whether no earlier duration of it is known.
        growth: what its attempts take of pools, where that differs.
    """

    step: Step
    name: str
    seconds: float
    start: float
    guessed: bool
    critical: bool
    growth: dict[str, list[int]]


class Outlook:
    """The forecast of a run.

    Args:
        runs: earlier runs, the last one first.

    Attributes:
        error: why stages could not run with more than one job, if they cannot.
        uses: what stages that run use.
        machine: what they have, if they run here.
    """

    def __init__(self, dry_run: DryRun, durations: Durations, runs: Iterable[Run] = ()):
        runs = [*runs]
        self._steps = steps = dry_run.steps
        self.jobs = dry_run.jobs
        self.runner = dry_run.runner
        self.error = dry_run.error
        ranks = range(len(steps))
        names = [step.stage.addressing for step in steps]
        after = {rank: step.after for rank, step in enumerate(steps)}
        if not dry_run.side_by_side:
            after = {rank: {rank - 1} for rank in ranks[1:]}
        running = {rank for rank in ranks if steps[rank].runs}
        self._names = names
        self._growth = dry_run.growth
        repo_times, least_times = earlier_times(runs, names)
        known = durations.load()
        for name, least in least_times.items():
            if known.get(name, 0.0) <= least + SHORT:
                known[name] = least
        self.forecast = Forecast(
            ranks,
            {rank: step.upstream for rank, step in enumerate(steps)},
            after,
            {rank: known[names[rank]] for rank in ranks if names[rank] in known},
            running,
            dry_run.make_plan,
            RepoTimes(
                {rank: repo_times.running[names[rank]] for rank in ranks},
                repo_times.unchanged,
            ),
        )
        self.up_to_date = [names[rank] for rank in ranks if rank not in running]
        self.uses = uses(runs, [names[rank] for rank in ranks if rank in running])
        is_here = self.runner == LOCAL
        self.machine = (
            Machine(available_memory(), available_cpus()) if is_here else None
        )
        # NOTE: that of stages one after the other is that of no other number of jobs
        path = self.forecast.critical_path if self.error is None else ()
        self.critical_path = [names[rank] for rank in path]

    @cached_property
    def seconds(self) -> float:
        return self.forecast.course(self.jobs).seconds

    @property
    def enough(self) -> Speed:
        """The lowest number of jobs that is about as fast as any."""
        best = min(speed.seconds for speed in self.speeds)
        return next(s for s in self.speeds if s.seconds <= 1.05 * best)

    @cached_property
    def speeds(self) -> list[Speed]:
        return self.forecast.speeds(self.jobs)

    @cached_property
    def entries(self) -> list[Entry]:
        """The stages that would or may run, in the order in which they start."""
        forecast = self.forecast
        critical = set(self.critical_path)
        return [
            Entry(
                self._steps[rank],
                self._names[rank],
                forecast.seconds[rank],
                start,
                rank not in forecast.known,
                self._names[rank] in critical,
                self._growth(rank),
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
            "error": self.error,
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
                    "growth": entry.growth,
                }
                for entry in self.entries
            ],
            "up_to_date": self.up_to_date,
            "seconds": round(self.forecast.total, 3),
            "repo_seconds": round(self.forecast.owned, 3),
            "critical_path": {
                "stages": self.critical_path,
                "seconds": round(self.forecast.critical, 3),
            },
            "width": self.forecast.width,
            "sizes": [use.as_dict(self.machine) for use in self.uses],
            "speeds": [
                {name: round(value, 3) for name, value in asdict(speed).items()}
                for speed in self.speeds
            ],
        }


def _without_none(value: Any) -> dict[str, Any]:
    return {name: item for name, item in asdict(value).items() if item is not None}
