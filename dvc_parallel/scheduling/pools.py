"""Pools of things that stages share: what there is, and which slots are free.

What a machine has is told by a text such as ``gpu=0,1 mem=64``:

- ``mem=64`` is a number of slots. A stage that takes 16 of them is told ``16``.
- ``gpu=0,1`` and ``gpu=3,`` name the slots, with a comma. A stage is told the names of
  those that it has.
- ``gpu=2`` stands for ``gpu=0,1``, as GPUs go by numbers.
- ``auto`` stands for what this machine has of memory, CPUs and GPUs, beside the others.

A pool of which nobody tells the size has one slot: it is a mutex.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Callable, Optional

from .stage_options import POOL_NAME, Needs, NeedsError, env_name

ENV = "DVC_PARALLEL_POOLS"
CONFIG_OPTION = "parallel_pools"

AUTO = "auto"
GPU = "gpu"
CUDA = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Size:
    """How many slots a pool has, and their names, if they have any."""

    slots: int = 1
    names: Optional[tuple[str, ...]] = None


MUTEX = Size()


def parse_pools(
    text: str, machine: Callable[[], Mapping[str, Size]] = dict
) -> dict[str, Size]:
    """Read what a machine has.

    Args:
        machine: tells what ``auto`` stands for.

    Raises:
        ValueError: names the part that is wrong.
    """
    sizes: dict[str, Size] = {}
    parts = text.split()
    for part in parts:
        if part == AUTO:
            continue
        name, equals, value = part.partition("=")
        if not equals or not POOL_NAME.fullmatch(name):
            raise ValueError(
                f"expected '{AUTO}', or pools such as 'gpu=0,1 mem=64', "
                f"got '{part}' in '{text}'"
            )
        if name in sizes:
            raise ValueError(f"pool '{name}' is listed twice in '{text}'")
        try:
            sizes[name] = _parse_size(name, value)
        except ValueError as exc:
            raise ValueError(f"{exc}, got '{part}' in '{text}'") from None
    return {**machine(), **sizes} if AUTO in parts else sizes


def _parse_size(name: str, value: str) -> Size:
    if value.isascii() and value.isdecimal():
        count = int(value)
        names = tuple(map(str, range(count))) if name == GPU else None
        return Size(count, names)
    names = tuple(value.removesuffix(",").split(","))
    if "," not in value or "=" in value or not all(names):
        raise ValueError(
            "expected a number of slots (mem=64) or their names (gpu=0,1 or gpu=3,)"
        )
    if len(set(names)) < len(names):
        raise ValueError("expected each slot only once")
    return Size(len(names), names)


def format_pools(sizes: Mapping[str, Size]) -> str:
    """The text that :func:`parse_pools` reads."""
    return " ".join(
        f"{name}={','.join(size.names) + ',' if size.names else size.slots}"
        for name, size in sizes.items()
    )


def check_needs(stage: str, needs: Needs, sizes: Mapping[str, Size]) -> None:
    """Make sure that a stage can ever run.

    Raises:
        NeedsError: names the stage, the pool, and its size.
    """
    for name, amount in needs.pools.items():
        size = sizes.get(name, MUTEX)
        if amount > size.slots:
            unsized = (
                "" if name in sizes else f", as neither {ENV} nor the config sets it"
            )
            raise NeedsError(
                f"stage '{stage}': meta.parallel.pools: takes {amount} of '{name}', "
                f"but its size is {size.slots}{unsized}"
            )


@dataclass(frozen=True)
class Slots:
    """Slots of one pool that somebody has; ``names`` only if they have any."""

    amount: int
    names: Optional[tuple[str, ...]] = None

    def __str__(self) -> str:
        return str(self.amount) if self.names is None else ",".join(self.names)


class Pool:
    """The slots of one pool.  No slot is given to two at a time."""

    def __init__(self, size: Size):
        self.size = size
        self.free = size.slots
        self._places = {name: place for place, name in enumerate(size.names or ())}
        self._free_places = list(self._places.values())

    def take(self, amount: int) -> Slots:
        """Take slots, the first ones that are free."""
        assert 0 < amount <= self.free
        self.free -= amount
        if self.size.names is None:
            return Slots(amount)
        places = [heapq.heappop(self._free_places) for _ in range(amount)]
        return Slots(amount, tuple(self.size.names[place] for place in places))

    def give_back(self, slots: Slots) -> None:
        self.free += slots.amount
        for name in slots.names or ():
            heapq.heappush(self._free_places, self._places[name])

    def validate(self, taken: Iterable[Slots]) -> None:
        """Check that each slot is either free or taken once; for tests."""
        taken = list(taken)
        assert self.free + sum(s.amount for s in taken) == self.size.slots
        if self.size.names is not None:
            free = [self.size.names[place] for place in self._free_places]
            names = [*free, *(name for slots in taken for name in slots.names or ())]
            assert sorted(names) == sorted(self.size.names)


def environment(held: Mapping[str, Slots], sizes: Mapping[str, Size]) -> dict[str, str]:
    """The variables that tell a command which slots of pools its stage has."""
    if not held:
        return {}
    env = {env_name(name): str(slots) for name, slots in held.items()}
    # NOTE: a mutex says nothing of which devices there are
    if GPU in held and held[GPU].names is not None:
        env[CUDA] = str(held[GPU])
    # NOTE: a run inside the command shares out what the stage has
    inside = {name: Size(slots.amount, slots.names) for name, slots in held.items()}
    env[ENV] = format_pools({**sizes, **inside})
    return env
