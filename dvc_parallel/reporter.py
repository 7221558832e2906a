"""What a parallel run tells its user, in plain lines."""

import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from colorama import Fore
from dvc.progress import Tqdm

from .plan import State

if TYPE_CHECKING:
    from .job import Job
    from .plan import Plan

# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")

# Bytes that are kept of each of the last lines.
TAIL_WIDTH = 1000
COLORS = (Fore.CYAN, Fore.YELLOW, Fore.GREEN, Fore.MAGENTA, Fore.BLUE, Fore.RED)


class Reporter:
    """Prints whole lines, each with the name of its stage.

    Any thread may call any method at any time.  What a command prints never
    makes a run fail: where it cannot be shown, it is dropped.
    """

    def __init__(self):
        self._guard = threading.RLock()  # of stdout and stderr
        self._colors: dict[str, str] = {}
        self._ended = False

    def _prefix(self, name: str, stream: TextIO) -> bytes:
        prefix = f"{name} | "
        if stream.isatty() and "NO_COLOR" not in os.environ:
            count = len(self._colors)
            color = self._colors.setdefault(name, COLORS[count % len(COLORS)])
            prefix = f"{color}{prefix}{Fore.RESET}"
        return prefix.encode(errors="replace")

    def command(self, job: "Job", cmd: str) -> None:
        """Show a command that is about to run."""
        with self._guard:
            _log(logging.INFO, "%s | > %s", job.name, cmd)

    def output(self, job: "Job", name: str, line: bytes) -> None:
        """Show a line that a command has printed to its "stdout" or "stderr"."""
        text = line.rstrip(b"\r\n")
        job.tail.append(text[-TAIL_WIDTH:])
        stream = getattr(sys, name)
        with self._guard, suppress(OSError, ValueError):
            if self._ended or stream is None:
                return
            prefix = self._prefix(job.name, stream)
            # NOTE: what goes back to the start of its line, such as a progress
            # bar, would write over the name.
            text = prefix + text.replace(b"\r", b"\r" + prefix) + b"\n"
            with Tqdm.external_write_mode(file=stream):
                _write(stream, text)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Show nothing for a while, because the user is asked something."""
        with self._guard:
            yield

    def end(self) -> None:
        """Show no more output: what a command has left behind may still print."""
        with self._guard:
            self._ended = True

    def waiting_for_lock(self) -> None:
        _log(
            logging.INFO,
            "Another DVC process has locked the repo; waiting for it, "
            "nothing that has run is lost.",
        )

    def failed(self, exc: BaseException, running: int) -> None:
        """Say that a stage has failed while others go on."""
        if running:
            _log(logging.WARNING, "%s; waiting for %d running", exc, running)

    def interrupted(self, running: int) -> None:
        if running:
            _log(
                logging.WARNING,
                "interrupted, waiting for %d running (again to kill)",
                running,
            )

    def killing(self, running: int) -> None:
        if running:
            _log(logging.WARNING, "killing %d running", running)

    def summary(
        self,
        plan: "Plan",
        seconds: float,
        *,
        total: float,
        ran: int,
        failed: Sequence["Job"],
        stopped: int,
    ) -> None:
        """Show what the run has done, and the last words of what has failed.

        Args:
            plan: the plan at its end.
            seconds: how long the run took.
            total: how many seconds its stages took, added up.
            ran: how many stages were reproduced.
            failed: those that have failed by themselves.
            stopped: how many were stopped by a signal.
        """
        for job in failed:
            self._last_words(job)

        done = plan.count(State.DONE)
        counts = [f"skipped {done - ran}", f"failed {len(failed)}"]
        if stopped:
            counts.append(f"interrupted {stopped}")
        if left := len(plan) - done - len(failed) - stopped:
            counts.append(f"not run {left}")
        ratio = total / max(seconds, 1e-3)
        longer = f", {ratio:.1f} times as long" if ratio >= 1.05 else ""
        _log(
            logging.INFO,
            "\nRan %d stage%s, %s in %s with %d jobs; "
            "the times of all stages add up to %s%s.",
            ran,
            "" if ran == 1 else "s",
            ", ".join(counts),
            _time(seconds),
            plan.jobs,
            _time(total),
            longer,
        )

    def _last_words(self, job: "Job") -> None:
        if not job.tail:
            return
        lines = "\n".join(f"  {line.decode(errors='replace')}" for line in job.tail)
        _log(logging.ERROR, "the last lines of '%s':\n%s", job.name, lines)


def _log(level: int, message: str, *args: Any) -> None:
    # NOTE: DVC's handlers raise when nobody reads what they write. DVC itself runs
    # into that, and ends; here it would leave the repo locked.
    with suppress(Exception):
        logger.log(level, message, *args)


def _write(stream: TextIO, text: bytes) -> None:
    stream.flush()
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(text.decode(errors="replace"))
    else:
        # NOTE: as the command has printed it, whatever its encoding
        binary.write(text)
    stream.flush()


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
