"""The terminal of a run with a view: text goes above it, and the view stays below.

Whoever holds tqdm's lock owns the terminal.  Whenever it is free, the view is the last
thing there, and the cursor at the start of the row below it; or there is no view, as
the user is asked something or a shell has the terminal.  All that is written takes the
view away, adds text, and draws the view, in one write.

Those are made to be shown at once as well where the terminal can do that (synchronized
output, DEC private mode 2026); others ignore the mode, as ECMA-48 wants it for unknown
ones.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any, Callable, Optional, TextIO

from dvc.progress import Tqdm
from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.text import Text
from tqdm import tqdm  # type: ignore[import-untyped]

from dvc_parallel.engine.plain_reporter import print_bytes
from dvc_parallel.engine.signals import is_in_foreground
from dvc_parallel.engine.terminal import has_colors, write

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
# Seconds in which text is collected after some has been written, and bytes of it.
TOGETHER = 0.05
AT_MOST = 2**16
# Seconds between two looks at whether there is something to draw, and between two
# drawings of what changes but slowly.
LOOK_EVERY = 0.1
DRAW_EVERY = 0.5


class Screen:
    """Shows a view below all that is printed.

    Args:
        lines: the lines of the view on a terminal with so many columns and rows.
        clock: tells the time in seconds.
    """

    def __init__(
        self, lines: Callable[[int, int], list[Text]], clock: Callable[[], float]
    ):
        self._lines = lines
        self._clock = clock
        # NOTE: without a color system, there is no style at all, such as bold or dim
        colors: Any = "auto" if has_colors(sys.stderr) else None
        # NOTE: rich writes nothing to its file now and then, which would stop a process
        # in the background
        self.console = Console(
            file=StringIO(), force_terminal=True, color_system=colors
        )
        self.encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._is_open = False
        self._is_held = False
        self._is_writing = False  # the owner of the terminal, something of others
        self._there: list[int] = []  # widths of the lines that are there
        self._view: tuple[str, list[int]] = "", []  # as last rendered, and its widths
        self._size = ConsoleDimensions(0, 0)  # for a terminal of this size
        self._rendered = self._drawn = -DRAW_EVERY
        self._changes = self._seen = 0  # that have to be there with the next text
        self._text: list[bytes] = []  # that is to be written, and where
        self._stream: Optional[TextIO] = None
        self._device: Optional[int] = None

    def open(self) -> None:
        """Have the view drawn from the next look on."""
        self._device = _device(sys.stderr)
        self._is_open = True
        # NOTE: DVC's messages, and those of all that use tqdm, are written in it
        self._external_write_mode = vars(tqdm)["external_write_mode"]
        tqdm.external_write_mode = self._text_of_others  # type: ignore[method-assign]

    def close(self) -> None:
        """Take the view away for good."""
        with Tqdm.get_lock():
            if self._is_open:
                self._is_held = True
                self._flush(redraw=True)
                self._is_open = False
                tqdm.external_write_mode = self._external_write_mode  # type: ignore[method-assign]

    def outdate(self) -> None:
        """Have the view rendered anew with the next text; for any thread."""
        self._changes += 1

    def due(self) -> Optional[float]:
        return None if not self._is_open else TOGETHER if self._text else LOOK_EVERY

    def look(self) -> None:
        """Write what is to be written, and draw the view if it is old."""
        with Tqdm.get_lock():
            if self._is_open:
                now = self._clock()
                is_old = now - self._drawn >= DRAW_EVERY or not self._there
                has_changed = self._size != self.console.size
                self._flush(redraw=is_old or has_changed)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Take the view away for a while."""
        # NOTE: without the lock for all of the time, as whoever logs something has
        # other locks
        with Tqdm.get_lock():
            self._is_held = True
            self._flush(redraw=True)
        try:
            yield
        finally:
            with Tqdm.get_lock():
                self._is_held = False
                self._flush(redraw=True)

    def write(self, stream: TextIO, text: bytes) -> None:
        """Show some text above the view, soon.

        Whoever writes a line in several parts has to hold tqdm's lock.
        """
        with Tqdm.get_lock():
            if not self._is_ours(stream):
                print_bytes(stream, text)
                return
            self._text.append(text)
            self._stream = stream
            is_time = self._clock() - self._drawn >= TOGETHER
            if is_time or sum(map(len, self._text)) >= AT_MOST:
                self._flush()

    @contextmanager
    def _text_of_others(self, file: Any = None, nolock: bool = False) -> Iterator[None]:
        """Stands in for ``tqdm.external_write_mode``."""
        stream = sys.stdout if file is None else file
        with Tqdm.get_lock():
            others = self._external_write_mode.__get__(None, tqdm)
            with others(file=file, nolock=nolock):
                if self._is_writing or not self._is_ours(stream):
                    yield
                    return
                self._flush()
                self._render_if_old()
                self._is_writing = True
                try:
                    with _in_one_write(stream):
                        stream.write(BEGIN + self._erased())
                        try:
                            yield
                        finally:
                            stream.write(self._drawn_view() + END)
                finally:
                    self._is_writing = False

    def _is_ours(self, stream: Any) -> bool:
        """Whether that is the terminal with the view."""
        return self._is_open and _device(stream) == self._device is not None

    def _flush(self, redraw: bool = False) -> None:
        """Write the text, and the view below it; by whoever holds tqdm's lock."""
        text, self._text = self._text, []
        stream, self._stream = self._stream or sys.stderr, None
        if not (text or redraw):
            return
        self._render_if_old()
        erased, view = self._erased(), ""
        # NOTE: what is not a whole line goes on with the next text
        if not text or text[-1].endswith(b"\n"):
            view = self._drawn_view()
        if erased or text or view:
            encoded = f"{view}{END}".encode(self.encoding)
            write(stream, b"".join([f"{BEGIN}{erased}".encode(), *text, encoded]))

    def _erased(self) -> str:
        """What takes the view away."""
        if not self._there:
            return ""
        # NOTE: a terminal that has become narrower has broken its lines
        columns = max(1, self.console.width)
        rows = sum(max(1, -(-width // columns)) for width in self._there)
        self._there = []
        return f"\r\x1b[{rows}A\x1b[J"

    def _drawn_view(self) -> str:
        """What draws the view, if it may be there."""
        self._drawn = self._clock()
        if self._is_held or not self._is_open or not is_in_foreground():
            return ""
        text, self._there = self._view
        return text

    def _render_if_old(self) -> None:
        size, changes = self.console.size, self._changes
        is_new = self._clock() - self._rendered < LOOK_EVERY
        if is_new and self._size == size and self._seen == changes:
            return
        # NOTE: what fills a whole row may or may not go on to the next one
        lines = self._lines(size.width - 1, size.height)
        with self.console.capture() as capture:
            view = Text("\n").join(lines)
            self.console.print(view, no_wrap=True, crop=False, soft_wrap=True)
        text = capture.get().encode(self.encoding, "replace").decode(self.encoding)
        self._view = text, [cell_len(line.plain) for line in lines]
        self._size, self._seen = size, changes
        self._rendered = self._clock()


def _device(stream: Any) -> Optional[int]:
    """Which terminal a stream writes to, if it is one; Windows does not tell."""
    if sys.platform == "win32":
        return None
    try:
        status = os.fstat(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None
    return status.st_rdev if stat.S_ISCHR(status.st_mode) else None


@contextmanager
def _in_one_write(stream: Any) -> Iterator[None]:
    """Keep what is written until the end, as much as the stream's buffer holds."""
    if not hasattr(stream, "reconfigure"):
        yield
        stream.flush()
        return
    names = ("line_buffering", "write_through")
    before = {name: getattr(stream, name) for name in names}
    stream.reconfigure(**dict.fromkeys(names, False))
    try:
        yield
    finally:
        # NOTE: this flushes the stream
        stream.reconfigure(**before)
