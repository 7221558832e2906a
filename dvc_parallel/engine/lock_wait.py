"""Waiting for locks of other processes, and saying so.

DVC tries to get the repo lock every 0.5 s, for 3 s.  A run of many small stages holds
it nearly all of the time: it gives it up around commands and twice a second, but seldom
at the moment of one of seven tries.

So every command tries more often, and a parallel run does not give up at all: beside
other runs, waiting is all that it takes.  Each such wait says what it is for after 1 s,
10 s later, and then each minute.  It sleeps between two tries.  It ends with an
error where it would be in vain: the holder is dead and cannot unlock any more, or files
cannot be locked at all.
"""

import errno
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from traceback import clear_frames
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from dvc.exceptions import DvcException

from . import logger
from .atomic import about

if TYPE_CHECKING:
    from dvc.repo import Repo


# Seconds between two tries; less than a run leaves the lock free (repo_lock.PAUSE).
TRY_EVERY = 0.02


def lock(original: Callable, self: "dvc_lock.Lock") -> None:
    """``dvc.lock.Lock.lock``: try often before DVC tries its own way.

    Raises:
        LockError: another process holds the lock.
        OSError: its file cannot be written.
    """
    end = time.monotonic() + dvc_lock.DEFAULT_TIMEOUT
    while time.monotonic() < end:
        with suppress(dvc_lock.LockError):
            _take(self, self._do_lock)
            return
        time.sleep(TRY_EVERY)
    _take(self, lambda: original(self))


def _take(lock: "dvc_lock.Lock", take: Callable[[], None]) -> None:
    """Call what takes a lock, which is not taken if its file cannot be written."""
    try:
        with about(lock.lockfile):
            take()
    except OSError as exc:
        # NOTE: the file may have been locked before it could not be written, and stays
        # so for as long as the traceback refers to it
        clear_frames(exc.__traceback__)
        # NOTE: else unlocking raises an error that covers this one
        lock._lock_failed = True
        raise


def unlock(original: Callable, self: "dvc_lock.Lock") -> None:
    """``dvc.lock.Lock.unlock``: name the file that cannot be closed.

    Raises:
        OSError: it cannot be closed; it is unlocked all the same.
    """
    try:
        with about(self.lockfile):
            original(self)
    except OSError:
        # NOTE: else unlocking it once more raises an error that covers this one
        self._lock, self._lock_failed = None, True
        raise


# NOTE: only here, as `dvc.lock` gets the two functions above when it is imported
import flufl.lock  # noqa: E402
from dvc import lock as dvc_lock  # noqa: E402

# Seconds between two looks at who holds a lock. Nothing is said before the first one.
LOOK_EVERY = 1.0
# Seconds after which a wait says for the second time what it is for, and between the
# times after that.
SAYS_AGAIN = 10.0
REPEATS = 60.0

# The names of what is locked, for users.
REPO = "the repo"

# How much is shown of a command line.
SHOWN = 100

# What the system says of a file that another process has locked.
LOCKED = (errno.EAGAIN, errno.EACCES)
CLAIM = re.compile(r"\.(\d+)@([^/\\]*)\.lock$")


def say(text: str) -> None:
    """Show a line to the user."""
    # NOTE: imported here, as each command of DVC imports this module
    from .terminal import visible

    # NOTE: log handlers raise when nobody reads what they write
    with suppress(Exception):
        logger.info("%s", visible(text))


class Wait:
    """When to say that something is waited for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._begun = self._next = clock()

    def is_to_be_told(self) -> Optional[str]:
        """How long it has been by now, such as "for 10 s", if it is time to say so.

        The first time, it is an empty text.
        """
        now = self._clock()
        if now < self._next:
            return None
        seconds = now - self._begun
        is_first = self._next == self._begun
        self._next = now + (SAYS_AGAIN if is_first else REPEATS)
        if is_first:
            return ""
        return (
            f"for {seconds:.0f} s" if seconds < 60 else f"for {seconds // 60:.0f} min"
        )

    def tell(self, what: str) -> None:
        """Say what is waited for, if it is time to."""
        if (lasting := self.is_to_be_told()) is not None:
            say(
                f"Still waiting for {what} ({lasting})"
                if lasting
                else f"Waiting for {what}"
            )


def wait_for(
    lock: "dvc_lock.LockBase",
    name: str,
    *,
    goes_on: Callable[[], bool] = lambda: True,
    gives_up: bool = True,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Take a lock, however long it takes.

    Args:
        lock: one of DVC's.
        name: what it locks, for users.
        goes_on: whether to go on waiting.
        gives_up: whether to end where it is in vain; else, what the user can do about
            that is said.

    Raises:
        LockError: it does not go on.
        DvcException: it is in vain; says what to do.
        OSError: the file of the lock cannot be written.
    """
    _sign(lock)
    wait = Wait(clock)
    next_look = clock() + LOOK_EVERY
    while True:
        try:
            _try(lock)
            return
        except dvc_lock.LockError as exc:
            if not goes_on():
                raise
            if clock() >= next_look:
                next_look = clock() + LOOK_EVERY
                holder = _holder_of(lock)
                in_vain = _why_in_vain(exc, lock, holder)
                if in_vain and gives_up:
                    raise DvcException(f"cannot lock {name}: {in_vain}") from None
                if (lasting := wait.is_to_be_told()) is not None:
                    safe = not gives_up and not lasting
                    note = "; no result is lost" if safe else ""
                    say(_told(name, lock, holder, lasting, in_vain) + note)
        sleep(TRY_EVERY)


