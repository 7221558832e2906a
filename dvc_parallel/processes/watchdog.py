"""Killing what a run has started, when DVC itself is killed.

    DVC ───── pipe ─────> watchdog      the pipe ends when DVC dies, in whatever way
     └──> commands ──> whatever they start
          DVC_PARALLEL_RUN=id         is in the environment of all of them

The watchdog is a process in a session of its own that does nothing but wait for the end
of the pipe.  If DVC has not said goodbye before, it kills all that have the id in their
environment, wherever they have gone: to the background, or to a session of their own.
It stops all of them before it kills one, as a shell goes on when its command has ended.

It can be told a time at which to kill them all the same, and a later one before that.
So what has to end at a time does, even if the process that has started it is stuck.

Run as a script, this module needs nothing but Python.  It is for Linux, where
``/proc`` tells the environment of a process.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Callable, Optional

# Whether the system tells what others have in their environment.
CAN_LOOK = sys.platform == "linux"
VARIABLE = "DVC_PARALLEL_RUN"
VARIABLE_BYTES = VARIABLE.encode()
GOODBYE = b"goodbye"
# Seconds between two looks: a process that is just being started has the environment of
# its parent for an instant.
PAUSE = 0.05
# Seconds between two looks after the time is up: who is stuck may start something more
# before it knows.
LOOK_AGAIN = 0.5
# Seconds from one look at the time to the next: a machine that wakes up does not end a
# wait because of the time for which it has slept.
TICK = 1.0
# Seconds after which processes that do not stop are taken as they are.
FREEZE = 1.0
# States of processes that have come to their end.
ENDED = (b"Z", b"X")


def uptime() -> float:
    """Seconds since the machine was started, also those for which it has slept.

    Other machines count the latter, too, when they wait for the end of a time.
    """
    if sys.platform != "linux":
        return time.monotonic()
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def marked(env: Mapping[str, str], run_id: str) -> dict[str, str]:
    """An environment that tells that a process belongs to a run.

    A run within a command of another run belongs to both.
    """
    outer = env.get(VARIABLE)
    return {**env, VARIABLE: f"{outer}:{run_id}" if outer else run_id}


def own_mark(env: Mapping[str, str]) -> str:
    """The ID that was the last to be put into a marked environment."""
    return env[VARIABLE].rpartition(":")[2]


def processes_of(
    run_id: Optional[str],
    sessions: Collection[int] = (),
    known: Collection[int] = (),
) -> Iterator[int]:
    """Process IDs of all that belong to a run, as far as this user may know.

    Args:
        run_id: the ID of the run, None where only the other two tell.
        sessions: of its commands, whose processes may have cleared their environment.
        known: some that belong to it, whose children do, too.
    """
    mark = run_id.encode() if run_id else None
    for name in os.listdir("/proc"):
        if name.isdecimal() and _belongs(int(name), mark, sessions, known):
            yield int(name)


def _belongs(
    pid: int,
    mark: Optional[bytes],
    sessions: Collection[int],
    known: Collection[int],
) -> bool:
    try:
        if not (
            (mark and mark in environment_of(pid).get(VARIABLE_BYTES, b"").split(b":"))
            or (sessions and os.getsid(pid) in sessions)  # type: ignore[attr-defined]
            or (known and (pid in known or _stat(pid)[1] in known))
        ):
            return False
        return _stat(pid)[0] not in ENDED
    except OSError:
        return False


def environment_of(pid: int) -> dict[bytes, bytes]:
    """The environment that a process was started with; empty if it cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as fobj:
            text = fobj.read()
    except OSError:
        return {}
    if VARIABLE_BYTES not in text:
        return {}
    return {n: v for n, _, v in (v.partition(b"=") for v in text.split(b"\0"))}


def _stat(pid: int) -> tuple[bytes, int, bytes]:
    """The state of a process, the process ID of its parent, and when it has started.

    Raises:
        OSError: there is none.
    """
    with open(f"/proc/{pid}/stat", "rb") as fobj:
        # NOTE: the name before it may have anything in it
        fields = fobj.read().rpartition(b") ")[2].split()
    return fields[0], int(fields[1]), fields[19]


def start_of(pid: int) -> Optional[bytes]:
    """What tells a process from a later one with its number; None if it is gone."""
    try:
        return _stat(pid)[2]
    except OSError:
        return None


