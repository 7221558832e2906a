"""What the processes of commands use, measured for next to nothing.

    wait4(2), at the end of a command   CPU time and bytes from and to disks, of it and
                                        of all descendants that somebody waited for; the
                                        memory of the largest of them
    a look at /proc, now and then       memory of all its processes together, while they
                                        live

Looks are for commands that live for a while.  The next one comes the later the more the
last one has cost, so they take no more than ``1 / SHARE`` of a CPU, however many
processes there are.  Pages that processes share count once: where there are several,
and they seem to need more than ever, the kernel is asked for their shares of them
(``Pss``), which takes it long.

Not seen: memory between two looks, beyond that of the largest process; CPU time and
bytes of those that nobody has waited for, such as daemons; memory of those that have
left both the session of their command and their parents.

Formats: proc_pid_stat(5), proc_pid_smaps(5), getrusage(2).
"""

import os
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Optional

import psutil

from dvc_parallel.engine.machine import oom_kills
from dvc_parallel.engine.pipes import Process
from dvc_parallel.engine.usage import Usage

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Seconds that a command is left alone, and from one look to the next at least; how many
# times as long as a look took there is none after it; samples of a command.
AFTER = 0.5
EVERY = 1.0
SHARE = 250
SAMPLES = 120

_LINUX = sys.platform == "linux"
# Units of `ru_maxrss` and of blocks: on other systems, blocks have no size.
_MAXRSS = 1024 if _LINUX else 1
_BLOCK = 512 if _LINUX else None
_PAGE = os.sysconf("SC_PAGE_SIZE") if _LINUX else 0  # type: ignore[attr-defined]


@dataclass(eq=False)
class Measured:
    """A command, and what is known of it.  Owned by its thread and that which looks.

    Attributes:
        pid: its first process, the head of its session.
        rusage: by the kernel, once it has ended.
        memory: most bytes that were seen at once.
        share: the part of their pages that processes do not share, at that time.
    """

    pid: int
    begun: float
    rusage: Optional[Any] = None
    memory: int = 0
    share: float = 1.0
    samples: list[tuple[float, int]] = field(default_factory=list)
    _gap: float = EVERY / 2

    def wait(self, process: Process) -> int:
        """Wait for the process as :meth:`Process.wait`, and keep what the kernel tells.

        Nothing else waits for it.
        """
        if not hasattr(os, "wait4"):
            return process.wait()
        try:
            _, status, self.rusage = os.wait4(process.pid, 0)
        except ChildProcessError:
            returncode = process.wait()
            self.rusage = getattr(process, "rusage", None)
            return returncode
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode

    def seen(self, seconds: float, size: int) -> None:
        """Take note of a sample; of many, the largest ones of a time are kept."""
        self.memory = max(self.memory, size)
        samples = self.samples
        if samples and seconds - samples[-1][0] < self._gap:
            samples[-1] = samples[-1][0], max(samples[-1][1], size)
            return
        samples.append((round(seconds, 2), size))
        if len(samples) == SAMPLES:
            pairs = zip(samples[::2], samples[1::2])
            samples[:] = [(when, max(one, other)) for (when, one), (_, other) in pairs]
            self._gap *= 2

    def usage(self, seconds: float, out_of_memory: bool) -> Usage:
        known: dict[str, Any] = {}
        largest = 0
        if used := self.rusage:
            known["cpu"] = round(used.ru_utime + used.ru_stime, 4)
            if _BLOCK:
                known["read"] = used.ru_inblock * _BLOCK
                known["written"] = used.ru_oublock * _BLOCK
            # NOTE: between fork and exec, it had the memory of this process, and the
            # kernel counts that: whatever is no more may not be its own
            own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # type: ignore[attr-defined]
            if used.ru_maxrss > own:
                known["process"] = largest = used.ru_maxrss * _MAXRSS
        if most := max(self.memory, largest):
            known["memory"] = most
        samples = tuple(self.samples)
        return Usage(
            round(seconds, 4), out_of_memory=out_of_memory, samples=samples, **known
        )


