"""Commands as processes on this machine, each in a session of its own.

Ctrl-C in the terminal does not reach a session of its own: the run decides what
the commands get to see of it.  A session's ID also tells which processes belong
to which command, even after their parents have died.

What more is to be known of the processes, and done about them, is for a
:class:`Supervisor` to say.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol

import psutil

from .atomic import about
from .pipes import Process, follow
from .runner import (
    Command,
    OnStart,
    Output,
    Runner,
    RunnerClosedError,
    TimeIsUpError,
    ignore_start,
)
from .signals import SIGKILL

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

# Seconds after which it is left alone what cannot be killed, and from one look at it to
# the next.
GRACE = 3.0
LOOK = 0.02


# The sessions of commands in which there are processes, at the time of the call.
Sessions = Callable[[], set[int]]


class Supervisor(ABC):
    """Makes sure that no process of a :class:`LocalRunner` outlives its time.

    The runner calls all but ``wait`` and ``close`` under its guard, so that no command
    starts meanwhile.
    """

    @abstractmethod
    def begin(self, command: Command) -> Command:
        """Get ready for a command that is about to start.

        Returns:
            Command: as it has to be started, such as with more in its environment.

        Raises:
            RunnerClosedError: it must not be started.
        """

    @abstractmethod
    def wait(self, process: Process, command: Command, output: Output) -> int:
        """Pass on what a process prints, and return its exit status when it has ended.

        Args:
            command: as :meth:`begin` has returned it.

        Raises:
            TimeIsUpError: it did not end in time; nothing of it is left.
        """

    @abstractmethod
    def signal(self, signum: int, sessions: Sessions) -> None:
        """Take note of a signal that the runner is about to send to all commands."""

    @abstractmethod
    def stopped(self, sessions: Sessions) -> "AbstractContextManager[None]":
        """Stop all processes for a while."""

    @abstractmethod
    def close(self, sessions: Optional[Sessions]) -> None:
        """Kill what is left, and return when it is gone.

        Args:
            sessions: of commands; None if none has run.
        """


class HeldProcess(Process, Protocol):
    """A process that is the head of a session, and waits for what to run."""

    def start(self, command: Command, stdin: int) -> bool:
        """Have it run a command; tell whether it does.  If not, it is gone."""
        ...

    def drop(self) -> None:
        """End it before it has run anything."""


class Forks(ABC):
    """Has processes that run certain commands, and need not be started."""

    @abstractmethod
    def hold(self, command: Command, runner: "LocalRunner") -> Optional[HeldProcess]:
        """A process that can run a command, or None; it may take a while.

        Args:
            runner: for what has to run until the end of the run.
        """

    @abstractmethod
    def close(self) -> None:
        """End what is not a command of a stage."""


class LocalRunner(Runner):
    """Runs commands on this machine, with empty stdin.

    Owned by nobody: any thread may call any method at any time.

    Args:
        supervisor: its own. Without one, commands that are stopped go on, what
            they leave behind is known by its session alone, and none has a time limit.
        forks: what has processes for some of the commands; its own.
    """

    def __init__(
        self, supervisor: Optional[Supervisor] = None, forks: Optional[Forks] = None
    ):
        self._supervisor = supervisor
        self._forks = forks
        # NOTE: a signal handler may call `signal` while its thread is in it already
        self._guard = threading.RLock()  # of the fields below
        self._running: dict[int, Process] = {}
        self._ended: set[int] = set()
        self._closed = False
        self._no_input: Optional[int] = None

    def run(
        self,
        command: Command,
        output: Output,
        on_start: OnStart = ignore_start,  # noqa: ARG002
    ) -> int:
        if command.timeout is not None and self._supervisor is None:
            raise ValueError("a time limit needs a supervisor")
        held = self._forks.hold(command, self) if self._forks else None
        # NOTE: started under the guard, so that no signal can miss it.
        try:
            with self._guard:
                command, process = self._begin(command, held)
        except BaseException:
            if held:
                held.drop()
            raise

        try:
            if self._supervisor:
                return self._supervisor.wait(process, command, output)
            return follow(process, output)
        except TimeIsUpError:
            raise
        except BaseException:
            signal_all(process, SIGKILL)
            process.wait()
            raise
        finally:
            with self._guard:
                del self._running[process.pid]
                self._ended.add(process.pid)

    def _begin(
        self, command: Command, held: Optional[HeldProcess]
    ) -> tuple[Command, Process]:
        if self._closed:
            raise RunnerClosedError
        if self._supervisor:
            command = self._supervisor.begin(command)
        process = self._start(command, held)
        self._running[process.pid] = process
        return command, process

    def _start(self, command: Command, held: Optional[HeldProcess]) -> Process:
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        if self._no_input is None:
            self._no_input = os.open(os.devnull, os.O_RDONLY)
        if held and held.start(command, self._no_input):
            return held
        args = command.args
        with about(args if isinstance(args, str) else args[0]):
            return subprocess.Popen(  # noqa: S603
                args,
                stdin=self._no_input,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=command.env,
                cwd=command.cwd,
                shell=command.shell,
                pass_fds=command.inherited,
                **apart,
            )

    def signal(self, signum: int) -> None:
        with self._guard:
            self._closed = True
            if self._supervisor:
                self._supervisor.signal(signum, self._sessions)
            for process in self._running.values():
                signal_all(process, signum)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        with self._guard:
            if self._supervisor is None:
                yield
                return
            with self._supervisor.stopped(self._sessions):
                yield

    @property
    def is_closed(self) -> bool:
        """Whether it starts nothing any more."""
        return self._closed

    def close(self) -> None:
        if self._forks:
            self._forks.close()
        with self._guard:
            self._closed = True
            if self._no_input is not None:
                os.close(self._no_input)
                self._no_input = None
        if self._supervisor:
            self._supervisor.close(self._sessions if self._ended else None)
        elif self._ended:
            kill_sessions(self._sessions())

    def _sessions(self) -> set[int]:
        """Sessions of commands in which there are processes."""
        if sys.platform == "win32":
            return set()
        alive = set()
        for pid in psutil.pids():
            with suppress(OSError):
                alive.add(os.getsid(pid))
        # NOTE: a session whose first process lives is not one of those that have ended:
        # its number has been given out again
        left = {pid for pid in alive & self._ended if not psutil.pid_exists(pid)}
        return left | self._running.keys()


def signal_all(process: Process, signum: int) -> None:
    """Send a signal to all processes of a command, as far as the system can."""
    if sys.platform != "win32":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signum)
    elif signum == signal.SIGINT:
        with suppress(OSError):
            os.kill(process.pid, signal.CTRL_BREAK_EVENT)
    else:
        with suppress(psutil.Error):
            head = psutil.Process(process.pid)
            for one in (*head.children(recursive=True), head):
                one.kill()


def kill_sessions(sessions: Collection[int]) -> None:
    """Kill all processes of sessions, and return when they are gone, or in a while."""
    end = time.monotonic() + GRACE
    while left := list(_processes_of(sessions)):
        for pid in left:
            with suppress(OSError):
                os.kill(pid, SIGKILL)
        if time.monotonic() > end:
            return
        time.sleep(LOOK)


def _processes_of(sessions: Collection[int]) -> Iterator[int]:
    if sys.platform == "win32":
        return
    for pid in psutil.pids() if sessions else ():
        with suppress(OSError, psutil.Error):
            if os.getsid(pid) not in sessions:
                continue
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                yield pid