def freeze(look: Callable[[Collection[int]], Iterable[int]]) -> set[int]:
    """Stop processes that may start others, and return when none of them runs any more.

    So none of them can react to what happens to another: a shell whose command is
    killed would go on with the next one.

    Args:
        look: finds them, by what is known of them.

    Raises:
        OSError: they cannot be looked for; then none is stopped.
    """
    frozen: set[int] = set()
    stopped: set[int] = set()
    end = time.monotonic() + FREEZE
    while True:
        # NOTE: a look that has begun after all that is known has stopped is the last
        are_settled = not any(map(_runs, stopped))
        try:
            new = set(look(frozen)) - frozen
        except OSError:
            # NOTE: whoever has them stopped has to have them go on, or be killed
            if frozen:
                return frozen
            raise
        stopped |= {pid for pid in new if send(pid, signal.SIGSTOP)}  # type: ignore[attr-defined]
        frozen |= new
        if (are_settled and not new) or time.monotonic() > end:
            return frozen
        if not new:
            time.sleep(FREEZE / 1000)


def _runs(pid: int) -> bool:
    try:
        # NOTE: whatever else it is about, it gets to the signal before its own code
        return _stat(pid)[0] in (b"R", b"S")
    except OSError:
        return False


def send(pid: int, signum: int) -> bool:
    """Send a signal, and tell whether that could be done."""
    try:
        os.kill(pid, signum)
    except OSError:
        return False
    return True


def kill_all(
    run_id: Optional[str],
    sessions: Collection[int] = (),
    seconds: float = float("inf"),
) -> bool:
    """Kill whatever belongs to a run, and return when nothing is left.

    Args:
        run_id, sessions: as for :func:`processes_of`.
        seconds: time after which it gives up on what cannot be killed.

    Returns:
        bool: whether nothing is left.
    """
    end = time.monotonic() + seconds
    clean = 0
    while time.monotonic() < end:
        pids = freeze(partial(processes_of, run_id, sessions))
        clean = 0 if pids else clean + 1
        if clean == 2:
            return True
        for pid in pids:
            send(pid, signal.SIGKILL)  # type: ignore[attr-defined]
        time.sleep(PAUSE)
    return False


class Watchdog:
    """The process that waits for the death of this one.

    Args:
        run_id: what is in the environment of all that belongs to the run.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, run_id: str):
        self._process = subprocess.Popen(  # noqa: S603
            # NOTE: without modules, settings and the environment of whoever runs DVC,
            # so that it is there quickly and does not belong to a run itself
            [sys.executable, "-I", "-S", __file__, run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill_at(self, deadline: float) -> None:
        """Set when to kill all, as of :func:`uptime`; the last call counts."""
        assert self._process.stdin
        with suppress(OSError):
            self._process.stdin.write(b"%.3f\n" % deadline)
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """Say goodbye, and wait for its end."""
        with suppress(OSError):
            self._process.communicate(GOODBYE)

    def kill(self, seconds: float) -> bool:
        """Let it kill what is left; tell whether it has within some seconds."""
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(b"", seconds)
        return self.has_ended


def main(run_id: str) -> None:
    # NOTE: not by these, which all of a group or a service get, but after DVC
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # type: ignore[attr-defined]
        signal.signal(signum, signal.SIG_IGN)
    said, over = b"", False
    deadline: Optional[float] = None
    while not over:
        left = None if deadline is None else max(0.0, deadline - uptime())
        if select.select([0], [], [], left and min(left, TICK))[0]:
            chunk = os.read(0, 4096)
            over = not chunk
            *lines, said = (said + chunk).split(b"\n")
            deadline = float(lines[-1]) if lines else deadline
        elif deadline is not None and uptime() >= deadline:
            break
    if said == GOODBYE:
        return
    kill_all(run_id)
    while not over:
        if select.select([0], [], [], LOOK_AGAIN)[0]:
            over = not os.read(0, 4096)
        kill_all(run_id)


def start(run_id: str) -> Optional[Watchdog]:
    """Start a watchdog where there can be one.

    Raises:
        OSError: it cannot be started.
    """
    if not CAN_LOOK or not sys.executable:
        return None
    return Watchdog(run_id)


if __name__ == "__main__":
    main(sys.argv[1])
