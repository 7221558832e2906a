"""GNU make's jobserver: job slots that programs share, as bytes in a pipe.

Whoever wants to run one more job reads a byte, and writes it back at the end.  Each
program that takes part has one slot besides, its own.  ``MAKEFLAGS`` says where the
pipe is: ``--jobserver-auth=fifo:PATH``, or ``--jobserver-auth=R,W`` for descriptors
that are inherited, which is all that make knows before 4.4.  (GNU make manual, "Sharing
Job Slots with GNU make",
https://www.gnu.org/software/make/manual/html_node/Job-Slots.html)

Here, it is always a named pipe, so that it can be opened once more: others expect reads
from theirs to block.
"""

import fcntl
import os
import re
import select
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Optional

MAKEFLAGS = "MAKEFLAGS"

_AUTH = re.compile(
    r"--jobserver-(?:auth|fds)=(?:fifo:(?P<path>\S+)|(?P<fds>-?\d+,-?\d+))"
)
_JOBS = re.compile(r"(?:^|(?<=\s))(?:--jobserver-\w+=\S+|(?:-j|--jobs)[\s=]*\d*)(?!\S)")
# Where options end, and what make is told of variables begins.
_END = re.compile(r"(?:^|\s)(?=--\s)")
_TOKEN = b"+"
# First release of GNU make that knows named pipes.
FIRST_WITH_FIFO = (4, 4)


class JobserverError(Exception):
    """``MAKEFLAGS`` names a jobserver that cannot be reached."""


class Jobserver:
    """Slots in a pipe.  Owned by the thread that made it.

    Args:
        fd: the pipe, open for reading without blocking, and for writing.
        inherited: descriptors that programs which take part have to inherit.
    """

    def __init__(self, fd: int, inherited: Sequence[int] = ()):
        self.fd = fd
        self.inherited = inherited

    def take(self) -> Optional[bytes]:
        """A token for a slot, or None when there is none at the moment."""
        with suppress(BlockingIOError):
            return os.read(self.fd, 1) or None
        return None

    def give_back(self, token: bytes) -> None:
        os.write(self.fd, token)

    def has_tokens(self) -> bool:
        # NOTE: not `select`, which knows descriptors up to 1023 only
        poll = select.poll()  # type: ignore[attr-defined]
        poll.register(self.fd, select.POLLIN)  # type: ignore[attr-defined]
        return bool(poll.poll(0))

    def environment(self) -> dict[str, str]:
        """Variables for programs that are to take part."""
        return {}

    def close(self) -> None:
        os.close(self.fd)


class Server(Jobserver):
    """The jobserver of a run.

    Args:
        slots: how many there are; none is taken.
        fifo: whether it is named in ``MAKEFLAGS`` by its path.

    Raises:
        OSError: there can be none.
    """

    def __init__(self, slots: int, fifo: bool):
        self._slots = slots
        self._resources = ExitStack()
        with self._resources:
            folder = tempfile.mkdtemp(prefix="dvc-parallel-")
            self._resources.callback(shutil.rmtree, folder, ignore_errors=True)
            self._path = os.path.join(folder, "jobserver")
            os.mkfifo(self._path, 0o600)  # type: ignore[attr-defined]
            super().__init__(self._open(os.O_RDWR | os.O_NONBLOCK))  # type: ignore[attr-defined]
            # NOTE: a path in MAKEFLAGS ends at a space
            if not fifo or len(self._path.split()) > 1:
                self.inherited = self._open(os.O_RDONLY), self._open(os.O_WRONLY)
            self.refill()
            self._resources = self._resources.pop_all()

    def _open(self, flags: int) -> int:
        fd = os.open(self._path, flags)
        self._resources.callback(os.close, fd)
        return fd

    def refill(self) -> None:
        """Put all slots into the pipe, when nobody has one: some may have been lost."""
        with suppress(BlockingIOError):
            while os.read(self.fd, self._slots + 1):
                pass
        os.write(self.fd, _TOKEN * self._slots)

    def environment(self) -> dict[str, str]:
        auth = ",".join(map(str, self.inherited)) or f"fifo:{self._path}"
        options, *variables = _END.split(os.environ.get(MAKEFLAGS, ""), maxsplit=1)
        ours = f"-j{self._slots} --jobserver-auth={auth}"
        return {MAKEFLAGS: " ".join([_JOBS.sub("", options), ours, *variables])}

    def close(self) -> None:
        self._resources.close()


def connect(makeflags: str) -> Optional[Jobserver]:
    """The jobserver of whoever has started this process, if ``MAKEFLAGS`` names one.

    Raises:
        JobserverError: it cannot be reached; the message says why.
    """
    options, *_ = _END.split(makeflags, maxsplit=1)
    matches = list(_AUTH.finditer(options))
    if not matches:
        return None
    match = matches[-1]  # as make has it
    if match["path"]:
        return Jobserver(_open_pipe(match["path"], match[0], os.O_RDWR))
    reading, writing = map(int, match["fds"].split(","))
    for fd, mode in ((reading, os.O_RDONLY), (writing, os.O_WRONLY)):
        if not _is_inherited_pipe(fd, mode):
            raise JobserverError(
                f"{match[0]}: this pipe is not open; in a Makefile, put a '+' before "
                "commands that share its jobs"
            )
    # NOTE: there, both ends of a pipe can be opened through one of them
    fd = _open_pipe(f"/proc/self/fd/{reading}", match[0], os.O_RDWR)
    return Jobserver(fd, (reading, writing))


def _open_pipe(path: str, auth: str, mode: int) -> int:
    try:
        fd = os.open(path, mode | os.O_NONBLOCK)  # type: ignore[attr-defined]
    except OSError as exc:
        raise JobserverError(f"{auth}: {exc}") from None
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise JobserverError(f"{auth}: this is not a pipe")
    return fd


def _is_inherited_pipe(fd: int, mode: int) -> bool:
    """Whether a descriptor is an end of a pipe that this process has inherited."""
    # NOTE: make says -2 to whoever has not
    if fd < 0:
        return False
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)  # type: ignore[attr-defined]
        is_fifo = stat.S_ISFIFO(os.fstat(fd).st_mode)
        # NOTE: what Python opens itself is not (PEP 446), and may have got the number
        is_inherited = os.get_inheritable(fd)
    except OSError:
        return False
    return is_fifo and is_inherited and flags & os.O_ACCMODE in (mode, os.O_RDWR)  # type: ignore[attr-defined]


def make_knows_fifo() -> bool:
    """Whether the make of this machine can be given a named pipe, if it has one."""
    try:
        shown = subprocess.run(
            ["make", "--version"],  # noqa: S607
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        ).stdout
    except OSError:
        return True
    match = re.match(rb"GNU Make (\d+)\.(\d+)", shown)
    return not match or tuple(map(int, match.groups())) >= FIRST_WITH_FIFO
