"""How our commands show things: nothing of others can do something on a terminal."""

from collections.abc import Iterable, Sequence
from typing import Any

from dvc.exceptions import DvcException
from dvc.ui import ui

from dvc_parallel.engine.terminal import escaping_streams, visible


def write(*words: str, **kwargs: Any) -> None:
    """Show some lines."""
    ui.write(*(visible(word, lines=True) for word in words), **kwargs)


def error_write(*words: str) -> None:
    """Show some lines on stderr."""
    ui.error_write(*(visible(word, lines=True) for word in words))


def table(rows: Iterable[Sequence[str]], headers: Sequence[str]) -> None:
    """Show a table."""
    ui.table([tuple(map(visible, row)) for row in rows], headers=headers)


class ShowsSafely:
    """A command whose errors are shown so, whatever they quote."""

    def do_run(self) -> int:
        with escaping_streams():
            try:
                return super().do_run()  # type: ignore[misc]
            except DvcException as exc:
                cause: Any = exc
                while cause is not None:
                    cause.args = (visible(str(cause), lines=True),)
                    cause = cause.__cause__
                raise
