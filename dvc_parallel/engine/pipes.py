"""Passing on what a process prints, in whole lines, until it has ended.

A process that a command has left in the background may keep its pipes open, so there
is no waiting for their end.  What it prints is still read and passed on.
"""

import os
import select
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from io import FileIO
from typing import Any, Callable, Optional, Protocol

from .runner import Output

# Seconds in which output that was printed before the end of a process is read, and
# bytes that are read at a time: what a pipe holds; and that are kept of a line.
DRAIN = 0.5
CHUNK = 2**16
LONGEST = 2**20


class Process(Protocol):
    """What there is to know of a process, as of :class:`subprocess.Popen`."""

    pid: int
    returncode: Any
    stdout: Any
    stderr: Any

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""


def _wait(process: Process) -> int:
    return process.wait()


def follow(
    process: Process, output: Output, wait: Callable[[Process], int] = _wait
) -> int:
    """Pass on what a process prints, and return when it has ended.

    Nothing else may wait for the process meanwhile.

    Args:
        process: with pipes for stdout and stderr, without buffers.
        output: as for :meth:`Runner.run`.
        wait: waits for the process, as that of ``Popen``.

    Returns:
        int: its exit status.
    """
    pipes = [_Pipe(getattr(process, n), n, output) for n in ("stdout", "stderr")]
    ended = pidfd_open(process.pid)
    if sys.platform == "win32" or ended is None:
        return _follow_in_threads(process, pipes, wait)
    try:
        pipes = _poll(pipes, until=ended)
        returncode = wait(process)
        pipes = _poll(pipes, seconds=DRAIN)
    finally:
        os.close(ended)
    for pipe in pipes:
        pipe.lines.flush()
    if pipes:
        # NOTE: the command has ended, so it does not fail for want of a thread
        with suppress(RuntimeError):
            threading.Thread(target=_poll, args=(pipes,), daemon=True).start()
    return returncode


def pidfd_open(pid: int) -> Optional[int]:
    """A descriptor that can be read once the process has ended.

    None where there is no such thing, or it is not allowed (Linux has it from 5.3).
    """
    try:
        return os.pidfd_open(pid)  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None


def _follow_in_threads(
    process: Process,
    pipes: Iterable["_Pipe"],
    wait: Callable[[Process], int],
) -> int:
    readers = [threading.Thread(target=p.read_all, daemon=True) for p in pipes]
    for reader in readers:
        reader.start()
    returncode = wait(process)
    for reader in readers:
        reader.join(DRAIN)
    return returncode


class Lines:
    """Passes on what is printed to a stream in whole lines.

    Args:
        name: of the stream.
        output: as for :meth:`Runner.run`.
    """

    def __init__(self, name: str, output: Output):
        self._name = name
        self._output = output
        self._begun = bytearray()  # a line without its end

    def add(self, chunk: bytes) -> None:
        end = 1 + max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        if end:
            self._pass_on(chunk[:end])
        self._begun += chunk[end:]
        if len(self._begun) > LONGEST:
            self.flush()

    def _pass_on(self, end: bytes) -> None:
        data = bytes(self._begun) + end
        self._begun.clear()
        if data:
            self._output(self._name, data)

    def flush(self) -> None:
        """Pass on what there is of a line, without its end."""
        self._pass_on(b"")


class _Pipe:
    """One end of a pipe.  Owned by the thread that reads from it."""

    def __init__(self, file: FileIO, name: str, output: Output):
        self._file = file
        self.lines = Lines(name, output)
        self.fd = file.fileno()

    def read(self) -> bool:
        """Read what there is, or wait for it; return False at the end."""
        chunk = os.read(self.fd, CHUNK)
        self.lines.add(chunk)
        if not chunk:
            self.lines.flush()
            self._file.close()
        return bool(chunk)

    def read_all(self) -> None:
        with closing(self._file), suppress(OSError):
            while self.read():
                pass


def _poll(
    pipes: Iterable[_Pipe],
    until: Optional[int] = None,
    seconds: Optional[float] = None,
) -> list[_Pipe]:
    """Read from pipes to their ends.

    Args:
        pipes: those to read from.
        until: descriptor that ends it earlier, once it can be read.
        seconds: time after which it ends in any case.

    Returns:
        list: pipes that have not come to their end.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    unfinished = {pipe.fd: pipe for pipe in pipes}
    poll = select.poll()  # type: ignore[attr-defined]
    for fd in (*unfinished, *([] if until is None else [until])):
        poll.register(fd, select.POLLIN)  # type: ignore[attr-defined]

    while unfinished or until is not None:
        timeout = None if deadline is None else 1000 * (deadline - time.monotonic())
        ready = poll.poll(None if timeout is None else max(timeout, 0))
        for fd, _ in ready:
            if fd in unfinished and not unfinished[fd].read():
                poll.unregister(fd)
                del unfinished[fd]
        if not ready or (until, select.POLLIN) in ready:  # type: ignore[attr-defined]
            break
    return list(unfinished.values())
