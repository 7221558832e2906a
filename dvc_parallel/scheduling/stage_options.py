"""What a stage needs in order to run beside others: ``meta.parallel`` in dvc.yaml.

::

    stages:
      train:
        cmd: python train.py
        meta:
          parallel:
            pools: {gpu: 1, mem: 16}  # or a list, which takes 1 of each
                                      # mem: [16, 32]: of each attempt, the last of more
            priority: 10              # higher goes first; 0 if there is none
            timeout: 2h               # or seconds
            retries: 3
            workers: [lab-*]          # of a cluster, by their names
            slurm: {mem: 16G}         # of Slurm; slurm_options.py has the keys
            code: true                # no need; run/code_files.py has it

DVC allows anything below ``meta``, and does not look at it.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from . import slurm_options

KEYS = ("pools", "priority", "timeout", "retries", "workers", "slurm", "code")

POOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)

# Seconds that can be waited at all.
LONGEST = threading.TIMEOUT_MAX

_NUMBER = r"\d+(?:\.\d+)?"
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TIMEOUT = re.compile("".join(rf"(?:({_NUMBER}){unit} ?)?" for unit in _UNITS))


class NeedsError(ValueError):
    """A stage asks for something that makes no sense; the message says what would."""


@dataclass(frozen=True)
class Needs:
    """The needs of a stage.

    Attributes:
        pools: how many slots it takes of each pool, at least 1.
        priority: of two stages that are ready, the higher one goes first.
        timeout: seconds that each of its commands may take, if limited.
        retries: how many times it is run again when a command fails.
        workers: patterns of names; where there are workers, it runs on one of these.
        slurm: what it asks Slurm for, where that runs it.
        later: pools of its second attempt and of those after it, where they differ.
    """

    pools: Mapping[str, int] = field(default_factory=dict)
    priority: int = 0
    timeout: Optional[float] = None
    retries: int = 0
    workers: tuple[str, ...] = ()
    slurm: Mapping[str, str] = field(default_factory=dict)
    later: tuple[Mapping[str, int], ...] = ()


NOTHING = Needs()


def read_needs(stage: str, meta: Any) -> Needs:
    """What a stage declares.

    Args:
        stage: its name, for errors.
        meta: what is below ``meta`` in dvc.yaml, whatever it is.

    Raises:
        NeedsError: names the stage, the key, the value, and what would be right.
    """
    if not isinstance(meta, Mapping) or "parallel" not in meta:
        return NOTHING

    def error(key: str, value: Any, expected: str) -> NeedsError:
        where = f"meta.parallel.{key}" if key else "meta.parallel"
        return NeedsError(
            f"stage '{stage}': {where}: expected {expected}, got {value!r}"
        )

    declared = meta["parallel"]
    if not isinstance(declared, Mapping):
        raise error("", declared, f"a mapping with any of {', '.join(KEYS)}")
    for key in declared:
        if key not in KEYS:
            raise NeedsError(
                f"stage '{stage}': meta.parallel: unknown key {key!r} with value "
                f"{declared[key]!r}; expected one of {', '.join(KEYS)}"
            )

    needs: dict[str, Any] = {}
    for key, value in declared.items():
        if key not in _READERS:
            continue
        try:
            needs[key] = _READERS[key](value)
        except ValueError as exc:
            raise error(key, value, str(exc)) from None
    needs["pools"], *later = needs.get("pools", [{}])
    return Needs(**needs, later=tuple(later))


def env_name(pool: str) -> str:
    """The environment variable in which a command finds its slots of a pool."""
    return "DVC_POOL_" + pool.upper().replace("-", "_")


def _read_pools(value: Any) -> list[dict[str, int]]:
    """How many slots it takes, by attempts: where these differ, for each of them."""
    if isinstance(value, list):
        if any(value.count(name) > 1 for name in value):
            raise NeedsError("each pool only once; to take more of one: {gpu: 2}")
        value = dict.fromkeys(map(_pool_name, value), 1)
    elif not isinstance(value, Mapping):
        raise NeedsError("pools as in {gpu: 1, mem: 16} or [db]")

    names: dict[str, str] = {}
    for name in map(_pool_name, value):
        other = names.setdefault(env_name(name), name)
        if other != name:
            raise NeedsError(
                f"pools that are not all called {env_name(name)} in the environment"
            )
    amounts = {
        name: amount if isinstance(amount, list) else [amount]
        for name, amount in value.items()
    }
    for name, listed in amounts.items():
        if not listed or not all(map(_is_count, listed)):
            raise NeedsError(
                f"0 or a positive integer for '{name}', or a list of one for each "
                "attempt"
            )
    # NOTE: 0 is for templates, where some take none
    return [
        {
            name: amount
            for name, listed in amounts.items()
            if (amount := listed[min(attempt, len(listed) - 1)])
        }
        for attempt in range(max(map(len, amounts.values()), default=1))
    ]


def _pool_name(name: Any) -> str:
    if not isinstance(name, str) or not POOL_NAME.fullmatch(name):
        raise NeedsError(
            f"names of pools made of letters, digits, '_' and '-', unlike {name!r}"
        )
    return name


def _read_priority(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise NeedsError("an integer")
    return value


def _read_timeout(value: Any) -> float:
    expected = NeedsError(
        "a positive time such as 90s, 30m, 1h30m or 2d, or a number of seconds, up to "
        f"{LONGEST / 86400:.0f}d"
    )
    if isinstance(value, str):
        match = _TIMEOUT.fullmatch(value.strip())
        counts = zip(match.groups(default="0"), _UNITS.values()) if match else ()
        value = sum(float(count) * seconds for count, seconds in counts)
    elif not isinstance(value, (int, float)) or isinstance(value, bool):
        raise expected
    if not 0 < value <= LONGEST:
        raise expected
    return float(value)


def _read_retries(value: Any) -> int:
    if not _is_count(value):
        raise NeedsError("0 or a positive integer")
    return value


def _read_workers(value: Any) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if (
        not isinstance(patterns, list)
        or not patterns
        or not all(isinstance(pattern, str) and pattern for pattern in patterns)
    ):
        raise NeedsError("names or patterns of workers, as in [lab-*]")
    return tuple(patterns)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_READERS = {
    "pools": _read_pools,
    "priority": _read_priority,
    "timeout": _read_timeout,
    "retries": _read_retries,
    "workers": _read_workers,
    "slurm": slurm_options.read_mapping,
}
