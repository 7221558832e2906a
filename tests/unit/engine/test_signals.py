import os
import queue
import select
import signal
import sys
import threading
from contextlib import suppress

import psutil
import pytest

from dvc_parallel.engine import signals
from dvc_parallel.scheduling.retries import Attempts
from dvc_parallel.scheduling.stage_options import Needs
from tests import HANGS


@pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="signals are for the process there"
)
def test_a_signal_that_another_thread_gets_wakes_the_main_thread():
    inbox = queue.SimpleQueue()

    def get_signal():
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def wake():
        inbox.put(None)

    for _ in range(20):
        with signals.as_events(inbox.put, pytest.fail, wake):
            thread = threading.Thread(target=get_signal)
            thread.start()
            # NOTE: in any order
            assert {inbox.get(timeout=HANGS), inbox.get(timeout=HANGS)} == {
                signal.SIGTERM,
                None,
            }
            thread.join()
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("signum", signals.STOPS)
def test_the_time_in_which_this_process_is_stopped_does_not_count(
    mocker, monkeypatch, signum
):
    monkeypatch.setattr(signals, "_stopped", 0.0)
    now = mocker.patch.object(signals.time, "monotonic", return_value=100.0)

    def stop(_signum):
        now.return_value += 3600

    attempts = Attempts(Needs(timeout=10), lambda: False)
    with attempts.commands(lambda _: None):
        monkeypatch.setattr(signal, "raise_signal", stop)
        signals.stop(signum)
        now.return_value += 1
        assert signals.clock() == 101
        assert attempts.seconds_left() == 9


def test_who_waits_for_a_time_does_not_take_it_for_over_before_that_is_known(
    monkeypatch,
):
    monkeypatch.setattr(signals, "_stopped", 0.0)
    told = []
    thread = threading.Thread(target=lambda: told.append(signals.clock()))

    def stop(_signum):
        # NOTE: as when this process has just been continued
        thread.start()
        thread.join(0.05)
        assert not told

    monkeypatch.setattr(signal, "raise_signal", stop)
    signals.stop(signal.SIGTSTP)
    thread.join()
    assert told


# A shell, as far as job control goes, whose job starts commands.
JOB = """
import os, signal, subprocess, sys, termios, threading
from dvc_parallel.engine import signals

if os.fork():
    os.wait()
    sys.exit()
# NOTE: Ctrl-Z would drop what has been printed and not been read
modes = termios.tcgetattr(0)
modes[3] |= termios.NOFLSH
termios.tcsetattr(0, termios.TCSANOW, modes)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
os.setpgid(0, 0)
os.tcsetpgrp(0, os.getpgrp())
with signals.as_events(lambda _: None, lambda: None, lambda: None):
    print("ready", flush=True)
    for _ in range(300):
        subprocess.run(["true"], start_new_session=True)
    print("all have run", flush=True)
    threading.Event().wait()
"""


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="subprocess has no way around vfork"
)
def test_no_child_is_stopped_before_it_has_a_session_of_its_own():
    pty = pytest.importorskip("pty", reason="needs a terminal")
    pid, fd = pty.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-c", JOB])
    shell = psutil.Process(pid)
    text = b""
    try:
        while b"all have run" not in text:
            if select.select([fd], [], [], 0.001)[0]:
                text += os.read(fd, 2**16)
            if b"ready" in text:
                os.write(fd, b"\x1a")
            with suppress(psutil.NoSuchProcess):
                states = [child.status() for child in shell.children(recursive=True)]
                assert psutil.STATUS_STOPPED not in states
    finally:
        for process in (*shell.children(recursive=True), shell):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os.waitpid(pid, 0)
        os.close(fd)


@pytest.mark.parametrize(
    "status, name",
    [
        *((3, "3"), (-9, "SIGKILL"), (137, "137 (SIGKILL)"), (128, "128")),
        *((255, "255"), (-100, "signal 100"), (3221225477, "3221225477")),
    ],
)
def test_exit_statuses_have_names(status, name):
    assert signals.exit_name(status) == name
