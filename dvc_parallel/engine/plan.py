"""Which stage starts when: the pure part of a parallel run.

    events of the run ──> Plan.handle() ──> instructions for the executor
    (a stage finished,                      (start this stage,
     failed, Ctrl-C)                         skip that one)

No threads, no I/O, no DVC: stages are any hashable values but None.  Only
:meth:`Plan.handle` changes a plan, so whoever calls it (the holder of the executor's
guard) owns it, and its queue.
"""

import heapq
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Callable, Optional, Protocol, Union


class State(Enum):
    """Where a stage stands.

    It moves down this list, but for one that is postponed: that is ready again.
    """

    WAITING = "waiting"  # for another stage
    READY = "ready"  # could start, waits for a slot
    RUNNING = "running"  # holds a slot
    SAVING = "saving"  # its command has ended: holds no slot any more
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # something upstream of it has failed, or the run has stopped

    # NOTE: that of Enum is a function in Python
    __hash__ = object.__hash__


FINAL = frozenset({State.DONE, State.FAILED, State.SKIPPED})


@dataclass(frozen=True)
class _OfStage:
    stage: Any


@dataclass(frozen=True)
class Begun:
    """Event: the run has begun."""


class CommandEnded(_OfStage):
    """Event: the stage's last command has ended, its outputs get saved now."""


@dataclass(frozen=True)
class Finished(_OfStage):
    """Event: the stage is done; ``changed`` tells whether it was reproduced."""

    changed: bool


class Failed(_OfStage):
    """Event: the stage has failed."""


class Withdrawn(_OfStage):
    """Event: the stage was started, but the run has stopped before it did anything."""


class Postponed(_OfStage):
    """Event: the stage was started, but cannot go on before it is resumed.

    It has not done anything, and gives back its slot and what else it was given.
    """


class QueuedAgain(_OfStage):
    """Event: the stage was started, and has to start again with other slots.

    It gives back its slot and what else it was given, and is ready at once.
    """


class Resumed(_OfStage):
    """Event: the stage that was postponed could start again."""


@dataclass(frozen=True)
class LookAgain:
    """Event: by now, more stages may get what they need besides a slot."""


@dataclass(frozen=True)
class Interrupted:
    """Event: nothing new may start."""


class Wait(_OfStage):
    """Instruction: take note that this stage could start, and waits for a slot."""


@dataclass(frozen=True)
class Start(_OfStage):
    """Instruction: start this stage, with ``force`` even if unchanged."""

    force: bool


@dataclass(frozen=True)
class Skip(_OfStage):
    """Instruction: this stage does not run, because ``failed`` did."""

    failed: Any


Event = Union[
    Begun,
    CommandEnded,
    Finished,
    Failed,
    Withdrawn,
    Postponed,
    QueuedAgain,
    Resumed,
    LookAgain,
    Interrupted,
]
# What a stage that runs becomes with an event.
BECOMES = {
    CommandEnded: State.SAVING,
    Withdrawn: State.SKIPPED,
    Postponed: State.READY,
    QueuedAgain: State.READY,
}

Instruction = Union[Wait, Start, Skip]
Relation = Mapping[Any, Iterable[Any]]


class PlanError(AssertionError):
    """An event that cannot happen; tells the story of its stage so far."""


class ReadyQueue(Protocol):
    """The stages that are ready, and what they need to start besides a slot.

    Owned by the owner of the plan.
    """

    def add(self, stage: Any, place: tuple) -> None:
        """Queue a stage; of several, the one with the lowest place goes first."""

    def starting(self) -> Iterator[Any]:
        """The stages that can start now, one after the other.

        Each is taken out, and given what it needs, when it is asked for.
        """

    def give_back(self, stage: Any) -> None:
        """Take back what a stage was given: its commands have ended."""

    def could_start(self) -> bool:
        """Whether a stage waits for nothing but a slot; for tests."""

    def __iter__(self) -> Iterator[Any]:
        """The stages that wait."""


