"""``dvc-parallel watch``: the live view of a run of another process.

The journal of the run is told to the reporters that the run itself would have, so there
is no second view.  Nothing is written, and nothing of the run knows of it.
"""

import os
import select
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Any, Optional

from dvc.cli.command import CmdBaseNoRepo
from dvc.utils import relpath

from dvc_parallel.engine.plain_reporter import TAIL_LINES, TAIL_WIDTH
from dvc_parallel.engine.reporter_events import Phase, RunInfo, StageInfo, Summary
from dvc_parallel.engine.signals import STOPS, as_events, is_in_foreground, stop
from dvc_parallel.reporting.choose_reporters import for_watchers
from dvc_parallel.reporting.records import Run, Runs
from dvc_parallel.reporting.records.log_files import end_of
from dvc_parallel.reporting.records.reader import RecordError

from .shown import ShowsSafely, error_write, write

# Seconds between two looks at the keyboard, and at the journal and the logs.
LOOK_EVERY = 0.1
READ_EVERY = 0.4
# Bytes at the end of a log that are read, for its last lines.
TAIL = TAIL_LINES * TAIL_WIDTH

OVER, LEFT = "over", "left"


class CmdWatch(ShowsSafely, CmdBaseNoRepo):
    """Does not lock the repo, and only reads."""

    def run(self) -> int:
        run = _choose(Runs.of_repo(), self.args.run)
        shown = _Replay(run)
        try:
            how = _watch(shown)
        finally:
            shown.take_away()
        if how != OVER:
            write(f"Left run {run.id}, which goes on.")
            return 0
        shown.sum_up()
        if run.state == "killed":
            error_write(f"run {run.id} was killed")
        return 0 if run.end == "ok" else 1


def _choose(runs: Runs, run_id: Optional[str]) -> Run:
    """The newest run that goes on, or the one that was asked for.

    Raises:
        RecordError: there is none.
    """
    last = runs.load(run_id)
    if run_id or last.goes_on:
        return last
    for run in runs.all(newest_first=True):
        if run.goes_on:
            return run
    raise RecordError(
        f"no run goes on: the last one, {last.id}, has ended ({last.state}). "
        "`dvc-parallel logs` shows its stages"
    )


class _Replay:
    """Tells reporters what the journal of a run tells.

    Args:
        run: the run; updated by :meth:`tell`.
    """

    def __init__(self, run: Run):
        self.run = run
        self._told = [0] * len(run.stages)  # phases of each stage
        self._at: Optional[float] = None  # the time of the phase that is being told
        self._ahead = run.now - time.monotonic()
        self._info = RunInfo(
            [
                StageInfo(
                    stage.name,
                    self._ranks(stage.upstream),
                    self._ranks(stage.after),
                    stage.seconds,
                )
                for stage in run.stages
            ],
            run.header.get("jobs", 1),
            run.header.get("on_error", "fail"),
        )
        self.view, self._lines = for_watchers(self._log_of, self._clock)
        for reporter in (self.view, self._lines):
            reporter.begun(self._info)
        self._is_news = False  # rather than what was before
        self._tell_phases()
        self._is_news = True

    def _ranks(self, ranks: list[int]) -> tuple[int, ...]:
        return tuple(rank for rank in ranks if 0 <= rank < len(self._told))

    def _clock(self) -> float:
        return self._ahead + time.monotonic() if self._at is None else self._at

    def _log_of(self, stage: int) -> str:
        return relpath(self.run.logs.path_of(self.run.stages[stage].log))

    def tell(self) -> None:
        """Tell what is new.

        Raises:
            RecordError: the journal cannot be read any more.
        """
        self.run.update()
        self._tell_phases()
        for stage in self.view.oldest_first():
            self.view.output(stage, "stdout", self._end_of_log(stage))

    def _tell_phases(self) -> None:
        new = [
            (when, rank, place, phase, details)
            for rank, stage in enumerate(self.run.stages)
            for place, (when, phase, details) in enumerate(stage.phases)
            if place >= self._told[rank]
        ]
        for when, rank, place, phase, details in sorted(new, key=itemgetter(0, 1, 2)):
            self._at, self._told[rank] = when, place + 1
            # NOTE: a journal may be damaged, or made by somebody else
            with suppress(KeyError, ValueError, TypeError):
                self._tell_phase(rank, Phase(phase), details)
        self._at = None

    def _tell_phase(self, stage: int, phase: Phase, details: dict[str, Any]) -> None:
        self.view.phase(stage, phase, **details)
        if phase is Phase.FAILED:
            self._lines.output(stage, "stdout", self._end_of_log(stage))
        # NOTE: of what was over before, only failures are news
        if self._is_news or phase is Phase.FAILED:
            self._lines.phase(stage, phase, **details)

    def _end_of_log(self, stage: int) -> bytes:
        with suppress(OSError):
            return end_of(self.run.logs, self.run.stages[stage].log, TAIL)
        return b""

    def take_away(self) -> None:
        """Take the view away."""
        for reporter in (self.view, self._lines):
            reporter.stages_over()
            reporter.close()

    def sum_up(self) -> None:
        """Show what has failed, and what the run has done."""
        stages = self.run.stages
        summary = Summary(
            self.run.end or "interrupted",
            self.run.now,
            sum(stage.took or 0.0 for stage in stages),
            Counter(stage.phase for stage in stages if stage.phase),
            [rank for rank, it in enumerate(stages) if it.phase == Phase.FAILED],
        )
        self._lines.ended(summary)


def _watch(shown: _Replay) -> str:
    """Show a run until it is over or the user leaves."""
    signals: list[int] = []
    with as_events(signals.append, lambda: None, lambda: None):
        while True:
            with _keys() as has_keys:
                how = _watch_until(shown, signals, has_keys)
            if how:
                return how
            with shown.view.hold():
                stop(signals.pop())


def _watch_until(shown: _Replay, signals: list[int], has_keys: bool) -> Optional[str]:
    """The same; None if a signal is to stop this process."""
    next_read = 0.0
    while True:
        if signals:
            return None if signals[-1] in STOPS else LEFT
        if time.monotonic() >= next_read:
            shown.tell()
            next_read = time.monotonic() + READ_EVERY
            if not shown.run.goes_on:
                return OVER
        if shown.view.due() is not None:
            shown.view.tick()
        if not has_keys or not is_in_foreground():
            time.sleep(LOOK_EVERY)
        elif select.select([sys.stdin], [], [], LOOK_EVERY)[0]:
            key = os.read(sys.stdin.fileno(), 1)
            if key in (b"q", b"Q", b""):
                return LEFT


@contextmanager
def _keys() -> Iterator[bool]:
    """Let keys be read when they are pressed, if there is a keyboard."""
    if sys.platform == "win32" or not sys.stdin or not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    if not is_in_foreground():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin, termios.TCSANOW)
    try:
        yield True
    finally:
        # NOTE: in the background this would stop the process, and a shell has its own
        if is_in_foreground():
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
