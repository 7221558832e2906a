"""What stages print, in a file for each stage."""

import os
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, Callable, Optional

from dvc_parallel.atomic import about
from dvc_parallel.own_files import OwnFolder

# Bytes of a stage's name that go into the name of its file.
NAME_WIDTH = 100
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def log_name(stage: int, name: str) -> str:
    """Name of the file for the output of a stage."""
    safe = re.sub(r"[^\w.@+-]", "_", name, flags=re.ASCII)
    return f"{stage:04}-{safe[:NAME_WIDTH]}.log"


class StageLogs:
    """The files of a run, each made when its stage prints something.

    Any thread may call any method at any time.

    Args:
        folder: where to make them.
        names: of the stages.
        on_error: called when one of them cannot be written any more.
    """

    def __init__(
        self,
        folder: OwnFolder,
        names: Sequence[str],
        on_error: Callable[[OSError], None],
    ):
        self._folder = folder
        self._names = names
        self._on_error = on_error
        self._logs: dict[int, _Log] = {}

    def path(self, stage: int) -> str:
        """Where the output of a stage is kept, if there is any."""
        return self._folder.path_of(self._name(stage))

    def _name(self, stage: int) -> str:
        return log_name(stage, self._names[stage])

    def read(self, stage: int) -> Optional[BinaryIO]:
        """Open what a stage has printed; None if that is nothing.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return self._folder.read(self._name(stage))
        except FileNotFoundError:
            return None

    def is_whole(self, stage: int) -> bool:
        """Whether all that a stage has printed so far could be written."""
        log = self._logs.get(stage)
        return log is None or not log.broken

    def command(self, stage: int, cmd: str, worker: Optional[str] = None) -> None:
        """Write down a command, once something else is written."""
        line = f"> {cmd}  # on {worker}\n" if worker else f"> {cmd}\n"
        # NOTE: bytes that are no UTF-8 stay, halves of characters are none
        line = _HALVES.sub("?", line)
        self._log(stage).command(line.encode(errors="surrogateescape"))

    def commands(self, stage: int) -> bytes:
        """The commands of a stage that has not printed anything."""
        log = self._logs.get(stage)
        return log.pending if log else b""

    def output(self, stage: int, data: bytes) -> None:
        """Write down what a command has printed."""
        self._log(stage).write(data)

    def close(self, stage: int) -> None:
        """Close the file of a stage; it is opened again when it is needed."""
        if log := self._logs.get(stage):
            log.close()

    def close_all(self) -> None:
        for stage in list(self._logs):
            self.close(stage)

    def _log(self, stage: int) -> "_Log":
        return self._logs.get(stage) or self._logs.setdefault(
            stage, _Log(self._folder, self._name(stage), self._on_error)
        )


class _Log:
    """Appends to a file, until that cannot be done."""

    def __init__(
        self, folder: OwnFolder, name: str, on_error: Callable[[OSError], None]
    ):
        self._folder = folder
        self._name = name
        self._on_error = on_error
        self.pending = b""  # commands, while there is no file
        self.broken = False
        self._fd: Optional[int] = None
        self._at_line_start = True
        self._guard = threading.Lock()

    def command(self, line: bytes) -> None:
        with self._guard:
            if self._fd is None:
                self.pending += line
                return
        self.write(line if self._at_line_start else b"\n" + line)

    def write(self, data: bytes) -> None:
        try:
            with self._guard, about(self._folder.path_of(self._name)):
                self._write(data)
        except OSError as exc:
            self._on_error(exc)

    def _write(self, data: bytes) -> None:
        if self.broken:
            return
        try:
            if self._fd is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._fd = self._folder.open(self._name, flags)
            if self.pending:
                data, self.pending = self.pending + data, b""
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._at_line_start = data.endswith(b"\n")
        except OSError:
            self.broken = True
            self._close()
            raise

    def close(self) -> None:
        with self._guard:
            self._close()

    def _close(self) -> None:
        if self._fd is not None:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = None
