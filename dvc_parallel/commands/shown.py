"""What our commands have in common: their options, and how they show things.

Text that comes from others has no effect on a terminal.
"""

import logging
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, NoReturn

from dvc.cli import completion
from dvc.exceptions import DvcException
from dvc.ui import ui

from dvc_parallel.engine.terminal import escaping_streams, visible
from dvc_parallel.reporting import ci_log
from dvc_parallel.reporting.report.text import literal

# What a command can show instead of what is for people at a terminal.
JSON, MARKDOWN = "json", "markdown"

GLOB = "Allows targets containing shell-style wildcards."
RUN = (
    "ID of the run, or its first characters. The default is the last run, which may "
    "still be going on."
)


def add_command(
    subparsers: Any, parent_parser: Any, name: str, text: str, description: str
) -> Any:
    """Add a command to the command line of DVC.

    Args:
        text: what it does, for the list of commands.
        description: the same, for its own help.
    """
    return subparsers.add_parser(
        name,
        parents=[parent_parser],
        description=description,
        help=text,
        # NOTE: DVC's own, which older releases have in another place
        formatter_class=subparsers.choices["repro"].formatter_class,
    )


class CommandParser(ArgumentParser):
    """The parser of a command that works without DVC; its errors are as DVC's."""

    def error(self, message: str) -> NoReturn:
        self.exit(254, f"ERROR: {message}\n{self.format_help()}")


def add_switch(parser: Any, *names: str, text: str) -> None:
    parser.add_argument(*names, action="store_true", default=False, help=text)


def add_selection(parser: Any, targets: str, recursive: str) -> None:
    """Add the arguments that select stages, and ``--json`` for what is found in them.

    Args:
        targets, recursive: what the help says of these.
    """
    action = parser.add_argument("targets", nargs="*", help=targets)
    action.complete = completion.DVCFILES_AND_STAGE
    add_switch(parser, "-R", "--recursive", text=recursive)
    add_switch(parser, "--glob", text=GLOB)
    add_switch(parser, "--json", text="Show the result in JSON format.")


def add_formats(parser: Any, text: str, *names: str) -> None:
    """Add ``--format``; all but Markdown have an option of their own as well."""
    names = (*names, MARKDOWN)
    parser.add_argument("--format", choices=names, help=text)
    for name in names[:-1]:
        parser.add_argument(
            f"--{name}",
            action="store_const",
            const=name,
            dest="format",
            help=f"The same as --format {name}.",
        )


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
