"""The view of a run on a terminal: how far it is, and a line for each running stage.

It stays below all that is printed.  DVC prints everything in tqdm's "external write
mode", in which progress bars are taken away and put back; the view is such a bar, of
several lines.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, Optional

from dvc.progress import Tqdm
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from dvc_parallel.engine.plain_reporter import log
from dvc_parallel.engine.reporter_events import Phase, RunInfo
from dvc_parallel.engine.signals import clock, is_in_foreground
from dvc_parallel.engine.terminal import duration, visible

from .progress import Progress

# Seconds between two looks at whether there is something to draw, and between two
# drawings of what changes but slowly.
LOOK_EVERY = 0.1
DRAW_EVERY = 0.5
BAR_WIDTH = 24
# Loggers by whose levels the bars of DVC, and of what it is made of, decide whether to
# be there: in a run they would be for single stages, whose lines say what they do.
BARS = ("dvc.progress", "dvc_data.callbacks", "dvc_objects._tqdm")
# Outcomes of stages that are named above the view.
NAMED = frozenset({Phase.RAN, Phase.RESTORED, Phase.FAILED})
# What the stage does, where that is not to run its command.
DOING = {
    Phase.LOCK: "waits for the repo",
    Phase.QUEUED: "waits for a worker",
    Phase.CHECK: "is it changed?",
    Phase.RETRY: "next attempt",
    Phase.SAVE: "saving",
}


class LiveView(Progress):
    """Shows how far a run is, below everything else on the terminal."""

    def __init__(self, clock: Callable[[], float] = clock):
        super().__init__(clock)
        self._console = Console(stderr=True)
        self._widths: list[int] = []  # of the lines that are there
        self._drawn = 0.0
        self._left: tuple[float, Optional[str]] = (0.0, None)
        self._held = False
        self._bar: Optional[_Bar] = None
        loggers = map(logging.getLogger, BARS)
        self._levels = {logger: logger.level for logger in loggers}

    def begun(self, run: RunInfo) -> None:
        super().begun(run)
        self._bar = _Bar(self)
        for bars in self._levels:
            bars.setLevel(logging.CRITICAL)

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        super().phase(stage, phase, **details)
        if phase in NAMED:
            name = visible(self.run.stages[stage].name)
            took = duration(details["seconds"])
            log(logging.INFO, "%s | %s in %s", name, phase.value, took)

    def due(self) -> Optional[float]:
        return None if self._bar is None else LOOK_EVERY

    def tick(self) -> None:
        if self._bar is None:
            return
        age = self.clock() - self._drawn
        if age >= DRAW_EVERY or (age >= LOOK_EVERY and not self._widths):
            with Tqdm.get_lock():
                self.erase()
                self.draw()

    @contextmanager
    def hold(self) -> Iterator[None]:
        # NOTE: not for all of the time, as whoever logs something has other locks
        with Tqdm.get_lock():
            self.erase()
            self._held = True
        try:
            yield
        finally:
            self._held = False

    def stages_over(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            for bars, level in self._levels.items():
                bars.setLevel(level)

    def close(self) -> None:
        self.stages_over()

    def put_back(self) -> None:
        """Draw the view after something has been printed, or leave that to a tick."""
        if self.clock() - self._drawn >= LOOK_EVERY:
            self.erase()
            self.draw()

    def erase(self) -> None:
        """Take the view away; by whoever holds tqdm's lock."""
        if not self._widths:
            return
        # NOTE: a terminal that has become narrower has broken its lines
        columns = max(1, self._console.width)
        rows = sum(max(1, -(-width // columns)) for width in self._widths)
        self._widths = []
        self._write(f"\r\x1b[{rows}A\x1b[J")

    def draw(self) -> None:
        """Draw the view; by whoever holds tqdm's lock."""
        if self._held or self._bar is None or not is_in_foreground():
            return
        columns, rows = self._console.size
        # NOTE: what fills a whole row may or may not go on to the next one
        lines = self.lines(columns - 1, rows - 1)
        with self._console.capture() as capture:
            for line in lines:
                self._console.print(line, no_wrap=True, crop=False, soft_wrap=True)
        self._widths = [cell_len(line.plain) for line in lines]
        self._drawn = self.clock()
        self._write(capture.get())

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def lines(self, width: int, height: int) -> list[Text]:
        """The lines of the view on a terminal of this size."""
        stages = self.oldest_first()
        room = max(0, height - 1)
        shown = stages if len(stages) <= room else stages[: max(0, room - 1)]
        names = [visible(self.run.stages[stage].name) for stage in shown]
        column = min(max(map(cell_len, names), default=0), max(8, width // 3))
        lines = [self._head(width, len(stages))]
        lines += [self._line(*pair, column) for pair in zip(shown, names)]
        if len(shown) < len(stages) and room:
            lines.append(Text(f"and {len(stages) - len(shown)} more", "dim"))
        for line in lines:
            line.truncate(max(1, width), overflow="ellipsis")
        return lines

    def _head(self, width: int, running: int) -> Text:
        total = max(1, len(self.run.stages))
        size = min(BAR_WIDTH, width // 4)
        full = size * len(self.over) // total
        ascii_only = self._console.options.ascii_only
        done, rest = ("#", "-") if ascii_only else ("━", "─")
        head = Text().append(done * full, "green")
        head.append(rest * (size - full), "dim")
        head.append(f" {len(self.over)}/{len(self.run.stages)}", "bold")
        head.append(f", {running} running")
        if self.failed:
            head.append(f", {self.failed} failed", "red")
        if left := self._time_left():
            head.append(f", {left}")
        return head

    def _time_left(self) -> Optional[str]:
        # NOTE: with thousands of stages, this takes a while
        asked, left = self._left
        if not asked or self.clock() - asked >= 1:
            left = self.left()
            self._left = self.clock(), left
        return left

    def _line(self, stage: int, name: str, column: int) -> Text:
        line = Text(name)
        line.truncate(column, overflow="ellipsis", pad=True)
        line.stylize("cyan")
        line.append(f" {_clock(self.seconds(stage)):>7}  ")
        doing = DOING.get(self.phases.get(stage, Phase.COMMAND))
        if doing:
            line.append(doing, "dim")
        else:
            if worker := self.workers.get(stage):
                line.append(f"on {visible(worker)}  ", "dim")
            last = Text.from_ansi(self.last_line(stage)).plain
            line.append("".join(c if c.isprintable() else " " for c in last))
        return line


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Bar(Tqdm):
    """Stands for the view among the progress bars."""

    def __init__(self, view: LiveView):
        self._view = view
        super().__init__(disable=False)

    def display(self, *_args: Any, **_kwargs: Any) -> None:
        self._view.put_back()

    def clear(self, *_args: Any, **_kwargs: Any) -> None:
        self._view.erase()

    def close(self) -> None:
        self.disable = True
        with self.get_lock():
            self.clear()
            self._decr_instances(self)
