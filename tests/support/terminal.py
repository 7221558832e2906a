"""A terminal for a process: what is written to it, and how it was set before."""

import os
import pty
import re
import select
import termios
import threading

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
