"""Which stage is next, if stages need more than a slot; pure as the plan is."""

import heapq
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Optional, Protocol

from dvc_parallel.engine.plan import LookAgain

# Seconds from one look at what changes as time passes to the next.
LOOK = 1.0


class Admission(Protocol):
    """What stages need besides a slot.  Owned by the owner of the plan."""

    def queue(self, stage: Any) -> Hashable:
        """Take note that a stage is ready.

        Returns:
            Its kind: of one kind, either all can start now or none can.
        """

    def permits(self, stage: Any) -> bool:
        """Whether a stage that is ready could start now."""

    def goes_first(self, stage: Any) -> bool:
        """Whether a stage that is ready goes before all others of its priority."""

    def take(self, stage: Any) -> bool:
        """Give a stage all that it needs to start, if it is permitted.

        That must not make what was not permitted possible for others.
        """

    def give_back(self, stage: Any) -> None:
        """Take back what a stage was given: its commands have ended."""


class AdmissionQueue:
    """The ready queue of stages with priorities, which have to be admitted.

    The higher priority goes first, before what the plan goes by otherwise.  The queue
    is greedy: a stage that has to wait for what it needs does not hold up others behind
    it, unless the admission says so.

    Also a :class:`dvc_parallel.engine.executor.Waker`.

    Args:
        admission: says which stages may start, and gives them what they need.
        priority: the higher goes first; 0 of all others.
        has_to_look: whether more may be admitted as time passes.
    """

    def __init__(
        self,
        admission: Admission,
        priority: Optional[Mapping[Any, float]] = None,
        has_to_look: bool = False,
    ):
        self._admission = admission
        self._priority = priority or {}
        self._has_to_look = has_to_look
        # NOTE: by kind, so that of many that cannot start only one is looked at
        self._kinds: dict[Hashable, list[tuple[tuple, Any]]] = {}
        self.give_back = admission.give_back

    def add(self, stage: Any, place: tuple) -> None:
        kind = self._admission.queue(stage)
        place = (-self._priority.get(stage, 0), *place)
        heapq.heappush(self._kinds.setdefault(kind, []), (place, stage))

    def starting(self) -> Iterator[Any]:
        firsts = [self._first(kind) for kind in self._kinds]
        heapq.heapify(firsts)
        while firsts:
            *_, (_, stage), kind = heapq.heappop(firsts)
            if not self._admission.take(stage):
                continue
            ready = self._kinds[kind]
            heapq.heappop(ready)
            if ready:
                heapq.heappush(firsts, self._first(kind))
            else:
                del self._kinds[kind]
            yield stage

    def _first(self, kind: Hashable) -> tuple[int, bool, tuple, Hashable]:
        """The first stage of a kind, after what tells its place among others."""
        place, stage = first = self._kinds[kind][0]
        return place[0], not self._admission.goes_first(stage), first, kind

    def could_start(self) -> bool:
        return any(self._admission.permits(stage) for stage in self)

    def __iter__(self) -> Iterator[Any]:
        return (stage for ready in self._kinds.values() for _, stage in ready)

    def due(self) -> Optional[float]:
        return LOOK if self._has_to_look and self._kinds else None

    def events(self) -> Iterable[LookAgain]:
        return (LookAgain(),)
