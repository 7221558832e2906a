"""Commands as processes on this machine, each in a session of its own.

Ctrl-C in the terminal does not reach a session of its own: the run decides what
the commands get to see of it.  A session's ID also tells which processes belong
to which command, even after their parents have died.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Callable, Optional

import psutil

from dvc_parallel.engine.atomic import about
from dvc_parallel.engine.signals import SIGKILL
from dvc_parallel.processes import watchdog

from .pipes import follow
from .runner import Output, Runner, RunnerClosedError

# Seconds after which it is left alone what cannot be killed.
GRACE = 3.0

POSIX = os.name == "posix"


class LocalRunner(Runner):
    """Runs commands on this machine, with empty stdin.

    Owned by nobody: any thread may call any method at any time.
    """

    def __init__(self):
        # NOTE: a signal handler may call `signal` while its thread is in it already
        self._guard = threading.RLock()  # of the fields below
        self._running: dict[int, subprocess.Popen] = {}
        self._ended: set[int] = set()
        self._closed = False
        self._no_input: Optional[int] = None

    def run(self, args, output: Output, **kwargs) -> int:
        return self._run(args, partial(follow, output=output), **kwargs)

    def _run(self, args, wait: Callable[[subprocess.Popen], int], **kwargs) -> int:
        """Run a command; ``wait`` returns its exit status when it has ended."""
        if POSIX:
            kwargs["start_new_session"] = True
        else:
            kwargs["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined]
        # NOTE: started under the guard, so that no signal can miss it.
        with self._guard:
            if self._closed:
                raise RunnerClosedError
            if self._no_input is None:
                self._no_input = os.open(os.devnull, os.O_RDONLY)
            with about(args if isinstance(args, str) else args[0]):
                process = subprocess.Popen(  # noqa: S603
                    args,
                    stdin=self._no_input,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    **kwargs,
                )
            self._running[process.pid] = process

        try:
            return wait(process)
        except BaseException:
            signal_all(process, SIGKILL)
            process.wait()
            raise
        finally:
            with self._guard:
                del self._running[process.pid]
                self._ended.add(process.pid)

    def signal(self, signum: int) -> None:
        with self._guard:
            self._closed = True
            for process in self._running.values():
                signal_all(process, signum)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        with self._guard:
            pids = self._freeze()
            try:
                yield
            finally:
                for pid in pids:
                    watchdog.send(pid, signal.SIGCONT)

    def _freeze(self) -> set[int]:
        """Stop all processes that there are; return them."""
        if watchdog.CAN_LOOK:
            with suppress(OSError):
                return watchdog.freeze(self._look)
        return set()

    def _look(self, known: Collection[int] = ()) -> Iterator[int]:
        """What is alive of the commands, by what is known of them."""
        return watchdog.processes_of(None, self._sessions(), known)

    def close(self) -> None:
        with self._guard:
            self._closed = True
            if self._no_input is not None:
                os.close(self._no_input)
                self._no_input = None
        if self._ended:
            self._end_what_is_left()

    def _end_what_is_left(self) -> None:
        if watchdog.CAN_LOOK:
            watchdog.kill_all(None, self._sessions(), seconds=GRACE)
            return
        sessions = self._sessions()
        for pid in psutil.pids():
            with suppress(OSError):
                if os.getsid(pid) in sessions:
                    os.kill(pid, SIGKILL)

    def _sessions(self) -> set[int]:
        """Sessions of commands in which there are processes."""
        if not POSIX:
            return set()
        alive = set()
        for pid in psutil.pids():
            with suppress(OSError):
                alive.add(os.getsid(pid))
        # NOTE: a session whose first process lives is not one of those that have ended:
        # its number has been given out again
        left = {pid for pid in alive & self._ended if not psutil.pid_exists(pid)}
        return left | self._running.keys()


def signal_all(process: subprocess.Popen, signum: int) -> None:
    """Send a signal to all processes of a command, as far as the system can."""
    if POSIX:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signum)
        return
    if sys.platform == "win32" and signum == signal.SIGINT:
        process.send_signal(signal.CTRL_BREAK_EVENT)
        return
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()
