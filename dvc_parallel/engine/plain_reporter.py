"""What a parallel run tells its user, in plain lines."""

import logging
import shlex
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Callable, Optional, TextIO

from colorama import Fore
from dvc.progress import Tqdm

from .reporter_events import (
    FINAL,
    GOOD,
    Phase,
    Reporter,
    RunInfo,
    Summary,
    logger,
)
from .signals import exit_name, failure_reason
from .terminal import (
    columns_of,
    duration,
    harmless_on,
    has_colors,
    last_states,
    plural,
    visible,
    without_controls,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The last lines that are kept of each stage, and how many bytes of each.
TAIL_LINES = 10
TAIL_WIDTH = 1000
# Failed stages that are shown at the end, and how many of their last lines together.
MOST_FAILED = 50
MOST_LINES = 60
# Outcomes that have a line of their own.
NAMED = frozenset({Phase.RAN, Phase.RESTORED, Phase.FAILED})
RETRYING = "%s | %s; attempt %d"
COLORS = (Fore.CYAN, Fore.YELLOW, Fore.GREEN, Fore.MAGENTA, Fore.BLUE, Fore.RED)


def print_bytes(stream: TextIO, text: bytes) -> None:
    """Write whole lines to stdout or stderr, where progress bars may be as well."""
    with Tqdm.external_write_mode(file=stream):
        write(stream, text)


class PlainReporter(Reporter):
    """Prints whole lines, each with the name of its stage.

    What a command prints never makes a run fail: where it cannot be shown, it is
    dropped.

    Args:
        log_of: tells where all output of a stage is kept, if it is.
        write: writes lines to stdout or stderr.
        sums_up: whether it ends with a summary.

    Attributes:
        times_shown (int): how many times output has been shown.
    """

    def __init__(
        self,
        log_of: Optional[Callable[[int], Optional[str]]] = None,
        write: Callable[[TextIO, bytes], None] = print_bytes,
        sums_up: bool = True,
    ):
        self._run = RunInfo((), 1, "fail")
        self._log_of = log_of
        self._write = write
        self._sums_up = sums_up
        self._guard = threading.RLock()  # of stdout and stderr
        self._colors: dict[int, str] = {}
        self._begun: dict[tuple[int, str], bytes] = {}  # lines being overwritten
        self._tails: dict[int, deque[bytes]] = {}
        self._failed: dict[int, Mapping[str, Any]] = {}  # details of their failures
        self._over = False
        self.times_shown = 0

    def begun(self, run: RunInfo) -> None:
        self._run = run

    def _name(self, stage: int) -> str:
        return visible(self._run.stages[stage].name)

    def _prefix(self, stage: int, stream: TextIO) -> bytes:
        return self._colored(f"{self._name(stage)} | ", stage, stream)

    def _colored(self, text: str, stage: int, stream: TextIO) -> bytes:
        if has_colors(stream):
            count = len(self._colors)
            color = self._colors.setdefault(stage, COLORS[count % len(COLORS)])
            text = f"{color}{text}{Fore.RESET}"
        return text.encode(errors="replace")

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        if phase is Phase.COMMAND:
            self.command(stage, details["cmd"])
        elif phase is Phase.RETRY:
            self._retry(stage, **details)
        elif phase is Phase.LOCK or phase in FINAL:
            self._end_lines(stage)
            if phase in GOOD:
                self._tails.pop(stage, None)
            elif phase is Phase.FAILED:
                self._failed[stage] = details
            self._lines_ended(stage, phase, details)

    def _lines_ended(
        self, stage: int, phase: Phase, details: "Mapping[str, Any]"
    ) -> None:
        """Say how a stage has ended, if it has, after all that it has printed."""
        if phase in NAMED and logger.isEnabledFor(logging.INFO):
            # NOTE: the logger would take five times as long
            took = duration(details.get("seconds", 0.0))
            line = f"{phase.value} in {took}\n".encode()
            PlainReporter.show(self, stage, "stdout", line)

    def _retry(self, stage: int, attempt: int, error: str) -> None:
        with self._guard:
            log(logging.WARNING, RETRYING, self._name(stage), error, attempt)

    def command(self, stage: int, cmd: str) -> None:
        """Show a command that is about to run."""
        with self._guard:
            log(logging.INFO, "%s | > %s", self._name(stage), cmd)

    def output(self, stage: int, stream: str, data: bytes) -> None:
        data = self._begun.pop((stage, stream), b"") + data
        if b"\r" in data:
            columns = columns_of(getattr(sys, stream))
            room = columns and columns - len(f"{self._name(stage)} | ")
            data, begun = last_states(data, room)
            if begun:
                self._begun[stage, stream] = begun
        if data:
            self._keep_tail(stage, data)
            self.show(stage, stream, data)

    def _end_lines(self, stage: int) -> None:
        """Show lines that were being overwritten, unless with nothing."""
        for stream in ("stdout", "stderr"):
            if self._begun.get((stage, stream), b"").strip():
                self.output(stage, stream, b"\n")
            else:
                self._begun.pop((stage, stream), None)

    def _keep_tail(self, stage: int, data: bytes) -> None:
        tail = self._tails.get(stage)
        if tail is None:
            tail = self._tails.setdefault(stage, deque(maxlen=TAIL_LINES))
        lines = data[:-1] if data.endswith(b"\n") else data
        for line in lines.rsplit(b"\n", TAIL_LINES)[-TAIL_LINES:]:
            tail.append(line[-TAIL_WIDTH:])

    def show(self, stage: int, stream: str, data: bytes) -> None:
        """Show lines that a command has printed; the last may have no end."""
        file = getattr(sys, stream)
        with self._guard:
            if self._over or file is None:
                return
            self.times_shown += 1
            with suppress(OSError, ValueError):
                prefix = self._prefix(stage, file)
                text = harmless_on(file, data)
                text = text[:-1] if text.endswith(b"\n") else text
                text = prefix + text.replace(b"\n", b"\n" + prefix) + b"\n"
                self._write(file, text)

    @contextmanager
    def hold(self) -> Iterator[None]:
        with self._guard:
            yield

    def stages_over(self) -> None:
        for stage, _stream in list(self._begun):
            self._end_lines(stage)
        with self._guard:
            self._over = True

    def waiting_for_paths(self, stage: int, blocked: str) -> None:
        log(logging.INFO, "%s | waits: %s", self._name(stage), blocked)

    def failing(self, stage: int, exc: BaseException, running: int) -> None:
        if running:
            message = "%s | %s; waiting for %s"
            others = plural(running, "running stage")
            log(logging.WARNING, message, self._name(stage), exc, others)

    def interrupted(self, running: int) -> None:
        if running:
            log(
                logging.WARNING,
                "interrupted; waiting for %s (interrupt again to kill)",
                plural(running, "running stage"),
            )

    def killing(self, running: int) -> None:
        if running:
            log(logging.WARNING, "killing %s", plural(running, "running stage"))

    def ended(self, summary: Summary) -> None:
        """Show what has failed, and what the run has done."""
        if not self._sums_up:
            return
        if summary.failed:
            text = "\n".join(self._failures(summary.failed))
            log(
                logging.WARNING,
                "%s failed:\n%s",
                plural(len(summary.failed), "stage"),
                text,
            )
        log(logging.INFO, "\n%s", summary.in_words(self._run))

    def _failures(self, stages: "Sequence[int]") -> Iterator[str]:
        """A table of stages that have failed, with the last lines of each."""
        shown = stages[:MOST_FAILED]
        rows = [("stage", "exit", "time", "all of its output")]
        rows += map(self._failure, shown)
        columns = [column for column in zip(*rows) if {*column[1:]} - {"", "-"}]
        widths = [max(map(len, column)) for column in columns]
        lines = max(1, min(TAIL_LINES, MOST_LINES // len(shown)))
        for stage, row in zip((None, *shown), zip(*columns)):
            cells = (cell.ljust(width) for cell, width in zip(row, widths))
            yield f"  {'  '.join(cells)}".rstrip()
            if stage is not None:
                yield from (f"    {line}" for line in self.last_words(stage, lines))
        if left := len(stages) - len(shown):
            where = (
                ": dvc-parallel logs --failed"
                if any(row[-1] for row in rows[1:])
                else ""
            )
            yield f"  and {left} more{where}"

    def _failure(self, stage: int) -> tuple[str, str, str, str]:
        details = self._failed.get(stage, {})
        status = details.get("exit")
        is_kept = stage in self._tails and self._log_of and self._log_of(stage)
        name = self._run.stages[stage].name
        return (
            self._name(stage),
            "-" if status is None else exit_name(status),
            duration(details.get("seconds", 0.0)),
            visible(f"dvc-parallel logs {shlex.quote(name)}") if is_kept else "",
        )

    def last_words(self, stage: int, count: int = TAIL_LINES) -> Iterator[str]:
        """The last lines of a stage, and why it has failed, as far as that is known."""
        tail = [*self._tails.get(stage, ())]
        for line in tail[-count:]:
            yield f"| {without_controls(line).decode(errors='replace')}"
        details = self._failed.get(stage, {})
        if "exit" not in details:
            why = failure_reason(str(details.get("error", "")))
            yield from visible(why, lines=True).splitlines()
        for hint in self._run.hints(stage, tail):
            yield f"hint: {visible(hint)}"


def log(level: int, message: str, *args: Any) -> None:
    # NOTE: DVC's handlers raise when nobody reads what they write. DVC itself runs
    # into that, and ends; here it would leave the repo locked.
    with suppress(Exception):
        words = (
            visible(str(a), lines=True) if isinstance(a, (str, Exception)) else a
            for a in args
        )
        logger.log(level, message, *words)
