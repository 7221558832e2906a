"""Logs: the output of stages, in a file for each stage."""

import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Callable, Optional

from dvc_parallel.engine.atomic import about
from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.usage import size
from dvc_parallel.reporting.output_settings import DEFAULTS, LOG_OPTION, Limits

# Bytes of a stage's name that go into the name of its file.
NAME_WIDTH = 100
# Bytes of a log that are read at a time.
CHUNK = 2**20
# Bytes that are kept of each stage, whatever others have printed.
LEAST = 2**15
LEAST_LIMIT = 2**12
_PLACE = re.compile(r"[1-9]\d{0,17}", re.ASCII)
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def log_name(stage: int, name: str) -> str:
    """Name of the file for the output of a stage."""
    safe = re.sub(r"[^\w.@+-]", "_", name, flags=re.ASCII)
    return f"{stage:04}-{safe[:NAME_WIDTH]}.log"


class StageLogs:
    """The files of a run, each made when its stage prints something.

    Any thread may call any method at any time.

    Args:
        on_error: called when one of them cannot be written any more.
        limits: how much of it is kept.
    """

    def __init__(
        self,
        folder: OwnFolder,
        names: Sequence[str],
        on_error: Callable[[OSError], None],
        limits: Limits = DEFAULTS,
    ):
        self._folder = folder
        self._names = names
        self._on_error = on_error
        self._limit = limits.log
        self._room = _Room(limits.runs)
        self._logs: dict[int, _Log] = {}

    def path(self, stage: int) -> str:
        """Where the output of a stage is kept, if there is any."""
        return self._folder.path_of(self._name(stage))

    def _name(self, stage: int) -> str:
        return log_name(stage, self._names[stage])

    def reader(self, stage: int) -> "LogReader":
        """Reads what a stage has printed."""
        return LogReader(self._folder, self._name(stage))

    def has_printed(self, stage: int) -> bool:
        """Whether there is a log of a stage."""
        return stage in self._logs and not self._logs[stage].pending

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
            stage,
            _Log(
                self._folder, self._name(stage), self._on_error, self._limit, self._room
            ),
        )


class _Room:
    """The rest of a limit.  Any thread may take from it at any time."""

    def __init__(self, limit: Optional[int]):
        self._left = limit
        self._guard = threading.Lock()

    def take(self, most: int) -> int:
        """Take as many bytes as there are, but no more."""
        with self._guard:
            if self._left is None:
                return most
            taken = min(most, self._left)
            self._left -= taken
            return taken