class Meter:
    """Measures the commands of a run.  Any thread may call any method."""

    def __init__(self) -> None:
        self._guard = threading.Lock()  # of the fields below
        self._commands: set[Measured] = set()
        self._thread: Optional[threading.Thread] = None
        self._kills: Optional[int] = None
        self._closed = threading.Event()
        self._others: set[int] = set()  # processes that are of no command; its thread's

    def begin(self, pid: int) -> Measured:
        """Measure a command that has just started."""
        measured = Measured(pid, time.monotonic())
        with self._guard:
            self._commands.add(measured)
            if self._thread is None:
                self._kills = oom_kills()
                self._thread = threading.Thread(
                    target=self._look_on, name="dvc-usage", daemon=True
                )
                # NOTE: a system that starts no more threads still runs commands
                with suppress(RuntimeError):
                    self._thread.start()
        return measured

    def end(self, measured: Measured, status: Optional[int]) -> Usage:
        """What a command has used that has ended with a status, if it has."""
        seconds = time.monotonic() - measured.begun
        out_of_memory = False
        with self._guard:
            self._commands.remove(measured)
            # NOTE: a program may get over it that a process of it was killed
            if status and self._kills is not None:
                before, self._kills = self._kills, oom_kills()
                out_of_memory = (self._kills or 0) > before
        return measured.usage(seconds, out_of_memory)

    def close(self) -> None:
        self._closed.set()
        with suppress(RuntimeError):
            if self._thread:
                self._thread.join()

    def _look_on(self) -> None:
        pause = AFTER
        while not self._closed.wait(pause):
            before = time.thread_time()
            with suppress(OSError, psutil.Error):
                self._look()
            pause = max(EVERY, SHARE * (time.thread_time() - before))

    def _look(self) -> None:
        """Take a sample of each command that has lived for a while."""
        with self._guard:
            commands = [*self._commands]
        now = time.monotonic()
        old = [command for command in commands if now - command.begun >= AFTER]
        if not old:
            return
        if _LINUX:
            sizes = self._sizes({command.pid for command in commands})
        for command in old:
            each = (
                sizes.get(command.pid, {}) if _LINUX else _sizes_by_psutil(command.pid)
            )
            if rss := sum(each.values()):
                if len(each) > 1 and rss > command.memory and _LINUX:
                    command.share = min(1.0, _shares(each) / rss)
                command.seen(now - command.begun, int(rss * command.share))

    def _sizes(self, heads: Collection[int]) -> dict[int, dict[int, int]]:
        """Bytes that are resident, by the heads of sessions and their processes."""
        pids = {int(name) for name in os.listdir("/proc") if name.isdecimal()}
        # NOTE: no process becomes one of a command later, but its number may
        self._others &= pids
        self._others -= {*heads}
        seen: dict[int, tuple[int, int, int]] = {}
        for pid in pids - self._others:
            with suppress(OSError):
                with open(f"/proc/{pid}/stat", "rb", buffering=0) as fobj:
                    fields = fobj.read().rpartition(b") ")[2].split(None, 22)
                seen[pid] = int(fields[1]), int(fields[3]), int(fields[21]) * _PAGE
        found: dict[int, dict[int, int]] = {head: {} for head in heads}
        for pid, (_, _, size) in seen.items():
            head = _head_of(pid, seen, found)
            if head is None:
                self._others.add(pid)
            elif size:
                found[head][pid] = size
        return found


def _head_of(
    pid: int, seen: dict[int, tuple[int, int, int]], heads: Collection[int]
) -> Optional[int]:
    """The command whose session a process, or one of its parents, is in."""
    for _ in range(len(seen)):
        if pid in heads:
            return pid
        if pid not in seen:
            return None
        pid, session, _ = seen[pid]
        if session in heads:
            return session
    return None


def _shares(pids: Mapping[int, int]) -> int:
    """Bytes of processes, of shared pages to each its part; else what is resident."""
    total = 0
    for pid, resident in pids.items():
        share = resident
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as fobj:
                text = fobj.read()
            share = int(text.partition(b"\nPss:")[2].split(None, 1)[0]) * 1024
        total += share
    return total


def _sizes_by_psutil(head: int) -> dict[int, int]:
    """Bytes that are resident, where there is no /proc: of a process and below it."""
    found: dict[int, int] = {}
    with suppress(psutil.Error):
        process = psutil.Process(head)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                found[one.pid] = one.memory_info().rss
    return found