class InOrder:
    """The ready queue of stages that need nothing but a slot."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple, Any]] = []

    def add(self, stage: Any, place: tuple) -> None:
        heapq.heappush(self._heap, (place, stage))

    def starting(self) -> Iterator[Any]:
        while self._heap:
            yield heapq.heappop(self._heap)[1]

    def give_back(self, stage: Any) -> None:
        """There is nothing to take back."""

    def could_start(self) -> bool:
        return bool(self._heap)

    def __iter__(self) -> Iterator[Any]:
        return (stage for _, stage in self._heap)


def longest_paths(
    steps: Iterable[Any],
    before: Callable[[Any], Iterable[Any]],
    seconds: Union[Mapping[Any, float], Sequence[float]],
) -> dict[Any, float]:
    """Seconds of the longest path that ends with each step.

    Args:
        steps: each after all that come ``before`` it.
        seconds: how long each of them takes.
    """
    ends: dict[Any, float] = {}
    for step in steps:
        ends[step] = seconds[step] + max(
            (ends[other] for other in before(step)), default=0.0
        )
    return ends


class Plan:
    """Decides what runs next: list scheduling by longest remaining path.

    A stage is ready when all its upstreams and all stages that it has to come
    ``after`` are through.  Of the ready ones, the one with the longest path of
    dependents still before it starts first (Hu's algorithm, Operations
    Research 9(6), 1961), ties in the order of ``steps``. A path is as long as its
    stages took in earlier runs; one that is not known counts as the median of those
    that are.

    Args:
        steps: all stages of the run, in the order in which serial DVC runs
            them: upstreams before their dependents.
        upstream: the stages that a stage depends on. Those that are not in
            ``steps`` do not count.
        after: stages that a stage has to wait for without depending on them:
            however they end, it runs.
        seconds: how long stages took in earlier runs, as far as it is known.
        jobs: how many stages may run a command at a time, at least 1.
        on_error: what a failure means for the rest, as in ``dvc repro``:
            "fail", "keep-going" or "ignore".
        force: reproduce every stage even if unchanged.
        force_downstream: reproduce the direct dependents of every stage that
            was reproduced.
        found_late: called with stages that wait for nothing any more, before they can
            start; which stages have to come after which others as well, as it shows
            only now.
        ready: where stages that are ready wait for their turn.
    """

    def __init__(
        self,
        steps: Sequence[Any],
        upstream: Relation,
        after: Optional[Relation] = None,
        seconds: Optional[Mapping[Any, float]] = None,
        jobs: int = 1,
        on_error: str = "fail",
        force: bool = False,
        force_downstream: bool = False,
        found_late: Callable[[Sequence[Any]], Relation] = lambda _: {},
        ready: Optional[ReadyQueue] = None,
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
        self._ready = ready or InOrder()
        self._postponed: set[Any] = set()  # that are ready, and not in the queue
        self._new: list[Any] = []  # that have become ready in this event
        self._freed: list[Any] = []  # of which the last that they waited for is through
        self._found_late = found_late

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
        seconds = {stage: seconds.get(stage, usual) for stage in steps}
        self._height = longest_paths(reversed(steps), self._behind, seconds)

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
        elif isinstance(event, Finished):
            self._finished(event)
        elif isinstance(event, Failed):
            instructions += self._failed(event.stage)
        elif isinstance(event, (CommandEnded, Withdrawn, Postponed, QueuedAgain)):
            self._stopped_running(event)
        elif isinstance(event, Resumed):
            self._postponed.remove(event.stage)
            self._queue(event.stage)
        self._let_go()
        instructions += self._starts()
        instructions += (
            Wait(stage) for stage in self._new if self._state[stage] is State.READY
        )
        self._new.clear()
        return instructions

    def _stopped_running(
        self, event: Union[CommandEnded, Withdrawn, Postponed, QueuedAgain]
    ) -> None:
        self._move(event.stage, BECOMES[type(event)], {State.RUNNING})
        if isinstance(event, Postponed):
            self._postponed.add(event.stage)
        elif isinstance(event, QueuedAgain):
            self._new.append(event.stage)
            self._queue(event.stage)

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
                self._freed.append(other)

    def _let_go(self) -> None:
        """Make stages ready that wait for nothing, not even what is found out now."""
        freed, self._freed = self._freed, []
        if freed:
            for stage, others in self._found_late(freed).items():
                for other in others:
                    self._put_after(stage, other)
        for stage in freed:
            if not self._waits_for[stage]:
                self._make_ready(stage)

    def _put_after(self, stage: Any, other: Any) -> None:
        """Make a stage wait for another one, or the other way round if it is late."""
        if self._state[stage] is not State.WAITING:
            # NOTE: who has gone too early must not meet the other one at least. As it
            # waits for nobody, nobody waits in a circle.
            stage, other = other, stage
        if self._state[stage] is State.WAITING and self._state[other] not in FINAL:
            self._followers[other].append(stage)
            self._waits_for[stage] += 1

    def _make_ready(self, stage: Any) -> None:
        self._move(stage, State.READY, {State.WAITING})
        self._new.append(stage)
        self._queue(stage)

    def _queue(self, stage: Any) -> None:
        """Queue a stage that is ready for a slot."""
        self._ready.add(stage, (-self._height[stage], self._rank[stage]))

    def _slot_is_free(self) -> bool:
        # NOTE: a stage whose outputs are being saved needs no slot, but stages
        # that end faster than the disk can take them must not pile up.
        running = self._count[State.RUNNING]
        in_flight = running + self._count[State.SAVING]
        return running < self.jobs and in_flight < 2 * self.jobs

    def _starts(self) -> Iterable[Start]:
        if self.stopping:
            return
        starting = self._ready.starting()
        while self._slot_is_free():
            stage = next(starting, None)
            if stage is None:
                return
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
            self._ready.give_back(stage)

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
        ready = {*self._ready, *self._postponed}
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
        idle = self._ready.could_start() and not self.stopping and self._slot_is_free()
        check(not idle, "a slot is idle while a stage is ready")