def _try(lock: "dvc_lock.LockBase") -> None:
    """Take a lock if it gets free within a second.

    Raises:
        LockError: it does not.
    """
    if isinstance(lock, dvc_lock.Lock):
        _take(lock, lock._do_lock)
    elif isinstance(lock, dvc_lock.HardlinkLock):
        # NOTE: without DVC's own method, which takes no time before 3.55
        try:
            super(dvc_lock.HardlinkLock, lock).lock(timedelta(seconds=1))
        except flufl.lock.TimeOutError:
            raise dvc_lock.LockError(dvc_lock.FAILED_TO_LOCK_MESSAGE) from None
    else:
        lock.lock()


class Holder(NamedTuple):
    """The process that has locked a file, as far as it is known.

    Attributes:
        host: where it runs, if that is another one.
        cmd: its command line; None if it has ended.
    """

    pid: int
    host: Optional[str]
    cmd: Optional[str]

    def __str__(self) -> str:
        if self.host is not None:
            return f"process {self.pid} on {self.host}"
        return f"process {self.pid}" + (f" ({self.cmd})" if self.cmd else "")


def _told(
    name: str,
    lock: "dvc_lock.LockBase",
    holder: Optional[Holder],
    lasting: str,
    in_vain: Optional[str],
) -> str:
    text = f"Still waiting for {name} ({lasting})" if lasting else f"Waiting for {name}"
    if in_vain:
        return f"{text}: {in_vain}"
    text = f"{text}: {holder or 'another process'} has locked '{lock.lockfile}'"
    if not holder and isinstance(lock, dvc_lock.HardlinkLock):
        return f"{text}; if no DVC process uses the repo, on any host, remove that file"
    return text


def _why_in_vain(
    exc: BaseException, lock: "dvc_lock.LockBase", holder: Optional[Holder]
) -> Optional[str]:
    """Why nobody will unlock it, and what to do, if that is so."""
    if isinstance(lock, dvc_lock.HardlinkLock):
        if holder is None or holder.host is not None or holder.cmd is not None:
            return None
        return f"{holder} has ended and left '{lock.lockfile}' behind; remove that file"
    cause: Optional[BaseException] = exc
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    if cause is None or cause.errno in LOCKED:
        return None
    return (
        f"'{lock.lockfile}' cannot be locked ({cause.strerror}); if the file system "
        "has no locks, run `dvc config core.hardlink_lock true`"
    )


def _sign(lock: "dvc_lock.LockBase") -> None:
    """Put the owner of a hard link into its name, for others to see."""
    if not isinstance(lock, dvc_lock.HardlinkLock) or CLAIM.search(lock._claimfile):
        return
    path, ending = os.path.splitext(lock._claimfile)
    lock._claimfile = f"{path}.{os.getpid()}@{socket.gethostname()}{ending}"


def _holder_of(lock: "dvc_lock.LockBase") -> Optional[Holder]:
    try:
        with open(lock.lockfile, encoding="utf-8") as fobj:
            status, text = os.fstat(fobj.fileno()), fobj.read().strip()
    except (OSError, ValueError):
        return None
    if isinstance(lock, dvc_lock.HardlinkLock):
        claim = CLAIM.search(text)
        if claim is None:
            return None
        pid, host = int(claim[1]), claim[2]
        if host != socket.gethostname():
            return Holder(pid, host, None)
    else:
        found = _pid_that_locks(status)
        if found is None and text.isdecimal():
            found = int(text)
        if found is None:
            return None
        pid = found
    return Holder(pid, None, _command_of(pid))


def _pid_that_locks(status: os.stat_result) -> Optional[int]:
    """Which process has locked a file, where the system tells.

    Format: Linux kernel documentation, filesystems/proc.rst ("locks").
    """
    if sys.platform == "win32":
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/locks", encoding="ascii") as fobj:
            for fields in map(str.split, fobj):
                if fields[5] == f"{device}:{status.st_ino}" and int(fields[4]) > 0:
                    return int(fields[4])
    return None


def _command_of(pid: int) -> Optional[str]:
    """The command line of a process; None if there is no such process."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        # NOTE: without the line breaks of `python -c`
        cmd = " ".join(" ".join(process.cmdline()).split()) or process.name()
        return cmd if len(cmd) <= SHOWN else f"{cmd[:SHOWN]}..."
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return "owned by another user"


class PatientLock(dvc_lock.LockBase):
    """A repo lock that waits for as long as it takes, and says so.

    Stands in for ``repo.lock`` until it has been locked: from then on, a run waits for
    it in its own way.

    Args:
        repo: the repo, whose lock gives up after some seconds.
    """

    def __init__(self, repo: "Repo"):
        super().__init__(repo.lock.lockfile)
        self._repo = repo
        self._lock = repo.lock

    @property
    def is_locked(self) -> bool:
        return self._lock.is_locked

    def lock(self) -> None:
        wait_for(self._lock, REPO)
        self._repo.lock = self._lock

    def unlock(self) -> None:
        self._lock.unlock()

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, typ, value, tbck) -> None:
        self.unlock()


@contextmanager
def given_away(repo: "Repo") -> Iterator[None]:
    """Unlock a locked repo for a while, and drop what it has loaded.

    It is locked again at the end, however long that takes, but for an error.
    """
    repo._reset()
    repo.lock.unlock()
    try:
        yield
    except BaseException:
        # NOTE: whoever unlocks it next has to find it locked, or that this failed
        with suppress(dvc_lock.LockError):
            repo.lock.lock()
        raise
    wait_for(repo.lock, REPO)
    repo._reset()
