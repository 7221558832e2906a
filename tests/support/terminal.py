"""A terminal for a process: what is written to it, what is to be seen there, and how it
was set before.
"""

import os
import pty
import re
import select
import termios
import threading

import pyte

BEGIN, END = b"\x1b[?2026h", b"\x1b[?2026l"
MODES = re.compile(rb"\x1b\[\?(25|1049|1047|47)([hl])")


class Terminal:
    """Owned by the thread that makes it, but for ``written``.

    Attributes:
        path (str): of the device.
        written: what has been read; added to by a thread of its own.
    """

    def __init__(self):
        self._master, self._slave = pty.openpty()
        self.path = os.ttyname(self._slave)
        self.written = bytearray()
        self._before = termios.tcgetattr(self._slave)
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while not self._over.is_set():
            if select.select([self._master], [], [], 0.02)[0]:
                self.written += os.read(self._master, 2**16)

    def _stop_reading(self):
        self._over.set()
        self._reader.join()

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    def hang_up(self) -> None:
        self._stop_reading()
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        if self._master >= 0:
            self.hang_up()
        os.close(self._slave)

    def assert_as_before(self) -> None:
        """See that it can be worked with as before, if it is still there."""
        if self._master >= 0:
            assert termios.tcgetattr(self._slave) == self._before
        modes = dict(MODES.findall(bytes(self.written)))
        assert modes.pop(b"25", b"h") == b"h"
        assert set(modes.values()) <= {b"l"}


class Recorder:
    """What is to be seen on a terminal.

    Attributes:
        frames: all that was to be seen at a time, one after the other: at the end of
            each synchronized output, and after whatever is written besides.
    """

    def __init__(self, columns: int, rows: int):
        self.frames: list[str] = []
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self._screen)
        self._rest = b""
        self._is_in_frame = False

    def feed(self, data: bytes) -> None:
        data, self._rest = self._rest + data, b""
        while data:
            mark = END if self._is_in_frame else BEGIN
            before, found, rest = data.partition(mark)
            if not found:
                # NOTE: it may be cut within the mark
                cut = data.rfind(b"\x1b")
                if cut >= 0 and mark.startswith(data[cut:]):
                    before, self._rest = data[:cut], data[cut:]
            self._stream.feed(before)
            if (before and not self._is_in_frame) or (found and self._is_in_frame):
                self.frames.append("\n".join(self._screen.display))
            self._is_in_frame ^= bool(found)
            data = rest

    def resize(self, columns: int, rows: int) -> None:
        self._screen.resize(rows, columns)

    @property
    def text(self) -> list[str]:
        """All lines, those that have been scrolled away first."""
        above = [
            "".join(c.data for _, c in sorted(line.items()))
            for line in self._screen.history.top
        ]
        return [line.rstrip() for line in (*above, *self._screen.display)]
