"""How much stages use, by the records of runs; so how many fit, and what to declare."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from dvc_parallel.engine.run_info import group_of
from dvc_parallel.engine.usage import size
from dvc_parallel.scheduling.auto_pools import CPU, GIB, MEM

if TYPE_CHECKING:
    from dvc_parallel.reporting.records import Run

# Seconds of commands that say how many CPUs they keep busy.
LEAST_SECONDS = 1.0
# What a plan says of stages all of which fit; and what is worth a pool.
NOTABLE = GIB
LEAST_MEMORY, LEAST_CORES = GIB // 2, 1.5
# By how much more memory is proposed than was seen.
MARGIN = 1.1


class Machine(NamedTuple):
    """What there is for stages: bytes of memory, and CPUs."""

    memory: int
    cpus: int


@dataclass(frozen=True)
class Use:
    """What each of some stages uses, at most in some runs.

    Attributes:
        name: of a stage, or "train@*" of those of a foreach or matrix.
        memory: bytes at the peak; None if that is not known, or next to nothing.
        cores: CPUs that were busy on average; None if that is not known.
    """

    name: str
    count: int
    memory: Optional[int]
    cores: Optional[float]

    def __str__(self) -> str:
        parts = []
        if self.memory is not None:
            parts.append(f"{size(self.memory)} at its peak")
        if self.cores is not None:
            parts.append(f"{self.cores:.1f} cores")
        return ", ".join(parts)

    @property
    def pools(self) -> dict[str, int]:
        """What to take of ``mem``, in GiB, and of ``cpu``."""
        pools = {}
        if self.memory is not None and self.memory >= LEAST_MEMORY:
            pools[MEM] = math.ceil(MARGIN * self.memory / GIB)
        if self.cores is not None and self.cores >= LEAST_CORES:
            pools[CPU] = math.ceil(self.cores)
        return pools

    def fitting(self, machine: Optional[Machine]) -> tuple[int, Optional[str]]:
        """How many of them fit into a machine, and if not all, what limits that."""
        limits: list[tuple[int, Optional[str]]] = [(self.count, None)]
        if machine and self.memory:
            limits.append((machine.memory // self.memory, "memory"))
        if machine and self.cores:
            limits.append((max(1, int(machine.cpus / self.cores)), "cpu"))
        return min(limits, key=lambda limit: limit[0])

    def as_dict(self, machine: Optional[Machine]) -> dict[str, Any]:
        """All of it, for scripts."""
        jobs, limit = self.fitting(machine)
        return {
            "stages": self.name,
            "count": self.count,
            "memory": self.memory,
            "cores": None if self.cores is None else round(self.cores, 2),
            "jobs": jobs,
            "limit": limit,
        }


def group_name(stage: str) -> str:
    """The name of a stage, or of the foreach or matrix that it is from."""
    return group_of(stage) or stage


def uses(runs: Iterable["Run"], names: Iterable[str]) -> list[Use]:
    """What stages use, as far as runs tell; those of a foreach or matrix together."""
    groups = {name: group_name(name) for name in names}
    seen: set[str] = set()
    memory: dict[str, int] = {}
    cores: dict[str, float] = {}
    for run in runs:
        for stage in run.stages:
            group, used = groups.get(stage.name), stage.used
            if group is None or used is None:
                continue
            seen.add(group)
            if used.memory is not None:
                memory[group] = max(memory.get(group, 0), used.memory)
            if used.cores is not None and used.seconds >= LEAST_SECONDS:
                cores[group] = max(cores.get(group, 0.0), used.cores)
    counts: dict[str, int] = {}
    for group in groups.values():
        counts[group] = counts.get(group, 0) + 1
    return [
        Use(group, count, memory.get(group), cores.get(group))
        for group, count in counts.items()
        if group in seen
    ]


def notable(uses: Iterable[Use], machine: Optional[Machine]) -> Iterator[str]:
    """Lines on groups of stages of which all do not fit, or that are large."""
    for use in uses:
        fitting, limit = use.fitting(machine)
        if machine and limit is not None:
            is_memory = limit == "memory"
            has = size(machine.memory) if is_memory else f"{machine.cpus} CPUs"
            more = f"with {has}, -j {fitting}" if fitting else f"more than {has}"
            yield f"{use.name}: {use}: {more}"
        elif (use.memory or 0) >= NOTABLE:
            yield f"{use.name}: {use}"
