"""Logs of GitHub Actions and GitLab CI: what folds in them, and what is a command.

Both read the log while it is written.  GitHub takes a line that begins with "::", maybe
behind white space, or has "##[" in it for a command to the workflow; GitLab takes some
control sequences for the ends of a section.  What stages print, and messages that quote
something, must be neither.

GitHub: "Workflow commands" in its documentation; for what it takes for one,
``ActionCommand.cs`` and ``OutputManager.cs`` in actions/runner.  GitLab: "Job logs" in
its documentation.
"""

import logging
import os
import re
import stat
import sys
import time
from contextlib import suppress
from typing import Any, BinaryIO, Callable, Optional, Protocol, TextIO

from dvc.dvcfile import PROJECT_FILE
from dvc.utils import parse_target

from dvc_parallel.engine.plain_reporter import PlainReporter, print_bytes
from dvc_parallel.engine.reporter_events import Phase, Reporter, RunInfo, logger
from dvc_parallel.engine.signals import failure_reason
from dvc_parallel.engine.terminal import (
    harmless,
    harmless_on,
    visible,
    without_controls,
)

# Errors of a step that GitHub shows at the file.
MOST_ERRORS = 10
# Bytes of a dvc.yaml in which a stage is looked for.
MOST_BYTES = 2**24

# NOTE: what is no visible ASCII may be white space in Unicode
_COMMAND = re.compile(rb"^([^\x21-\x7e\n]*)(?=::)|(?<=##\[)", re.MULTILINE)
# What may become one with the rest of its line.
_HALF = re.compile(rb"^[^\x21-\x7e\n]*(?=:\Z)|(?<=#)\Z", re.MULTILINE)


def harmless_in_log(data: bytes) -> bytes:
    r"""Text that does nothing to the log but colour it; "\" marks what would have."""
    shown = without_controls(data) if os.environ.get("NO_COLOR") else harmless(data)
    return _COMMAND.sub(rb"\1\\", shown.replace(b"\r", b""))


def harmless_text(text: str) -> str:
    """Text that may be written to the log of a service."""
    if not service():
        return text
    return harmless_in_log(text.encode(errors="replace")).decode()


def write(stream: TextIO, text: bytes) -> None:
    """Write whole lines that are not commands."""
    print_bytes(stream, harmless_in_log(text))


def writer() -> Callable[[TextIO, bytes], None]:
    """What writes the lines of stages where there is no view."""
    return write if service() else print_bytes


class Service(Protocol):
    """A service whose log this is."""

    def folded(self, stage: int, title: str, seconds: float) -> tuple[bytes, bytes]:
        """What is written before and after lines that are folded below a title.

        Args:
            title: has no control characters.
            seconds: how long the stage took.
        """

    def error(self, title: str, text: str, place: dict[str, str]) -> bytes:
        """What shows an error at a place, or nothing."""


class GitHub:
    """GitHub Actions, and what understands its commands, such as Forgejo and act."""

    def folded(self, stage: int, title: str, seconds: float) -> tuple[bytes, bytes]:  # noqa: ARG002
        return _encoded(f"::group::{_data(title)}\n"), b"::endgroup::\n"

    def error(self, title: str, text: str, place: dict[str, str]) -> bytes:
        properties = {"title": title, **place}
        told = ",".join(f"{k}={_property(v)}" for k, v in properties.items())
        return _encoded(f"::error {told}::{_data(text)}\n")


class GitLab:
    """GitLab CI, which shows how long a section took."""

    def folded(self, stage: int, title: str, seconds: float) -> tuple[bytes, bytes]:
        now = time.time()
        name = f"dvc_{os.getpid()}_{stage}"
        title += "\n"
        start = f"section_start:{now - seconds:.0f}:{name}[collapsed=true]"
        end = f"section_end:{now:.0f}:{name}"
        return (
            _encoded(f"\x1b[0K{start}\r\x1b[0K") + harmless_in_log(_encoded(title)),
            _encoded(f"\x1b[0K{end}\r\x1b[0K\n"),
        )

    def error(self, title: str, text: str, place: dict[str, str]) -> bytes:  # noqa: ARG002
        return b""


def harmless_output(stream: BinaryIO, data: bytes) -> bytes:
    """Output of a stage, or a part of it, for a stream: as it is for a file.

    Who reads a pipe in a job of a service is not known: that may be its log.
    """
    if stream.isatty() or not service() or _is_file(stream):
        return harmless_on(stream, data)
    return _HALF.sub(rb"\g<0>\\", harmless_in_log(data))


def _is_file(stream: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def service() -> Optional[Service]:
    """The service that this is a job of, if it is one of these."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return GitHub()
    return GitLab() if os.environ.get("GITLAB_CI") == "true" else None


def _encoded(text: str) -> bytes:
    return text.encode(errors="replace")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


class _Messages(logging.Formatter):
    """Formats messages as another formatter does, without commands."""

    def __init__(self, formatter: logging.Formatter):
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return harmless_text(self._formatter.format(record))


def guard_messages() -> None:
    """Keep commands out of DVC's messages, where this is the log of a service.

    For good: DVC says at its end why it has failed.
    """
    for handler in logging.getLogger("dvc").handlers if service() else ():
        if not isinstance(handler.formatter, _Messages):
            before = handler.formatter or logging.Formatter()
            handler.setFormatter(_Messages(before))


class LogOfService(Reporter):
    """Shows failures at their places in dvc.yaml.

    Args:
        shown: is told everything first; prints the output of stages.
    """

    def __init__(self, service: Service, shown: PlainReporter):
        self._service = service
        self._shown = shown
        self._run = RunInfo((), 1, "fail")
        self._errors = 0

    def begun(self, run: RunInfo) -> None:
        self._run = run

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        if phase is not Phase.FAILED or not logger.isEnabledFor(logging.WARNING):
            return
        self._errors += 1
        if self._errors <= MOST_ERRORS:
            name = self._run.stages[stage].name
            why = visible(failure_reason(str(details["error"])), lines=True)
            lines = [*self._shown.last_words(stage)]
            text = "\n".join(lines if why in lines else [why, *lines])
            title = f"{visible(name)} failed"
            print_bytes(sys.stdout, self._service.error(title, text, place_of(name)))


def place_of(name: str) -> dict[str, str]:
    """The file of a stage in the clone, and its line, as far as they are found.

    Args:
        name: as DVC shows it, from the current folder on.
    """
    place: dict[str, str] = {}
    with suppress(OSError, ValueError):
        path, entry = parse_target(name)
        path = os.path.realpath(path or PROJECT_FILE)
        root = os.path.realpath(os.environ.get("GITHUB_WORKSPACE") or os.curdir)
        file = os.path.relpath(path, root)
        if not file.startswith(os.pardir):
            place["file"] = file
            with open(path, encoding="utf-8", errors="replace") as fobj:
                text = fobj.read(MOST_BYTES)
            if line := _line_of((entry or "").partition("@")[0], text):
                place["line"] = str(line)
    return place


def _line_of(entry: str, text: str) -> Optional[int]:
    """The line of a stage in a dvc.yaml, from 1 on; None if it is hard to find."""
    lines = enumerate(text.splitlines(), 1)
    if not any(re.match(r"stages *:", line) for _, line in lines):
        return None
    indent = None
    for number, line in lines:
        if line[:1].strip(" #"):
            return None
        key = re.match(r"""( *)(['"]?)([^#\s'"][^'"]*?)\2 *:(?: |$)""", line)
        if key and (indent is None or key[1] == indent):
            indent = key[1]
            if key[3] == entry:
                return number
    return None
