"""How our commands show things.

Text that comes from others has no effect on a terminal.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from dvc.exceptions import DvcException, InvalidArgumentError
from dvc.ui import ui

from dvc_parallel.engine.terminal import escaping_streams, visible
from dvc_parallel.reporting import ci_log
from dvc_parallel.reporting.report.text import literal


def write(*words: str, **kwargs: Any) -> None:
    """Show some lines."""
    ui.write(*map(_lines, words), **kwargs)


def error_write(*words: str) -> None:
    """Show some lines on stderr."""
    ui.error_write(*map(_lines, words))


def _lines(text: str) -> str:
    return ci_log.harmless_text(visible(text, lines=True))


def table(
    rows: Iterable[Sequence[str]], headers: Sequence[str], markdown: bool = False
) -> None:
    """Show a table, whatever is in its cells."""
    safe = literal if markdown else visible
    cells = [tuple(ci_log.harmless_text(safe(it)) for it in row) for row in rows]
    ui.table(cells, headers=headers, markdown=markdown)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what DVC says about single stages."""
    logger = logging.getLogger("dvc")
    level = logger.level
    if level == logging.INFO:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def stdout_for(scripts: bool) -> Iterator[None]:
    """Have stages print to stderr, if stdout is for scripts."""
    if not scripts:
        yield
        return
    with quiet(), redirect_stdout(sys.stderr):
        yield


def refuse(args: Any, option: str, *others: str) -> None:
    """Refuse options that do not go with another one."""
    for other in others:
        if getattr(args, option) and getattr(args, other):
            raise InvalidArgumentError(f"--{option} cannot be combined with --{other}")


class ShowsSafely:
    """A command whose errors have no such effect either, whatever they quote."""

    def do_run(self) -> int:
        ci_log.guard_messages()
        with escaping_streams():
            try:
                return super().do_run()  # type: ignore[misc]
            except DvcException as exc:
                cause: Any = exc
                while cause is not None:
                    cause.args = (visible(str(cause), lines=True),)
                    cause = cause.__cause__
                raise
