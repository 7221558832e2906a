"""Checks of a journal, which may be damaged, or made by somebody else.

Each function raises ValueError, TypeError, KeyError or OverflowError where it makes no
sense.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

# What fits into a pid_t; no run takes as many seconds, or has as many jobs.
MOST_PID = 2**31 - 1
MOST_SECONDS = 1e9
MOST_JOBS = 100_000

TEXTS = ("id", "on_error", "command", "dvc", "dvc_parallel")


def seconds(value: Any) -> float:
    """Seconds since the start of the run, or that something took."""
    return float(_between(0, float(value), MOST_SECONDS))


def header(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The first line of a journal, but for its stages."""
    started = datetime.fromisoformat(entry["started"])
    if started.tzinfo is None:
        raise ValueError("no time zone")
    started.astimezone()  # fails for the first and the last days of the calendar
    texts = {name: str(entry[name]) for name in TEXTS if name in entry}
    numbers = {
        name: _between(1, int(entry[name]), most)
        for name, most in (("jobs", MOST_JOBS), ("pid", MOST_PID))
        if name in entry
    }
    return {**texts, **numbers, "started": entry["started"]}


def ranks(value: Any) -> list[int]:
    """Places of stages in a journal."""
    return [int(rank) for rank in value]


def _between(least: float, value: Any, most: float) -> Any:
    if not least <= value <= most:
        raise ValueError(f"{value} is out of range")
    return value
