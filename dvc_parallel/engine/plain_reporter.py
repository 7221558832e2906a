"""What a parallel run tells its user, in plain lines."""

import logging
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Callable, Optional, TextIO

from colorama import Fore
from dvc.progress import Tqdm

from .reporter_events import (
    FINAL,
    GOOD,
    Phase,
    Reporter,
    RunInfo,
    Summary,
    in_words,
    logger,
)
from .terminal import (
    duration,
    harmless,
    plural,
    speedup,
    visible,
    without_controls,
)

# The last lines that are kept of each stage, and how many bytes of each.
TAIL_LINES = 10
TAIL_WIDTH = 1000
# Bytes of a line that a progress bar goes back to the start of, again and again.
LINE_LIMIT = 2**16
RETRYING = "%s | %s; attempt %d"
COLORS = (Fore.CYAN, Fore.YELLOW, Fore.GREEN, Fore.MAGENTA, Fore.BLUE, Fore.RED)


class PlainReporter(Reporter):
    """Prints whole lines, each with the name of its stage.

    What a command prints never makes a run fail: where it cannot be shown, it is
    dropped.

    Args:
        log_of: tells where all output of a stage is kept, if it is.

    Attributes:
        times_shown (int): how many times output has been shown.
    """

    def __init__(self, log_of: Optional[Callable[[int], Optional[str]]] = None):
        self._run = RunInfo((), 1, "fail")
        self._log_of = log_of
        self._guard = threading.RLock()  # of stdout and stderr
        self._colors: dict[int, str] = {}
        self._begun: dict[tuple[int, str], bytes] = {}  # lines without their end
        self._tails: dict[int, deque[bytes]] = {}
        self._over = False
        self.times_shown = 0

    def begun(self, run: RunInfo) -> None:
        self._run = run

    def _name(self, stage: int) -> str:
        return visible(self._run.stages[stage].name)

    def _prefix(self, stage: int, stream: TextIO) -> bytes:
        return self._colored(f"{self._name(stage)} | ", stage, stream)

    def _colored(self, text: str, stage: int, stream: TextIO) -> bytes:
        if stream.isatty() and "NO_COLOR" not in os.environ:
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
            for stream in ("stdout", "stderr"):
                if begun := self._begun.pop((stage, stream), b""):
                    self.show(stage, stream, begun)
            if phase in GOOD:
                self._tails.pop(stage, None)

    def _retry(self, stage: int, attempt: int, error: str) -> None:
        with self._guard:
            log(logging.WARNING, RETRYING, self._name(stage), error, attempt)

    def command(self, stage: int, cmd: str) -> None:
        """Show a command that is about to run."""
        with self._guard:
            log(logging.INFO, "%s | > %s", self._name(stage), cmd)

    def output(self, stage: int, stream: str, data: bytes) -> None:
        key = (stage, stream)
        data = self._begun.pop(key, b"") + data
        if data.endswith(b"\r") and len(data) < LINE_LIMIT:
            # NOTE: the rest of a line that is to be shown as a whole
            end = data.rfind(b"\n") + 1
            self._begun[key] = data[end:]
            data = data[:end]
        if data:
            self._keep_tail(stage, data)
            self.show(stage, stream, data)

    def _keep_tail(self, stage: int, data: bytes) -> None:
        tail = self._tails.get(stage)
        if tail is None:
            tail = self._tails.setdefault(stage, deque(maxlen=TAIL_LINES))
        lines = data[:-1] if data.endswith(b"\n") else data
        for line in lines.rsplit(b"\n", TAIL_LINES)[-TAIL_LINES:]:
            tail.append(line.rstrip(b"\r").rpartition(b"\r")[2][-TAIL_WIDTH:])

    def show(self, stage: int, stream: str, data: bytes) -> None:
        """Show lines that a command has printed; the last may have no end."""
        file = getattr(sys, stream)
        with self._guard:
            if self._over or file is None:
                return
            self.times_shown += 1
            with suppress(OSError, ValueError):
                prefix = self._prefix(stage, file)
                text = data
                if b"\r" in data:
                    # NOTE: what goes back to the start of its line, such as a
                    # progress bar, would write over the name.
                    text = re.sub(rb"\r+(\n|$)", rb"\1", data)
                if file.isatty():
                    text = harmless(text)
                text = text.replace(b"\r", b"\r" + prefix)
                text = text[:-1] if text.endswith(b"\n") else text
                text = prefix + text.replace(b"\n", b"\n" + prefix) + b"\n"
                with Tqdm.external_write_mode(file=file):
                    write(file, text)

    @contextmanager
    def hold(self) -> Iterator[None]:
        with self._guard:
            yield

    def stages_over(self) -> None:
        for stage, stream in list(self._begun):
            if begun := self._begun.pop((stage, stream), b""):
                self.show(stage, stream, begun)
        with self._guard:
            self._over = True

    def waiting_for_paths(self, stage: int, blocked: str) -> None:
        log(logging.INFO, "%s | waits: %s", self._name(stage), blocked)

    def failing(self, exc: BaseException, running: int) -> None:
        if running:
            log(logging.WARNING, "%s; waiting for %d running", exc, running)

    def interrupted(self, running: int) -> None:
        if running:
            log(
                logging.WARNING,
                "interrupted, waiting for %d running (again to kill)",
                running,
            )

    def killing(self, running: int) -> None:
        if running:
            log(logging.WARNING, "killing %d running", running)

    def ended(self, summary: Summary) -> None:
        """Show what the run has done, and the last words of what has failed."""
        for stage in summary.failed:
            self._last_words(stage)

        log(
            logging.INFO,
            "\n%s: %s; %s of stage time in %s with %s%s",
            plural(len(self._run.stages), "stage"),
            in_words(summary.outcomes),
            duration(summary.busy),
            duration(summary.seconds),
            plural(self._run.jobs, "job"),
            speedup(summary.busy, summary.seconds, ": {}"),
        )

    def _last_words(self, stage: int) -> None:
        tail = self._tails.get(stage)
        if not tail:
            return
        words = (without_controls(line).decode(errors="replace") for line in tail)
        lines = "\n".join(f"  {line}" for line in words)
        path = self._log_of(stage) if self._log_of else None
        where = f" (all of them in {path})" if path else ""
        name = self._name(stage)
        log(logging.WARNING, "the last lines of '%s'%s:\n%s", name, where, lines)


def log(level: int, message: str, *args: Any) -> None:
    # NOTE: DVC's handlers raise when nobody reads what they write. DVC itself runs
    # into that, and ends; here it would leave the repo locked.
    with suppress(Exception):
        words = (
            visible(str(a), lines=True) if isinstance(a, (str, Exception)) else a
            for a in args
        )
        logger.log(level, message, *words)


def write(stream: TextIO, text: bytes) -> None:
    """Write bytes to stdout or stderr."""
    stream.flush()
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(text.decode(errors="replace"))
    else:
        # NOTE: as the command has printed it, whatever its encoding
        binary.write(text)
    stream.flush()
