"""Stopping a command whose time is up, with all that it has started.

A command is the head of a session of its own.  What it has started may have left the
process group, or even the session; then it is still a descendant, at least before its
parents end.  Where the system can tell, it is found by a mark in its environment, too
(:mod:`dvc_parallel.processes.watchdog`).
"""

import signal
import threading
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Optional

import psutil

from dvc_parallel.engine.local_runner import signal_all
from dvc_parallel.engine.pipes import Process
from dvc_parallel.engine.signals import SIGCONT, SIGKILL, clock

from . import watchdog

if TYPE_CHECKING:
    from typing_extensions import Self

# Seconds from SIGTERM to SIGKILL, and from there to giving up on what cannot be killed;
# seconds from one look at what is left to the next.
GRACE = 10.0
LOOK = 0.05


class Stopper:
    """Stops a process when its time is up, and waits until nothing of it is left.

    Used as a context manager around waiting for the process.

    Args:
        process: the head of a session; nobody waits for it here.
        seconds: how long it may take, from now on.
        mark: what is in the environment of all that it has started, if anything.

    Attributes:
        fired (bool): whether its time was up before it has ended.
    """

    def __init__(
        self,
        process: Process,
        seconds: float,
        mark: Optional[str] = None,
    ):
        self.fired = False
        self._process = process
        self._mark = mark
        self._known: dict[int, Optional[bytes]] = {}  # when they have started
        self._ended = threading.Event()
        self._end = clock() + seconds
        self._timer = threading.Timer(seconds, self._time_is_up)
        self._timer.daemon = True

    def __enter__(self) -> "Self":
        self._timer.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._timer.cancel()
        self._ended.set()
        self._timer.join()

    def _time_is_up(self) -> None:
        # NOTE: it is not if this process was stopped meanwhile, with the command
        while (left := self._end - clock()) > 0:
            if self._ended.wait(left):
                return
        self._stop()

    def _stop(self) -> None:
        if not self._is_running():
            return
        self.fired = True
        end = clock() + GRACE
        # NOTE: all of them get it before one can see another one die of it
        self._signal(signal.SIGTERM, SIGCONT)
        self._ended.wait(GRACE)
        while self._has_others() and clock() < end:
            time.sleep(LOOK)

        end = clock() + GRACE
        while (self._is_running() or self._has_others()) and clock() < end:
            self._signal(SIGKILL)
            self._ended.wait(LOOK)

    def _is_running(self) -> bool:
        return self._process.returncode is None

    def _has_others(self) -> bool:
        """Whether something of the command is alive, besides its first process."""
        return bool(set(self._look()) - {self._process.pid})

    def _signal(self, *signums: int) -> None:
        """Send signals to all processes of the command."""
        if not watchdog.CAN_LOOK:
            if self._is_running():
                signal_all(self._process, signums[0])
            return
        pids = watchdog.freeze(self._look)
        self._known.update((pid, watchdog.start_of(pid)) for pid in pids)
        for signum in signums:
            for pid in pids:
                watchdog.send(pid, signum)

    def _look(self, known: Collection[int] = ()) -> Iterator[int]:
        """The living processes of the command."""
        if not watchdog.CAN_LOOK:
            return iter(())
        pid = self._process.pid
        known = set(known)
        known |= {pid for pid, s in self._known.items() if s == watchdog.start_of(pid)}
        # NOTE: once it has ended, its number may have been given out again
        if self._is_running():
            return watchdog.processes_of(self._mark, {pid}, known | {pid})
        sessions = () if psutil.pid_exists(pid) else {pid}
        return watchdog.processes_of(self._mark, sessions, known - {pid})
