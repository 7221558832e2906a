"""The events of a run, and their delivery to several reporters."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Callable, Optional

from . import logger
from .terminal import duration, plural, speedup


class Phase(str, Enum):
    """What a stage is doing, and in the end its outcome.

    A phase lasts until the next one.  Before the first one, a stage waits for its
    upstreams.  The values of outcomes are the words that users read, everywhere.
    """

    READY = "ready"  # waits for a slot
    LOCK = "lock"  # waits for its turn of the repo, or for paths that others use
    CHECK = "check"  # owns the repo before a command: is it changed?
    QUEUED = "queued"  # waits for a worker
    COMMAND = "command"  # its command runs
    RETRY = "retry"  # owns the repo before its commands are tried again
    SAVE = "save"  # outputs are hashed and copied, dvc.lock is written

    RAN = "ran"
    RESTORED = "restored"  # outputs came from the run cache, no command ran
    UNCHANGED = "unchanged"
    FAILED = "failed"
    NOT_RUN = "not run"  # an upstream has failed, or the run has ended before its turn
    INTERRUPTED = "interrupted"  # a signal has stopped it

    # NOTE: that of Enum is a function in Python
    __hash__ = str.__hash__


# Phases that a stage ends in.
OUTCOMES = (
    *(Phase.RAN, Phase.RESTORED, Phase.UNCHANGED),
    *(Phase.FAILED, Phase.NOT_RUN, Phase.INTERRUPTED),
)
FINAL = frozenset(OUTCOMES)
# Those that leave outputs as they have to be.
GOOD = frozenset({Phase.RAN, Phase.RESTORED, Phase.UNCHANGED})


def outcomes_in_words(outcomes: Mapping[str, int]) -> str:
    """How many stages have which outcome, such as "3 ran, 1 failed"."""
    known = [*OUTCOMES, *(other for other in outcomes if other not in FINAL)]
    counts = ((outcomes.get(outcome, 0), str.__str__(outcome)) for outcome in known)
    return ", ".join(f"{count} {outcome}" for count, outcome in counts if count)


def run_in_words(
    stages: int, jobs: int, outcomes: Mapping[str, int], busy: float, seconds: float
) -> str:
    """What a run has done, such as "2 stages: 2 ran; 3.0 s of stage time in 2.0 s".

    Args:
        stages, jobs: how many it had.
        outcomes, busy, seconds: as in :class:`Summary`.
    """
    return (
        f"{plural(stages, 'stage')}: {outcomes_in_words(outcomes)}; "
        f"{duration(busy)} of stage time in {duration(seconds)} "
        f"with {plural(jobs, 'job')}{speedup(busy, seconds, ': {}')}"
    )


@dataclass(frozen=True)
class StageInfo:
    """A stage of a run; stages go by their places in the order of serial DVC.

    Attributes:
        name: as in DVC, such as "train@svm".
        upstream: stages that it depends on.
        after: stages that it comes after without depending on them.
        seconds: how long it took in earlier runs, if that is known.
    """

    name: str
    upstream: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    seconds: Optional[float] = None


def no_hints(_stage: int, _lines: Iterable[bytes]) -> Iterable[str]:
    """Hints of a run that has none."""
    return ()


@dataclass(frozen=True)
class RunInfo:
    """What is known when a run begins.

    Attributes:
        hints: tells why a stage may have failed, from the last lines that it has
            printed.
    """

    stages: Sequence[StageInfo]
    jobs: int
    on_error: str
    hints: Callable[[int, Iterable[bytes]], Iterable[str]] = no_hints


@dataclass(frozen=True)
class Summary:
    """The result of a run.

    Attributes:
        end: "ok", "failed" or "interrupted".
        seconds: how long it took.
        busy: how many seconds its stages took, added up.
        outcomes: how many stages had which outcome.
        failed: those that have failed by themselves.
    """

    end: str
    seconds: float
    busy: float
    outcomes: Mapping[str, int]
    failed: Sequence[int]

    def in_words(self, run: RunInfo) -> str:
        """The same in a line."""
        count = len(run.stages)
        return run_in_words(count, run.jobs, self.outcomes, self.busy, self.seconds)


class Reporter:
    """Is told what happens in a run.  This one ignores it.

    Any thread may call any method at any time between ``begun`` and ``close``; the
    others are called by the loop of the run.
    """

    def begun(self, run: RunInfo) -> None:
        """The run has begun."""

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        """A stage has got into a phase.

        Args:
            details: "cmd" of a command, the "error" of a stage that failed and the
                "exit" status of its command if that is why, and the stage that has
                "failed" and is why one is not run, or None.
                "seconds": how long a stage took, of which it has "owned" the repo.
                "pool": which one a stage that is ready waits for, if it does.
                "attempt": which one a retry is; its "error" is why.
                "worker": the name of the one that runs a command, if it is one.
                "used": what the command before it has used, as
                :meth:`~dvc_parallel.engine.usage.Usage.as_dict` has it.
        """

    def output(self, stage: int, stream: str, data: bytes) -> None:
        """A command of a stage has printed something.

        Args:
            stream: "stdout" or "stderr".
            data: as :data:`dvc_parallel.engine.runner.Output` has it.
        """

    def hold(self) -> Any:
        """Show nothing for a while, because the user is asked something.

        Returns:
            a context manager.
        """
        return ExitStack()

    def waiting_for_paths(self, stage: int, blocked: str) -> None:
        """Another process uses paths that a stage needs.

        Args:
            blocked: which one, and who it is.
        """

    def failing(self, stage: int, exc: BaseException, running: int) -> None:
        """A stage has failed; the run ends when those that are running have."""

    def interrupted(self, running: int) -> None:
        """A signal has been passed on to what is running."""

    def killing(self, running: int) -> None:
        """What is running gets killed."""

    def due(self) -> Optional[float]:
        """Seconds until ``tick`` is to be called, None for never."""
        return None

    def tick(self) -> None:
        """Time has passed."""

    def stages_over(self) -> None:
        """Nothing runs any more; what is still printed was left behind."""

    def ended(self, summary: Summary) -> None:
        """The run has ended by itself."""

    def close(self) -> None:
        """The run is over, in any case."""


class Reporters(Reporter):
    """Tells several reporters, in their order, and keeps their errors from the run.

    One that has raised something is told everything else nevertheless.
    """

    def __init__(self, *reporters: Reporter):
        self._reporters = reporters
        # NOTE: asked and told some ten times a stage, by the loop that starts stages
        self._timed = [each for each in reporters if type(each).due is not Reporter.due]

    @staticmethod
    def _has_raised(exc: Exception) -> None:
        with suppress(Exception):
            logger.debug("cannot report", exc_info=exc)

    @contextmanager
    def hold(self) -> Iterator[None]:
        with ExitStack() as stack:
            for reporter in self._reporters:
                try:
                    stack.enter_context(reporter.hold())
                except Exception as exc:  # noqa: BLE001
                    self._has_raised(exc)
            yield

    def due(self) -> Optional[float]:
        times: list[float] = []
        for reporter in self._timed:
            try:
                if (seconds := reporter.due()) is not None:
                    times.append(seconds)
            except Exception as exc:  # noqa: BLE001
                self._has_raised(exc)
        return min(times, default=None)


def _telling(event: str, reporters: str = "_reporters") -> Callable[..., None]:
    def tell(self: Reporters, *args: Any, **details: Any) -> None:
        for reporter in getattr(self, reporters):
            try:
                getattr(reporter, event)(*args, **details)
            except Exception as exc:  # noqa: BLE001
                self._has_raised(exc)

    return tell


for _event in (
    *("begun", "phase", "output", "waiting_for_paths", "failing"),
    *("interrupted", "killing", "stages_over", "ended", "close"),
):
    setattr(Reporters, _event, _telling(_event))
Reporters.tick = _telling("tick", "_timed")  # type: ignore[method-assign]
