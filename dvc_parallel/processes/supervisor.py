"""The supervisor of a run: none of its processes outlives DVC."""

import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Optional

from shortuuid import uuid

from dvc_parallel.engine import logger
from dvc_parallel.engine.local_runner import GRACE, Sessions, Supervisor, kill_sessions
from dvc_parallel.engine.pipes import Process, follow
from dvc_parallel.engine.runner import (
    Command,
    Output,
    RunnerClosedError,
    TimeIsUpError,
)
from dvc_parallel.engine.signals import SIGCONT, SIGKILL
from dvc_parallel.engine.terminal import visible
from dvc_parallel.engine.usage import USAGE

from . import orphans, watchdog
from .measuring import Measured, Meter
from .stopping import Stopper
from .watchdog import uptime

LEFT = (
    "%s left background processes, which end with the run: %s; to keep one running, "
    "start it with `env -u DVC_PARALLEL_RUN setsid`"
)
STAYS = (
    "processes of this run were killed but have not ended%s; the next run waits for "
    "them"
)

# Seconds in which what a command has left may end by itself, when the run has ended;
# seconds from one look at it to the next.
LINGER = 0.5
LOOK = 0.02
# Seconds from the end of the lease to when the watchdog kills: who is not stuck is the
# first then, and knows why the commands end.
PRECEDENCE = 0.5


