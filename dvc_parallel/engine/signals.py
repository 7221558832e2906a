"""Ctrl-C, SIGTERM and SIGHUP as events of a run, and Ctrl-Z.

Python would raise KeyboardInterrupt wherever the main thread happens to be, and
die of the other two with its children left behind.  In a run they are events
like others: the loop takes them one at a time.

Ctrl-Z would stop this process alone, and so would writing to the terminal from the
background: commands are in sessions of their own.  They are stopped before, and go on
with it.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Callable

# Those that end a process, and those that stop it until it gets SIGCONT.
SIGNALS, STOPS = (
    [getattr(signal, name) for name in names if hasattr(signal, name)]
    for names in (("SIGINT", "SIGTERM", "SIGHUP"), ("SIGTSTP", "SIGTTIN", "SIGTTOU"))
)
SIGINT = signal.SIGINT
# What errors of commands say: DVC's, and our own that are like them.
COMMAND_FAILED = re.compile(
    r"failed to run: (.*), "
    r"(?:exited with (-?\d+)(; .*)?|(timed out after .*|(?:worker|Slurm) .*))",
    re.DOTALL,
)
# What Ctrl-Z sends; Windows has no such thing.
SIGTSTP = getattr(signal, "SIGTSTP", None)
# Windows has none of these; there, whatever is not an interrupt kills.
SIGKILL, SIGCONT = (
    getattr(signal, name, signal.SIGTERM) for name in ("SIGKILL", "SIGCONT")
)
# What says that no more signals are waited for, as none has this number.
END = b"\0"
# DVC's exit code for "interrupted by the user"
EXIT_INTERRUPTED = 252


@contextmanager
def as_events(
    notify: Callable[[int], None],
    give_up: Callable[[], None],
    wake: Callable[[], None],
) -> Iterator:
    """Call ``notify`` with the number of each signal that arrives.

    Python calls handlers in the main thread once that gets to it. If a signal comes
    just before it begins to wait, or to another thread, it waits on; so ``wake``,
    which is called in a thread of its own, has to end that.

    The third one ends the process at once, after ``give_up``: dvc.lock is whole
    at every instant, and other DVC processes find out that locks are stale.  Those
    that stop the process do not count.

    Signals that somebody ignores or handles otherwise are left to them, and so
    are all of them outside of the main thread.
    """
    count = 0

    def handler(signum, _frame):
        nonlocal count
        count += signum not in STOPS
        if count > 2:
            give_up()
            os._exit(EXIT_INTERRUPTED)
        notify(signum)

    old = {}
    if threading.current_thread() is threading.main_thread():
        for signum in (*SIGNALS, *STOPS):
            current = signal.getsignal(signum)
            if current in (signal.SIG_DFL, signal.default_int_handler):
                old[signum] = current
    with (
        _calls_on_signals(wake) if old else nullcontext(),
        _children_get_past_stops() if set(STOPS) & set(old) else nullcontext(),
    ):
        try:
            for signum in old:
                signal.signal(signum, handler)
            yield
        finally:
            for signum, previous in old.items():
                signal.signal(signum, previous)


@contextmanager
def _calls_on_signals(func: Callable[[], None]) -> Iterator[None]:
    """Call ``func`` after each signal, in a thread of its own."""
    reader, writer = socket.socketpair()

    def watch() -> None:
        while reader.recv(1) != END:
            func()

    with reader, writer:
        writer.setblocking(False)
        thread = threading.Thread(target=watch, name="dvc-signals", daemon=True)
        thread.start()
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            writer.setblocking(True)
            writer.send(END)
            thread.join()


@contextmanager
def _children_get_past_stops() -> Iterator[None]:
    """Keep children from stopping before they have a session of their own.

    Until then Ctrl-Z gets to it as well. One that :mod:`subprocess` starts with vfork
    has the default handler, stops, and nobody continues it, since this process waits
    for it with the GIL.  One that is started with fork has the handler of this process.
    That costs a millisecond or two, so it is for runs that have a terminal.
    Source: Python's documentation of subprocess, "Disabling use of vfork()"; 3.10 heeds
    no such switch.
    """
    previous = getattr(subprocess, "_USE_VFORK", True)
    subprocess._USE_VFORK = previous and not _has_terminal()  # type: ignore[attr-defined,misc]
    try:
        yield
    finally:
        subprocess._USE_VFORK = previous  # type: ignore[attr-defined,misc]


def _has_terminal() -> bool:
    """Whether this process has one, wherever its output goes."""
    if sys.platform == "win32":
        return False
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


# Seconds in which this process was stopped; and held while it is.
_stopped = 0.0
_while_stopped = threading.RLock()


def clock() -> float:
    """As :func:`time.monotonic`, without the time in which this process was stopped."""
    with _while_stopped:
        return time.monotonic() - _stopped


def stop(signum: int) -> None:
    """Stop this process as a signal does by default, until somebody continues it.

    Called by the main thread.  Ctrl-Z does nothing where there is no shell that would
    continue it; who is sent one of the others has a shell.  Windows sends none.
    """
    if sys.platform == "win32":
        return
    global _stopped  # noqa: PLW0603
    # NOTE: whoever wakes up because a time is over has to see that it is not
    with _while_stopped:
        since = time.monotonic()
        if signum == SIGTSTP:
            handler = signal.signal(signum, signal.SIG_DFL)
            try:
                signal.raise_signal(signum)
            finally:
                signal.signal(signum, handler)
        else:
            # NOTE: others that try to use the terminal must not stop it once more
            signal.raise_signal(signal.SIGSTOP)
        _stopped += time.monotonic() - since


def is_in_foreground() -> bool:
    """Whether this process may use the terminal: a shell may be doing so instead."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # no terminal
        return True


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt for a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


_last_acts: list[Callable[[], None]] = []


@contextmanager
def before_death(func: Callable[[], None]) -> Iterator[None]:
    """Call ``func`` before a run ends the process, which ends no ``with``."""
    _last_acts.append(func)
    try:
        yield
    finally:
        _last_acts.remove(func)


def exit_name(status: int) -> str:
    """An exit status as users know it, such as "3", "SIGKILL" or "137 (SIGKILL)".

    Args:
        status: as in :mod:`subprocess`, negative for a signal; of a shell, more than
            128 if its last command has died of one.
    """
    try:
        number = -status if status < 0 else status - 128
        name = signal.Signals(number).name
    except ValueError:
        return str(status) if status >= 0 else f"signal {-status}"
    return name if status < 0 else f"{status} ({name})"


def failure_reason(error: str) -> str:
    """Why a stage failed, such as "`cmd` exited with 1", by the text of its error."""
    found = COMMAND_FAILED.fullmatch(error)
    if not found:
        return error
    cmd, status, more, other = found.groups()
    if status is None:
        return f"`{cmd}` {other}"
    how = f"exited with {exit_name(int(status))}{more or ''}"
    return f"`{cmd}` {how}"


def die_of(signum: int) -> None:
    """End as serial DVC does on a signal.

    Raises:
        KeyboardInterrupt: for SIGINT.
    """
    if signum != signal.SIGINT:
        for func in _last_acts:
            func()
        os.kill(os.getpid(), signum)
    raise KeyboardInterrupt
