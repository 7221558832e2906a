"""What was measured, where and with what; as JSON and back."""

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional


@dataclass
class Row:
    """A tool with a number of jobs, on one workload.

    Attributes:
        jobs: None for serial DVC.
        seconds: of the rounds that went well.
        cpu: seconds of CPU time of each of them.
        errors: of the rounds that did not, or were left out after a time-out.
        cannot: why it was not tried at all.
        start_delays: for each round, the longest time in seconds from when a
            stage could have started to when it did; for workloads that tell it.
        same_as_serial: whether dvc.lock and every .gitignore are what serial DVC
            has left; None where there is nothing to compare with.
    """

    tool: str
    jobs: Optional[int]
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    cannot: Optional[str] = None
    start_delays: list[float] = field(default_factory=list)
    same_as_serial: Optional[bool] = None
    cpu: list[float] = field(default_factory=list)

    @property
    def median(self) -> Optional[float]:
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def median_cpu(self) -> Optional[float]:
        return statistics.median(self.cpu) if self.cpu else None

    @property
    def timed_out(self) -> bool:
        """Whether what was to be measured has taken longer than the limit."""
        return any(error.startswith("timed out") for error in self.errors)


@dataclass
class Measured:
    """A workload and its rows.

    Attributes:
        bounds: number of jobs -> seconds below which nobody can get.
        limit: seconds for a single run.
    """

    name: str
    size: int
    title: str
    stages: int
    bounds: dict[int, float]
    rows: list[Row] = field(default_factory=list)
    limit: Optional[float] = None


@dataclass
class Results:
    """A run of the benchmark.

    Attributes:
        tools: name -> versions, or why it is not available.
        notes: name -> what the tool does less than DVC, or otherwise.
        limit: seconds for a single run, where a workload has none of its own.
    """

    date: str
    machine: dict[str, Any]
    tools: dict[str, str]
    notes: dict[str, str]
    rounds: int
    limit: float
    measured: list[Measured] = field(default_factory=list)

    def save(self, path: Path) -> None:
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, *paths: Path) -> "Results":
        """Read results; of several, what was measured later is added to the first."""
        first, *others = [cls._load(path) for path in paths]
        for other in others:
            first.tools.update(other.tools)
            first.notes.update(other.notes)
            first.measured.extend(other.measured)
            first.rounds = max(first.rounds, other.rounds)
            first.limit = max(first.limit, other.limit)
        return first

    @classmethod
    def _load(cls, path: Path) -> "Results":
        data = json.loads(path.read_text(encoding="utf-8"))
        measured = []
        for item in data.pop("measured"):
            rows = [Row(**row) for row in item.pop("rows")]
            # JSON has no other keys than strings.
            bounds = {int(jobs): bound for jobs, bound in item.pop("bounds").items()}
            measured.append(Measured(**item, bounds=bounds, rows=rows))
        return cls(**data, measured=measured)


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def machine() -> dict[str, Any]:
    """What the figures depend on. Memory in GiB; load: average of a minute."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory": _gib(_field("/proc/meminfo", "MemTotal")),
        "system": f"{platform.system()} {_short(platform.release())}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def _short(release: str) -> str:
    """A release of a kernel, without what its builder has added."""
    return ".".join(release.split(".")[:2])


def _field(path: str, key: str) -> Optional[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = [line.partition(":")[2].strip() for line in lines if line.startswith(key)]
    return values[0] if values else None


def _gib(kib: Optional[str]) -> Optional[float]:
    return round(int(kib.split()[0]) / 2**20, 1) if kib else None
