"""Who gets the slots of pools: greedy, but nobody is passed over for ever.

A stage that is ready takes all the slots that it needs at once, or none: so stages
never wait for each other's slots in a circle.  One that finds its slots free gets them,
also if it comes after others that have to wait ("backfilling": A. W. Mu'alem and
D. G. Feitelson, Utilization, Predictability, Workloads, and User Runtime Estimates in
Scheduling the IBM SP2 with Backfilling, IEEE TPDS 12(6), 2001, section 2).  On its own,
that starves who needs much: two GPUs at a time are never free while there are stages
that take one.  There, the first job in the queue has a reservation, and others may
not delay it, by the run times that users estimate.  Here, nobody knows run times:

- **Who may have a claim.** A stage that waits has one against all of lower priority at
  once.  It has one against those of its own priority, too, after these have passed it
  by: when stages that need less than it have taken some pool of its own ``ROUNDS``
  times over.  Until then, the order of the plan and free slots decide alone, so that
  slots do not idle for the sake of a stage that nobody starves.
- **What a claim does.** Stages that it is against may only take so much that all they
  have taken since leaves enough for the claim.  So it gets its slots at the latest when
  all that ran when it came up, and all of higher priority, have ended; and what it does
  not need remains in use.  Who has been passed by is also the next of its priority to
  start, lest its slots idle while others take all jobs.
- **Claims do not block each other.** Among those of one priority, the older one comes
  first.  So when nothing runs, the first of them can start.

Stages with the same priority and the same needs are of one *kind*.  They wait
together: it is the kind that is passed by and has a claim, and the plan says which of
its stages is the first.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Optional

from .pools import MUTEX, Pool, Size, Slots
from .stage_options import NOTHING, Needs

# How many times others may take all of a pool before who waits for it has a claim.
ROUNDS = 2

Kind = tuple[int, tuple[tuple[str, int], ...]]


@dataclass
class _Waiting:
    """Stages of one kind that are ready.

    Attributes:
        request: what each of them takes, by pool.
        stages: how many there are.
        since: when their claim came up; what was taken later counts against it.
        claimed: when they got their claim against their own priority, if they have.
        passed: how many slots others have taken by passing them, by pool.
    """

    priority: int
    request: Mapping[str, int]
    since: int
    stages: int = 0
    claimed: Optional[int] = None
    passed: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True)
class _Held:
    since: int
    slots: Mapping[str, Slots]


class PoolAdmission:
    """The admission of a plan whose stages take slots of pools.

    Args:
        sizes: what there is of each pool; 1 of all others.
        needs: what stages need, each no more than there is. It may change while a stage
            is not ready.
    """

    def __init__(self, sizes: Mapping[str, Size], needs: Mapping[Any, Needs]):
        self._needs = needs
        self._pools: dict[str, Pool] = {}
        takes = (
            pools for need in needs.values() for pools in (need.pools, *need.later)
        )
        for name in {name for pools in takes for name in pools}:
            self._pools[name] = Pool(sizes.get(name, MUTEX))
        self._clock = count()
        self._waiting: dict[Kind, _Waiting] = {}
        # NOTE: by pool, so that who shares none is not looked at
        self._waiting_for: dict[str, dict[Kind, _Waiting]] = defaultdict(dict)
        self._held: dict[Any, _Held] = {}

    def queue(self, stage: Any) -> Optional[Kind]:
        needs = self._needs.get(stage, NOTHING)
        if not needs.pools:
            return None
        kind = _kind(needs)
        if kind not in self._waiting:
            waiting = _Waiting(needs.priority, needs.pools, next(self._clock))
            self._waiting[kind] = waiting
            for name in needs.pools:
                self._waiting_for[name][kind] = waiting
        self._waiting[kind].stages += 1
        return kind

    def permits(self, stage: Any) -> bool:
        return self.obstacle(stage) is None

    def obstacle(self, stage: Any) -> Optional[str]:
        """The first pool that keeps a stage which is ready from starting, if any."""
        needs = self._needs.get(stage, NOTHING)
        if not needs.pools:
            return None
        for name, amount in needs.pools.items():
            if self._pools[name].free < amount:
                return name
        waiting = self._waiting[_kind(needs)]
        for name, amount in needs.pools.items():
            for other in self._waiting_for[name].values():
                if _comes_first(other, waiting):
                    left = self._pools[name].size.slots - other.request[name]
                    if self._taken(name, other.since) + amount > left:
                        return name
        return None

    def goes_first(self, stage: Any) -> bool:
        """Whether a stage has been passed by for long enough."""
        needs = self._needs.get(stage, NOTHING)
        return bool(needs.pools) and self._waiting[_kind(needs)].claimed is not None

    def take(self, stage: Any) -> bool:
        # NOTE: that makes nothing possible for others: who fits in beside this stage
        # did not have to wait for its claim
        needs = self._needs.get(stage, NOTHING)
        if not needs.pools:
            return True
        if not self.permits(stage):
            return False
        kind = _kind(needs)
        waiting = self._waiting[kind]
        slots = {name: self._pools[name].take(n) for name, n in needs.pools.items()}
        self._held[stage] = _Held(next(self._clock), slots)
        waiting.stages -= 1
        if waiting.stages:
            waiting.since, waiting.claimed = next(self._clock), None
            waiting.passed.clear()
        else:
            del self._waiting[kind]
            for name in needs.pools:
                del self._waiting_for[name][kind]
        self._pass_by(needs)
        return True

    def _pass_by(self, needs: Needs) -> None:
        for name, amount in needs.pools.items():
            pool = self._pools[name]
            for other in self._waiting_for[name].values():
                if (
                    other.claimed is None
                    and other.priority == needs.priority
                    and pool.free < other.request[name]
                    and _needs_more(other.request, needs.pools)
                ):
                    other.passed[name] += amount
                    if other.passed[name] >= ROUNDS * pool.size.slots:
                        other.since = other.claimed = next(self._clock)

    def give_back(self, stage: Any) -> None:
        held = self._held.pop(stage, None)
        if held:
            for name, slots in held.slots.items():
                self._pools[name].give_back(slots)

    def held(self, stage: Any) -> Mapping[str, Slots]:
        """The slots that a stage has, by pool."""
        held = self._held.get(stage)
        return held.slots if held else {}

    def _taken(self, name: str, since: int) -> int:
        return sum(
            held.slots[name].amount
            for held in self._held.values()
            if held.since > since and name in held.slots
        )

    def validate(self) -> None:
        """Check that each slot is free or taken once; for tests."""
        for name, pool in self._pools.items():
            pool.validate(h.slots[name] for h in self._holders(name))

    def _holders(self, name: str) -> Iterator[_Held]:
        return (held for held in self._held.values() if name in held.slots)


def _kind(needs: Needs) -> Kind:
    return needs.priority, tuple(sorted(needs.pools.items()))


def _comes_first(one: _Waiting, other: _Waiting) -> bool:
    """Whether one has a claim against another one."""
    if one.priority != other.priority:
        return one.priority > other.priority
    if one.claimed is None:
        return False
    return other.claimed is None or one.claimed < other.claimed


def _needs_more(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    """Whether there are slots for one only where there would be for the other."""
    return any(amount > other.get(name, 0) for name, amount in one.items())
