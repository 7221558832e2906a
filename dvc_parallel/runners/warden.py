"""Killing what a run has started, when DVC itself is killed.

    DVC ───── pipe ─────> warden      the pipe ends when DVC dies, in whatever way
     └──> commands ──> whatever they start
          DVC_PARALLEL_RUN=id         is in the environment of all of them

The warden is a process in a session of its own that does nothing but wait for the end
of the pipe.  If DVC has not said goodbye before, it kills all that have the id in their
environment, wherever they have gone: to the background, or to a session of their own.

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
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Optional

VARIABLE = "DVC_PARALLEL_RUN"
GOODBYE = b"goodbye"
# Seconds between two looks: a process that is just being started has the environment of
# its parent for an instant.
PAUSE = 0.05
# Seconds between two looks after the time is up: who is stuck may start something more
# before it knows.
LOOK_AGAIN = 0.5


def marked(env: Mapping[str, str], run_id: str) -> dict[str, str]:
    """An environment that tells that a process belongs to a run.

    A run within a command of another run belongs to both.
    """
    outer = env.get(VARIABLE)
    return {**env, VARIABLE: f"{outer}:{run_id}" if outer else run_id}


def processes_of(run_id: str) -> Iterator[int]:
    """Process IDs of all that belong to a run, as far as this user may know."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and _belongs(name, run_id.encode()):
            yield int(name)


def _belongs(pid: str, run_id: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as fobj:
            variables = fobj.read().split(b"\0")
    except OSError:
        return False
    start = VARIABLE.encode() + b"="
    values = (value for value in variables if value.startswith(start))
    return any(run_id in value[len(start) :].split(b":") for value in values)


def kill_all(run_id: str, seconds: float = float("inf")) -> None:
    """Kill whatever belongs to a run, and return when nothing is left.

    Args:
        run_id: the ID of the run.
        seconds: time after which it gives up on what cannot be killed.
    """
    end = time.monotonic() + seconds
    clean = 0
    while clean < 2 and time.monotonic() < end:
        pids = list(processes_of(run_id))
        clean = 0 if pids else clean + 1
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)


class Warden:
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
        """Have all killed at a time of :func:`time.monotonic`, unless told another."""
        assert self._process.stdin
        with suppress(OSError):
            self._process.stdin.write(b"%.3f\n" % deadline)
            self._process.stdin.flush()

    def dismiss(self, kill: bool = False) -> None:
        """Say goodbye, and wait for its end; or have it kill what is left before."""
        with suppress(OSError):
            self._process.communicate(b"" if kill else GOODBYE)


def main(run_id: str) -> None:
    # NOTE: not by these, which all of a group or a service get, but after DVC
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    said, deadline, over = b"", None, False
    while not over:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([0], [], [], left)[0]:
            break
        chunk = os.read(0, 4096)
        over = not chunk
        *lines, said = (said + chunk).split(b"\n")
        deadline = float(lines[-1]) if lines else deadline
    if said == GOODBYE:
        return
    kill_all(run_id)
    while not over:
        if select.select([0], [], [], LOOK_AGAIN)[0]:
            over = not os.read(0, 4096)
        kill_all(run_id)


def start(run_id: str) -> Optional[Warden]:
    """Start a warden where there can be one.

    Raises:
        OSError: it cannot be started.
    """
    if sys.platform != "linux" or not sys.executable:
        return None
    return Warden(run_id)


if __name__ == "__main__":
    main(sys.argv[1])