class _Log:
    """Appends to a file, until that cannot be done.

    When there is no more room, it goes on in other files, of which it keeps the last
    two: ``<name>.<place>``, the place in all that was printed at which one begins.
    """

    def __init__(
        self,
        folder: OwnFolder,
        name: str,
        on_error: Callable[[OSError], None],
        limit: Optional[int],
        room: _Room,
    ):
        self._folder = folder
        self._name = name
        self._on_error = on_error
        self.pending = b""  # commands, while there is no file
        self.broken = False
        self._fd: Optional[int] = None
        self._at_line_start = True
        self._guard = threading.Lock()
        self._limit = sys.maxsize if limit is None else max(limit, LEAST_LIMIT)
        self._all_room = room
        self._file = name
        self._ends: list[str] = []  # the other files that there are
        self._printed = 0  # bytes of all, and of those in the file
        self._size = 0
        self._room = min(LEAST, self._limit // 2)  # of the file
        self._end_room = 0  # of each of the others

    def command(self, line: bytes) -> None:
        with self._guard:
            if self._printed == 0:
                self.pending += line
                return
        self.write(line if self._at_line_start else b"\n" + line)

    def write(self, data: bytes) -> None:
        try:
            with self._guard, about(self._folder.path_of(self._file)):
                self._write(data)
        except OSError as exc:
            self._on_error(exc)

    def _write(self, data: bytes) -> None:
        if self.broken:
            return
        if self.pending:
            data, self.pending = self.pending + data, b""
        try:
            while self._size + len(data) > self._room:
                if self._has_grown():
                    continue
                left = self._room - self._size
                cut = data.rfind(b"\n", 0, left) + 1 or (0 if self._size else left)
                self._append(data[:cut])
                data = data[cut:]
                self._begin_end()
            self._append(data)
            self._at_line_start = data.endswith(b"\n")
        except OSError:
            self.broken = True
            self._close()
            raise

    def _has_grown(self) -> bool:
        """Whether the first file may have more."""
        if self._ends:
            return False
        more = min(max(self._room, LEAST), self._limit // 2 - self._room)
        taken = self._all_room.take(max(0, more))
        self._room += taken
        return taken > 0

    def _begin_end(self) -> None:
        """Go on in another file."""
        self._close()
        if not self._ends:
            wanted = min(self._limit // 2, self._room)
            taken = self._all_room.take(wanted) if self._room > LEAST else 0
            self._end_room = max(taken, min(LEAST, wanted), 2) // 2
        elif len(self._ends) > 1:
            self._folder.remove(self._ends.pop(0))
        self._file = f"{self._name}.{self._printed}"
        self._ends.append(self._file)
        self._room, self._size = self._end_room, 0

    def _append(self, data: bytes) -> None:
        if not data:
            return
        if self._fd is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._fd = self._folder.open(self._file, flags)
        rest = memoryview(data)
        while rest:
            written = os.write(self._fd, rest)
            rest = rest[written:]
            self._size += written
            self._printed += written

    def close(self) -> None:
        with self._guard:
            self._close()

    def _close(self) -> None:
        if self._fd is not None:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = None


class LogReader:
    """Reads what a stage has printed, and goes on with what it prints later.

    Attributes:
        offset (int): how much of all that was printed has been read, or left out.
        at_line_start (bool): whether the last of it was the end of a line.
    """

    def __init__(self, folder: OwnFolder, name: str):
        self._folder = folder
        self._name = name
        self.at_line_start = True
        self.offset = 0

    def new(self) -> Iterator[bytes]:
        """New output, with a line where something is left out.

        Raises:
            OSError: it cannot be read.
        """
        try:
            parts = _parts(self._folder, self._name)
        except FileNotFoundError:
            return
        for start, name in parts:
            try:
                fobj = self._folder.read(name)
            except FileNotFoundError:
                continue  # there is none, or it has been followed by others
            with fobj:
                if start > self.offset:
                    left_out = size(start - self.offset)
                    line = f"[{left_out} omitted: see core.{LOG_OPTION}]\n"
                    yield (b"" if self.at_line_start else b"\n") + line.encode()
                    self.offset, self.at_line_start = start, True
                fobj.seek(self.offset - start)
                while chunk := fobj.read(CHUNK):
                    self.offset += len(chunk)
                    self.at_line_start = chunk.endswith(b"\n")
                    yield chunk


def end_of(folder: OwnFolder, name: str, most: int) -> bytes:
    """The last bytes that a stage has printed.

    Raises:
        OSError: they cannot be read.
    """
    end = b""
    for _, part in reversed(_parts(folder, name)):
        with folder.read(part) as fobj:
            length = fobj.seek(0, os.SEEK_END)
            fobj.seek(max(0, length - (most - len(end))))
            end = fobj.read(most - len(end)) + end
        if len(end) >= most:
            break
    return end


def _parts(folder: OwnFolder, name: str) -> list[tuple[int, str]]:
    """Files with the output of a stage, and the places in it at which they begin."""
    known = folder.names()
    places = (file[len(name) + 1 :] for file in known if file.startswith(f"{name}."))
    numbers = sorted(int(place) for place in places if _PLACE.fullmatch(place))
    return [(0, name), *((number, f"{name}.{number}") for number in numbers)]
