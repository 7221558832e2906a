"""Which stage starts when, if stages need more than a slot; pure as the plan is."""

import heapq
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Protocol, Union

from dvc_parallel.engine.plan import Event, Instruction, Plan, Start, State


@dataclass(frozen=True)
class LookAgain:
    """Event: by now, more may be admitted."""


@dataclass(frozen=True)
class Postponed:
    """Event: the stage was started, but cannot go on before it is resumed.

    It has not done anything, and gives back its slot and what it was admitted to.
    """

    stage: Any


@dataclass(frozen=True)
class Resumed:
    """Event: the stage that was postponed could start again."""

    stage: Any


class Admission(Protocol):
    """What stages need besides a slot; a plan asks for it when it starts them.

    Owned by the owner of the plan.
    """

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


class PooledPlan(Plan):
    """As :class:`Plan`, whose other arguments it takes; of priorities and admissions.

    The higher ``priority`` goes first, before what the plan goes by otherwise.  It is
    greedy: a stage that has to wait for what it needs does not hold up others behind
    it, unless the ``admission`` says so.

    Args:
        priority: the higher goes first; 0 of all others.
        admission: says which stages may start, and gives them what they need.
    """

    def __init__(
        self,
        *args: Any,
        admission: Admission,
        priority: Optional[Mapping[Any, int]] = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self._admission = admission
        self._priority = priority or {}
        # NOTE: by kind, so that of many that cannot start only one is looked at
        self._kinds: dict[Hashable, list[tuple[tuple[int, float, int], Any]]] = {}
        self._postponed: set[Any] = set()  # that are ready, and not in a queue

    def handle(
        self, event: Union[Event, LookAgain, Postponed, Resumed]
    ) -> list[Instruction]:
        if isinstance(event, Postponed):
            self._move(event.stage, State.READY, {State.RUNNING})
            self._postponed.add(event.stage)
        elif isinstance(event, Resumed):
            self._postponed.remove(event.stage)
            self._queue(event.stage)
        elif not isinstance(event, LookAgain):
            return super().handle(event)
        return list(self._starts())

    def _queue(self, stage: Any) -> None:
        kind = self._admission.queue(stage)
        place = (-self._priority.get(stage, 0), *self._place(stage))
        heapq.heappush(self._kinds.setdefault(kind, []), (place, stage))

    def _queued(self) -> Iterable[Any]:
        return (*self._postponed, *self._in_queues())

    def _in_queues(self) -> Iterable[Any]:
        return (stage for ready in self._kinds.values() for _, stage in ready)

    def _could_start(self) -> bool:
        return any(self._admission.permits(stage) for stage in self._in_queues())

    def _starts(self) -> Iterable[Start]:
        if self.stopping or not self._slot_is_free():
            return
        firsts = [self._first(kind) for kind in self._kinds]
        heapq.heapify(firsts)
        while firsts and self._slot_is_free():
            *_, (_, stage), kind = heapq.heappop(firsts)
            if not self._admission.take(stage):
                continue
            ready = self._kinds[kind]
            heapq.heappop(ready)
            if ready:
                heapq.heappush(firsts, self._first(kind))
            else:
                del self._kinds[kind]
            self._move(stage, State.RUNNING, {State.READY})
            yield Start(stage, stage in self._forced)

    def _first(self, kind: Hashable) -> tuple[int, bool, tuple, Hashable]:
        """The first stage of a kind, after what tells its place among others."""
        place, stage = first = self._kinds[kind][0]
        return place[0], not self._admission.goes_first(stage), first, kind

    def _move(self, stage: Any, to: State, allowed: set[State]) -> None:
        state = self._state.get(stage)
        super()._move(stage, to, allowed)
        if state is State.RUNNING:
            self._admission.give_back(stage)
