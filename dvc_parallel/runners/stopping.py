"""Stopping a command whose time is up, with all that it has started.

A command is the head of a session of its own.  What it has started may have left the
process group, or even the session; then it is still a descendant, at least before its
parents end.  Where the system can tell, it is found by a mark in its environment, too
(:mod:`dvc_parallel.runners.warden`).
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Callable

import psutil

from dvc_parallel.signals import SIGKILL

from .local import POSIX, signal_all

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
        find: finds more of what it has started, wherever that has gone.

    Attributes:
        fired (bool): whether its time was up before it has ended.
    """

    def __init__(
        self,
        process: subprocess.Popen,
        seconds: float,
        find: Callable[[], Iterable[psutil.Process]] = tuple,
    ):
        self.fired = False
        self._process = process
        self._find = find
        self._ended = threading.Event()
        self._timer = threading.Timer(seconds, self._stop)
        self._timer.daemon = True

    def __enter__(self) -> "Self":
        self._timer.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._timer.cancel()
        self._ended.set()
        self._timer.join()

    def _stop(self) -> None:
        if not self._is_running:
            return
        self.fired = True
        known = self._others(())
        signal_all(self._process, signal.SIGTERM)
        for process in known:
            self._terminate_if_apart(process)

        end = time.monotonic() + GRACE
        self._ended.wait(GRACE)
        known = self._others(known)
        while known and time.monotonic() < end:
            time.sleep(LOOK)
            known = self._others(known)

        end = time.monotonic() + GRACE
        while (known or self._is_running) and time.monotonic() < end:
            if self._is_running:
                signal_all(self._process, SIGKILL)
            for process in known:
                with suppress(psutil.Error):
                    process.kill()
            self._ended.wait(LOOK)
            known = self._others(known)

    @property
    def _is_running(self) -> bool:
        return self._process.returncode is None

    def _others(self, known: Iterable[psutil.Process]) -> set[psutil.Process]:
        """All processes of the command that are alive, without its first one."""
        found = set(known)
        with suppress(psutil.Error):
            found.update(psutil.Process(self._process.pid).children(recursive=True))
        found.update(p for p in psutil.process_iter() if self._is_in_session(p))
        found.update(p for p in self._find() if p.pid != self._process.pid)
        return {process for process in found if is_alive(process)}

    def _is_in_session(self, process: psutil.Process) -> bool:
        pid = self._process.pid
        # NOTE: once it has ended, its number may have been given out again
        if not POSIX or (not self._is_running and psutil.pid_exists(pid)):
            return False
        with suppress(OSError):
            return process.pid != pid and os.getsid(process.pid) == pid
        return False

    def _terminate_if_apart(self, process: psutil.Process) -> None:
        with suppress(OSError, psutil.Error):
            if POSIX and os.getpgid(process.pid) != self._process.pid:
                process.terminate()


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