class RunSupervisor(Supervisor):
    """Kills whatever the run has started: at its end, and when DVC is killed.

    That includes what has made itself a session of its own.  A command that may only
    take so long has a mark besides that of the run, by which all that it has started
    is found when its time is up.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo, where there is one that the next run has.
        lease_end: when all is killed even if this process is stuck, unless that is
            renewed, as :func:`uptime` tells the time; None: never.
    """

    def __init__(
        self, tmp_dir: Optional[str] = None, lease_end: Optional[float] = None
    ):
        self._run_id = uuid()
        self._folder = orphans.folder_of(tmp_dir) if tmp_dir else None
        self._file: Optional[orphans.RunFile] = None
        self._guard = threading.Lock()  # of the two fields below
        self._watchdog: Optional[watchdog.Watchdog] = None
        self._lease_end = lease_end
        self._has_started = False
        self._is_stopped = False  # by a signal
        self._meter = Meter()

    def begin(self, command: Command) -> Command:
        """Get ready for a command, as :meth:`Supervisor.begin` does.

        Raises:
            RunnerClosedError: the lease is over.
        """
        with self._guard:
            if self._lease_end is not None and uptime() >= self._lease_end:
                raise RunnerClosedError
            self._start_watchdog()
        env = os.environ if command.env is None else command.env
        env = watchdog.marked(env, self._run_id)
        if command.timeout is not None:
            env = watchdog.marked(env, uuid())
        return replace(command, env=env)

    def _start_watchdog(self) -> None:
        if not self._has_started and self._folder:
            self._file = orphans.announce(self._folder, self._run_id)
        # NOTE: another one for one that was killed, but not where there can be none
        if self._has_started and (
            self._watchdog is None or not self._watchdog.has_ended
        ):
            return
        self._has_started = True
        try:
            self._watchdog = watchdog.start(self._run_id)
        except OSError as exc:
            self._watchdog = None
            logger.warning(
                "cannot start the watchdog, so commands go on if DVC is killed: %s", exc
            )
        self._tell_watchdog()

    def renew(self, lease_end: float) -> None:
        """Extend the lease until then, if it is not over."""
        with self._guard:
            assert self._lease_end is not None
            if uptime() < self._lease_end < lease_end:
                self._lease_end = lease_end
                self._tell_watchdog()

    def _tell_watchdog(self) -> None:
        if self._watchdog and self._lease_end is not None:
            self._watchdog.kill_at(self._lease_end + PRECEDENCE)

    def wait(self, process: Process, command: Command, output: Output) -> int:
        measured = self._meter.begin(process.pid)
        try:
            return self._wait(process, command, output, measured)
        finally:
            usage = self._meter.end(measured, process.returncode)
            if process.returncode is not None:
                output(USAGE, usage.to_bytes())

    def _wait(
        self,
        process: Process,
        command: Command,
        output: Output,
        measured: Measured,
    ) -> int:
        if command.timeout is None:
            return follow(process, output, measured.wait)
        assert command.env
        mark = watchdog.own_mark(command.env) if watchdog.CAN_LOOK else None
        with Stopper(process, command.timeout, mark) as stopper:
            returncode = follow(process, output, measured.wait)
        if stopper.fired:
            raise TimeIsUpError
        return returncode

    def signal(self, signum: int, sessions: Sessions) -> None:
        if signum == SIGKILL and self._has_started:
            # NOTE: none of them is to see another one die
            for pid in self._freeze(sessions):
                watchdog.send(pid, SIGKILL)
        self._is_stopped = True

    @contextmanager
    def stopped(self, sessions: Sessions) -> Iterator[None]:
        pids = self._freeze(sessions)
        try:
            yield
        finally:
            for pid in pids:
                watchdog.send(pid, SIGCONT)

    def _freeze(self, sessions: Sessions) -> set[int]:
        """Stop all processes that there are; return them."""
        if watchdog.CAN_LOOK:
            with suppress(OSError):
                return watchdog.freeze(partial(self._look, sessions))
        return set()

    def _look(self, sessions: Sessions, known: Collection[int] = ()) -> Iterator[int]:
        """The living processes of the run, by what is known of them."""
        return watchdog.processes_of(self._run_id, sessions(), known)

    def close(self, sessions: Optional[Sessions]) -> None:
        self._meter.close()
        is_over = False
        try:
            is_over = sessions is None or self._end_what_is_left(sessions)
        except OSError:
            # NOTE: it cannot be seen from here what is left, but it may be from there
            if not (guard := self._pop_watchdog()):
                raise
            is_over = guard.kill(GRACE)
            if not is_over:
                logger.warning(STAYS, "")
        finally:
            self._take_leave(is_over)

    def _end_what_is_left(self, sessions: Sessions) -> bool:
        """Kill what is left, and tell whether all of it is gone, as far as is known."""
        if not watchdog.CAN_LOOK:
            kill_sessions(sessions())
            return True
        left = set(self._look(sessions))
        if left and not self._is_stopped:
            left = self._let_end(left, sessions)
            self._tell(left)
        is_over = not left or watchdog.kill_all(self._run_id, sessions(), GRACE)
        if not is_over:
            logger.warning(STAYS, ": " + ", ".join(map(str, sorted(left))))
        return is_over

    def _let_end(self, left: set[int], sessions: Sessions) -> set[int]:
        """Wait a little for what is about to end; return what does not."""
        end = time.monotonic() + LINGER
        while left and time.monotonic() < end:
            time.sleep(LOOK)
            left = set(self._look(sessions))
        return left

    def _tell(self, left: Iterable[int]) -> None:
        """Say which processes of which stages end with the run."""
        stages: dict[str, list[str]] = {}
        for pid in sorted(left):
            env = watchdog.environment_of(pid)
            with suppress(OSError):
                with open(f"/proc/{pid}/comm", errors="replace") as fobj:
                    name = fobj.read().rstrip("\n")
                stage = env.get(b"DVC_STAGE", b"").decode(errors="replace")
                stages.setdefault(stage, []).append(f"{pid} ({name})")
        for stage, processes in stages.items():
            name = f"stage '{visible(stage)}'" if stage else "a stage"
            logger.warning(LEFT, name, visible(", ".join(processes)))

    def _take_leave(self, is_over: bool) -> None:
        # NOTE: if there is something that cannot be killed, the watchdog goes on trying
        # after the end of this process, and so does the next run
        if is_over and (guard := self._pop_watchdog()):
            guard.dismiss()
        if self._file:
            self._file.remove() if is_over else self._file.release()
            self._file = None

    def _pop_watchdog(self) -> Optional[watchdog.Watchdog]:
        """The watchdog, which from now on is the caller's alone."""
        with self._guard:
            found, self._watchdog = self._watchdog, None
        return found
