"""Starting nothing while the machine is busy: ``--load-average``, as in make and ninja.

The load average of the last minute follows what runs only slowly: Linux lets each
moment count less by the factor e a minute later (``kernel/sched/loadavg.c``).  So what
was started ``t`` seconds ago is in it with the share ``1 - exp(-t / 60)``, if it keeps
one CPU busy, and the rest has to be added.  Otherwise, at the beginning of a run, all
stages would start at once.
"""

import math
import os
import time
from typing import TYPE_CHECKING, Any, Callable, Union

if TYPE_CHECKING:
    from .ready_queue import Admission

MINUTE = 60.0


def parse_load(value: Union[float, str]) -> float:
    """Check a load average as users write it.

    Raises:
        ValueError: it is not a positive number; the message says so.
    """
    try:
        load = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        load = math.nan
    if not 0 < load < math.inf:
        raise ValueError(f"expected a positive number, got '{value}'")
    return load


def load_average() -> float:
    """The load average of the last minute; 0 where there is none."""
    measure = getattr(os, "getloadavg", lambda: (0.0,))
    try:
        return measure()[0]
    except OSError:
        return 0.0


class LoadLimit:
    """The admission of a plan that starts nothing while the load is too high.

    When nothing runs, something starts in any case.  As time passes, it has to be asked
    again.

    Args:
        limit: the load from which on nothing starts.
        behind: the admission to ask otherwise.
    """

    def __init__(
        self,
        limit: float,
        behind: "Admission",
        load: Callable[[], float] = load_average,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._limit = limit
        self._behind = behind
        self.queue, self.goes_first = behind.queue, behind.goes_first
        self._load = load
        self._clock = clock
        self._started: dict[Any, float] = {}

    def permits(self, stage: Any) -> bool:
        return not self._is_too_high() and self._behind.permits(stage)

    def take(self, stage: Any) -> bool:
        if self._is_too_high() or not self._behind.take(stage):
            return False
        self._started[stage] = self._clock()
        return True

    def give_back(self, stage: Any) -> None:
        del self._started[stage]
        self._behind.give_back(stage)

    def _is_too_high(self) -> bool:
        if not self._started:
            return False
        now = self._clock()
        ages = (now - start for start in self._started.values())
        missing = sum(math.exp(-age / MINUTE) for age in ages)
        return self._load() + missing >= self._limit
