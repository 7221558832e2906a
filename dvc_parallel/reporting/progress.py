"""The progress of a run, for the reporters that show it."""

import logging
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable, Optional

from dvc_parallel.engine.plan import longest_paths
from dvc_parallel.engine.reporter_events import (
    FINAL,
    Phase,
    Reporter,
    RunInfo,
    StageInfo,
)

# Bytes at the end of some output in which the last line is looked for.
LAST_LINE = 1000
# Loggers by whose levels the bars of DVC, and of what it is made of, decide whether to
# be there: in a run they would be for single stages, and among the lines of others.
BARS = ("dvc.progress", "dvc_data.callbacks", "dvc_objects._tqdm")


class Progress(Reporter):
    """Follows the stages of a run.

    Attributes:
        run: what was known when it began.
        running: when each stage that is at work has begun.
        phases: the phase of each of these.
        workers: where the command of each of these runs, if not on this machine.
        over: stages that have ended.
        not_run: those of them that did not run, as another has failed.
        failed (int): how many of these have failed.
    """

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.run = RunInfo((), 1, "fail")
        self.running: dict[int, float] = {}
        self.phases: dict[int, Phase] = {}
        self.workers: dict[int, str] = {}
        self.over: set[int] = set()
        self.not_run: set[int] = set()
        self._begun: set[int] = set()  # those that have had the repo, and are not over
        self.failed = 0
        self._last: dict[int, bytes] = {}
        self._owned = 0.0  # seconds for which those that are over kept others waiting
        self._levels: dict[logging.Logger, int] = {}  # of bars, before the run

    def begun(self, run: RunInfo) -> None:
        self.run = run
        for bars in map(logging.getLogger, BARS):
            self._levels[bars] = bars.level
            bars.setLevel(logging.CRITICAL)

    def stages_over(self) -> None:
        while self._levels:
            bars, level = self._levels.popitem()
            bars.setLevel(level)

    def close(self) -> None:
        self.stages_over()

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        if phase in FINAL:
            self.over.add(stage)
            self._begun.discard(stage)
            if phase is Phase.NOT_RUN:
                self.not_run.add(stage)
            self.failed += phase is Phase.FAILED
            self._owned += details.get("owned", 0.0)
            for known in (self.running, self.phases, self.workers, self._last):
                known.pop(stage, None)
        elif phase is not Phase.READY:
            self.phases[stage] = phase
            if phase is not Phase.LOCK:
                self._begun.add(stage)
            self.running.setdefault(stage, self.clock())
            if worker := details.get("worker"):
                self.workers[stage] = worker

    def output(self, stage: int, stream: str, data: bytes) -> None:  # noqa: ARG002
        line = data[-LAST_LINE:].rstrip().replace(b"\r", b"\n").rpartition(b"\n")[2]
        if line and stage in self.running:
            self._last[stage] = line

    def last_line(self, stage: int) -> str:
        """The last line that a stage has printed."""
        return self._last.get(stage, b"").decode(errors="replace")

    def oldest_first(self) -> list[int]:
        """The stages that have been started."""
        return sorted(self.running.copy(), key=lambda s: (self.running.get(s, 0.0), s))

    def at_work(self) -> list[int]:
        """Those of them that do not wait for their first turn, the oldest first."""
        return [stage for stage in self.oldest_first() if stage in self._begun]

    @property
    def done(self) -> int:
        """How many stages have ended, without those that did not run."""
        return len(self.over) - len(self.not_run)

    def seconds(self, stage: int) -> float:
        """For how long a stage has been at work."""
        now = self.clock()
        return now - self.running.get(stage, now)

    def left(self) -> Optional[str]:
        """How long the run will still take, as users read it; None if not known."""
        elapsed = {stage: self.seconds(stage) for stage in self.running.copy()}
        owned = self._owned / max(1, len(self.over))
        seconds = time_left(self.run.stages, self.over, elapsed, self.run.jobs, owned)
        return None if seconds is None else f"about {about(seconds)} left"


def about(seconds: float) -> str:
    """Some seconds as users read them, where these are but guessed."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"


def time_left(
    stages: Sequence[StageInfo],
    over: Collection[int],
    elapsed: Mapping[int, float],
    jobs: int,
    owned: float = 0.0,
) -> Optional[float]:
    """Seconds that a run will take at least, if stages take what they took before.

    That is the longest path of what is left, or all of it divided by the jobs (Graham,
    SIAM Journal on Applied Mathematics 17(2), 1969: list scheduling takes less than
    twice as long), or what DVC itself does, for one stage at a time.  A stage of which
    nothing is known counts as the median.

    Args:
        stages: all stages of the run.
        over: those that have ended.
        elapsed: for how many seconds others have been running.
        jobs: how many stages may run a command at a time.
        owned: seconds for which each of them keeps others from the repo.

    Returns:
        float: seconds, or None if nothing is known of any stage.
    """
    known = [stage.seconds for stage in stages if stage.seconds is not None]
    if not known:
        return None
    usual = statistics.median(known)
    left = [0.0] * len(stages)
    for rank, stage in enumerate(stages):
        if rank not in over:
            seconds = usual if stage.seconds is None else stage.seconds
            left[rank] = max(0.0, seconds - elapsed.get(rank, 0.0))
    paths = longest_paths(
        range(len(stages)),
        lambda rank: (*stages[rank].upstream, *stages[rank].after),
        left,
    )
    return max(sum(left) / jobs, owned * (len(stages) - len(over)), *paths.values())
