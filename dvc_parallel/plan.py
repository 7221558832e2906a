"""Which stage starts when: the pure part of a parallel run.

    events of the run ──> Plan.handle() ──> instructions for the executor
    (a stage finished,                      (start this stage,
     failed, Ctrl-C)                         skip that one)

No threads, no I/O, no DVC: stages are any hashable values.  Only
:meth:`Plan.handle` changes a plan, so whoever calls it (the executor's loop)
owns it.
"""

import heapq
import statistics
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Optional, Protocol

from .events import (
    Begun,
    CommandEnded,
    Event,
    Failed,
    Finished,
    Instruction,
    Interrupted,
    Skip,
    Start,
    Wait,
    Withdrawn,
)


class State(Enum):
    """Where a stage stands; it only ever moves down this list."""

    WAITING = "waiting"  # for another stage
    READY = "ready"  # could start, waits for a slot
    RUNNING = "running"  # holds a slot
    SAVING = "saving"  # its command has ended: holds no slot any more
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # something upstream of it has failed, or the run has stopped


FINAL = frozenset({State.DONE, State.FAILED, State.SKIPPED})


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

    def take(self, stage: Any) -> bool:
        """Give a stage all that it needs to start, if it is permitted.

        That must not make what was not permitted possible for others.
        """

    def give_back(self, stage: Any) -> None:
        """Take back what a stage was given: its commands have ended."""


class All:
    """The admission of stages that need nothing."""

    def queue(self, stage: Any) -> Hashable:  # noqa: ARG002
        return None

    def permits(self, stage: Any) -> bool:  # noqa: ARG002
        return True

    def take(self, stage: Any) -> bool:  # noqa: ARG002
        return True

    def give_back(self, stage: Any) -> None:
        pass


class PlanError(AssertionError):
    """An event that cannot happen; tells the story of its stage so far."""


