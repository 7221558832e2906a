"""A line from time to time while nothing else is printed, as in the log of a CI."""

import logging
import time
from typing import Any, Callable, Optional

from dvc_parallel.engine.plain_reporter import PlainReporter, log
from dvc_parallel.engine.reporter_events import Phase, RunInfo
from dvc_parallel.engine.terminal import duration, visible

from .progress import Progress

# Seconds without any other line.
EVERY = 60.0
# Stages that are named.
NAMED = 4


class Heartbeat(Progress):
    """Tells once a minute that the run goes on, if nothing else does.

    Args:
        shown: prints the output of stages.
    """

    def __init__(
        self, shown: PlainReporter, clock: Callable[[], float] = time.monotonic
    ):
        super().__init__(clock)
        self._shown = shown
        self._lines_shown = 0
        self._last_time = 0.0
        self._handler = logging.Handler(logging.INFO)
        self._handler.emit = lambda _record: self._note()  # type: ignore[assignment,method-assign]

    def begun(self, run: RunInfo) -> None:
        super().begun(run)
        self._note()
        # NOTE: all that DVC says goes through it
        logging.getLogger("dvc").addHandler(self._handler)

    def close(self) -> None:
        super().close()
        logging.getLogger("dvc").removeHandler(self._handler)

    def _note(self) -> None:
        self._last_time = self.clock()

    def output(self, stage: int, stream: str, data: bytes) -> None:
        super().output(stage, stream, data)
        self._look()

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        super().phase(stage, phase, **details)
        self._look()

    def _look(self) -> None:
        """See whether something has been printed in response to an event."""
        if self._shown.times_shown != self._lines_shown:
            self._lines_shown = self._shown.times_shown
            self._note()

    def due(self) -> Optional[float]:
        return max(0.0, self._last_time + EVERY - self.clock())

    def tick(self) -> None:
        if self.clock() - self._last_time >= EVERY:
            self._note()
            log(logging.INFO, "%s", self.line())

    def line(self) -> str:
        """Such as "[12/3000] 2 running: train@svm 61.0 s, b 2.1 s; about 2 h left"."""
        stages = self.at_work()
        names = [
            f"{visible(self.run.stages[stage].name)} {duration(self.seconds(stage))}"
            for stage in stages[:NAMED]
        ]
        if len(stages) > NAMED:
            names.append("...")
        parts = [f"{len(stages)} running"]
        if names:
            parts[0] += f": {', '.join(names)}"
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.not_run:
            parts.append(f"{len(self.not_run)} not run")
        if left := self.left():
            parts.append(left)
        count = f"[{self.done}/{len(self.run.stages)}]"
        return f"{count} {'; '.join(parts)}"