class Plan:
    """Decides what runs next: list scheduling by longest remaining path.

    A stage is ready when all its upstreams and all stages that it has to come
    ``after`` are through.  Of the ready ones, the one with the longest path of
    dependents still before it starts first (Hu's algorithm, Operations
    Research 9(6), 1961), ties in the order of ``steps``. A path is as long as its
    stages took in earlier runs; one that is not known counts as the median of those
    that are.  Before all that, the higher ``priority`` goes first.

    It is greedy: a stage that has to wait for what it needs does not hold up others
    behind it, unless the ``admission`` says so.

    Args:
        steps: all stages of the run, in the order in which serial DVC runs
            them: upstreams before their dependents.
        upstream: the stages that a stage depends on. Those that are not in
            ``steps`` do not count.
        after: stages that a stage has to wait for without depending on them:
            however they end, it runs.
        seconds: how long stages took in earlier runs, as far as it is known.
        priority: the higher goes first; 0 of all others.
        jobs: how many stages may run a command at a time, at least 1.
        admission: says which stages may start, and gives them what they need.
        on_error: what a failure means for the rest, as in ``dvc repro``:
            "fail", "keep-going" or "ignore".
        force: reproduce every stage even if unchanged.
        force_downstream: reproduce the direct dependents of every stage that
            was reproduced.
    """

    def __init__(
        self,
        steps: Sequence[Any],
        upstream: Mapping[Any, Iterable[Any]],
        after: Optional[Mapping[Any, Iterable[Any]]] = None,
        seconds: Optional[Mapping[Any, float]] = None,
        priority: Optional[Mapping[Any, int]] = None,
        jobs: int = 1,
        admission: Optional[Admission] = None,
        on_error: str = "fail",
        force: bool = False,
        force_downstream: bool = False,
    ):
        self.jobs = jobs
        self.on_error = on_error
        self.force_downstream = force_downstream
        self.stopping = False

        self._rank = {stage: rank for rank, stage in enumerate(steps)}
        self._state = dict.fromkeys(steps, State.WAITING)
        self._story = {stage: [State.WAITING] for stage in steps}
        self._forced = set(steps) if force else set()
        self._count = Counter({State.WAITING: len(self._rank)})
        self._admission: Admission = admission or All()
        self._priority = priority or {}
        # NOTE: by kind, so that of many that cannot start only one is looked at
        self._ready: dict[Hashable, list[tuple[int, float, int, Any]]] = {}
        self._new: list[Any] = []  # that have become ready in this event

        self._dependents: dict[Any, list[Any]] = defaultdict(list)
        self._followers: dict[Any, list[Any]] = defaultdict(list)
        self._waits_for: dict[Any, int] = {}
        for stage in steps:
            ups = self._known(stage, upstream)
            before = self._known(stage, after or {}) - ups
            for up in ups:
                self._dependents[up].append(stage)
            for other in before:
                self._followers[other].append(stage)
            self._waits_for[stage] = len(ups) + len(before)

        seconds = seconds or {}
        usual = statistics.median(seconds.values()) if seconds else 1.0
        self._height: dict[Any, float] = {}
        for stage in reversed(steps):
            self._height[stage] = seconds.get(stage, usual) + max(
                (self._height[other] for other in self._behind(stage)), default=0.0
            )

    def _known(self, stage, relation) -> set[Any]:
        known = {other for other in relation.get(stage, ()) if other in self._rank}
        late = [other for other in known if self._rank[other] >= self._rank[stage]]
        if late:
            raise PlanError(f"{stage!r} comes before {late!r}, which it waits for")
        return known

    def _behind(self, stage) -> Iterable[Any]:
        yield from self._dependents[stage]
        yield from self._followers[stage]

    def __len__(self) -> int:
        return len(self._rank)

    @property
    def done(self) -> bool:
        """Whether nothing runs, and nothing will be started any more."""
        if self._count[State.RUNNING] or self._count[State.SAVING]:
            return False
        return self.stopping or not (
            self._count[State.WAITING] or self._count[State.READY]
        )

    def state(self, stage: Any) -> State:
        return self._state[stage]

    def count(self, state: State) -> int:
        return self._count[state]

    def handle(self, event: Event) -> list[Instruction]:
        """Take note of what has happened; say what is to be done now.

        Raises:
            PlanError: for an event that is impossible in the stage's state.
        """
        instructions: list[Instruction] = []
        if isinstance(event, Begun):
            for stage, count in self._waits_for.items():
                if not count:
                    self._make_ready(stage)
        elif isinstance(event, Interrupted):
            self.stopping = True
        elif isinstance(event, CommandEnded):
            self._move(event.stage, State.SAVING, {State.RUNNING})
        elif isinstance(event, Withdrawn):
            self._move(event.stage, State.SKIPPED, {State.RUNNING})
        elif isinstance(event, Finished):
            self._finished(event)
        elif isinstance(event, Failed):
            instructions += self._failed(event.stage)
        instructions += self._starts()
        instructions += (
            Wait(stage) for stage in self._new if self._state[stage] is State.READY
        )
        self._new.clear()
        return instructions

    def _finished(self, event: Finished) -> None:
        stage = event.stage
        self._move(stage, State.DONE, {State.RUNNING, State.SAVING})
        if self.force_downstream and (event.changed or stage in self._forced):
            self._forced.update(self._dependents[stage])
        self._release(stage)

    def _failed(self, stage: Any) -> Iterable[Skip]:
        self._move(stage, State.FAILED, {State.RUNNING, State.SAVING})
        if self.on_error == "fail":
            self.stopping = True
            return

        skipped = []
        if self.on_error == "keep-going":
            to_visit = list(self._dependents[stage])
            while to_visit:
                dependent = to_visit.pop()
                if self._state[dependent] is not State.SKIPPED:
                    self._move(dependent, State.SKIPPED, {State.WAITING})
                    skipped.append(dependent)
                    to_visit.extend(self._dependents[dependent])

        for other in sorted(skipped, key=self._rank.__getitem__):
            yield Skip(other, stage)
        for other in [stage, *skipped]:
            self._release(other)

    def _release(self, stage: Any) -> None:
        for other in self._behind(stage):
            self._waits_for[other] -= 1
            if not self._waits_for[other] and self._state[other] is State.WAITING:
                self._make_ready(other)

    def _make_ready(self, stage: Any) -> None:
        self._move(stage, State.READY, {State.WAITING})
        self._new.append(stage)
        kind = self._admission.queue(stage)
        place = (-self._priority.get(stage, 0), -self._height[stage], self._rank[stage])
        heapq.heappush(self._ready.setdefault(kind, []), (*place, stage))

    def _slot_is_free(self) -> bool:
        # NOTE: a stage whose outputs are being saved needs no slot, but stages
        # that end faster than the disk can take them must not pile up.
        running = self._count[State.RUNNING]
        in_flight = running + self._count[State.SAVING]
        return running < self.jobs and in_flight < 2 * self.jobs

    def _starts(self) -> Iterable[Start]:
        if self.stopping or not self._slot_is_free():
            return
        firsts = [(ready[0], kind) for kind, ready in self._ready.items()]
        heapq.heapify(firsts)
        while firsts and self._slot_is_free():
            (*_, stage), kind = heapq.heappop(firsts)
            if not self._admission.take(stage):
                continue
            ready = self._ready[kind]
            heapq.heappop(ready)
            if ready:
                heapq.heappush(firsts, (ready[0], kind))
            else:
                del self._ready[kind]
            self._move(stage, State.RUNNING, {State.READY})
            yield Start(stage, stage in self._forced)

    def _move(self, stage: Any, to: State, allowed: set[State]) -> None:
        state = self._state.get(stage)
        if state not in allowed:
            told = " -> ".join(s.value for s in self._story.get(stage, ()))
            raise PlanError(f"{stage!r} cannot become {to.value}; so far: {told}")
        assert state is not None
        self._count[state] -= 1
        self._count[to] += 1
        self._state[stage] = to
        self._story[stage].append(to)
        if state is State.RUNNING:
            self._admission.give_back(stage)

    def validate(self) -> None:
        """Check what must hold between two events; for tests.

        Raises:
            PlanError: when it does not.
        """

        def check(condition, message):
            if not condition:
                raise PlanError(message)

        check(
            +self._count == Counter(self._state.values()), "the states are miscounted"
        )
        check(self._count[State.RUNNING] <= self.jobs, "more stages run than jobs")
        ready = {stage for heap in self._ready.values() for *_, stage in heap}
        for stage, state in self._state.items():
            check((state is State.READY) == (stage in ready), f"{stage!r} is lost")
            if state in (State.WAITING, State.SKIPPED):
                continue
            for other in self._behind(stage):
                later = self._state[other] not in (State.WAITING, State.SKIPPED)
                check(
                    state in FINAL or not later,
                    f"{other!r} did not wait for {stage!r}",
                )
        if self._slot_is_free() and not self.stopping:
            for stage in ready:
                check(
                    not self._admission.permits(stage),
                    f"a slot is idle while {stage!r} is ready and permitted",
                )
