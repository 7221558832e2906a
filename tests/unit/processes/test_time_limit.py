import os
import subprocess
import sys
import threading
from textwrap import dedent

import pytest

from dvc_parallel.engine import pipes
from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.runner import Command, TimeIsUpError
from dvc_parallel.processes import stopping, watchdog
from dvc_parallel.processes.supervisor import RunSupervisor
from tests import HANGS, is_alive

PYTHON = sys.executable


@pytest.fixture(params=["pidfd", "no pidfd"])
def runner(request, monkeypatch):
    if request.param == "no pidfd":
        monkeypatch.setattr(pipes, "pidfd_open", lambda _: None)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no os.pidfd_open")
    # NOTE: so that it is found without that what a command has started
    monkeypatch.setattr(watchdog, "own_mark", lambda _env: None)
    runner = LocalRunner(RunSupervisor())
    yield runner
    runner.close()


def test_a_command_that_ends_in_time(runner, said):
    assert runner.run(Command([PYTHON, "-c", "exit(3)"], timeout=HANGS), said) == 3


class Timer(threading.Thread):
    """A timer that a test sets off."""

    def __init__(self, _seconds, function):
        super().__init__(target=self.work)
        self.function = function
        self.set_off = threading.Event()
        self.cancelled = False
        Timer.last = self

    def work(self):
        self.set_off.wait(HANGS)
        if not self.cancelled:
            self.function.__self__._end = 0
            self.function()

    def cancel(self):
        self.cancelled = True
        self.set_off.set()


@pytest.fixture
def stop_after(monkeypatch, said):
    """Have the time of a command be up when it has printed so many lines."""
    monkeypatch.setattr(stopping.threading, "Timer", Timer)

    def make(count):
        def output(name, line):
            said(name, line)
            if b"".join(said.lines[name]).count(b"\n") == count:
                Timer.last.set_off.set()

        return output

    return make


def test_time_is_up(runner, said, stop_after):
    code = """
        import os, signal, time
        def stop(*_):
            os.write(1, b"saved\\n")
            os._exit(1)
        signal.signal(signal.SIGTERM, stop)
        os.write(1, b"begun\\n")
        time.sleep(300)
    """
    with pytest.raises(TimeIsUpError):
        runner.run(Command([PYTHON, "-c", dedent(code)], timeout=HANGS), stop_after(1))
    assert said.lines["stdout"] == [b"begun\n", b"saved\n"]


def test_time_is_not_up_when_this_process_was_stopped_meanwhile():
    command = [PYTHON, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        with stopping.Stopper(process, 60) as stopper:
            # NOTE: its timer goes by the time of the system
            timer = threading.Thread(target=stopper._time_is_up)
            timer.start()
            process.communicate(b"\n")
        timer.join()
    assert (stopper.fired, process.returncode) == (False, 0)


FAMILY = """
    import os, signal, sys, time
    def stay(way):
        if way == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(300)
        os._exit(0)
    # NOTE: one in the group, one in a group of its own, one in a session of its own
    for leave in (lambda: None, os.setpgrp, os.setsid):
        if not os.fork():
            leave()
            stay(sys.argv[1])
    stay(sys.argv[2])
"""


@pytest.mark.parametrize("children", ["ready", "stubborn"])
@pytest.mark.parametrize("parent", ["ready", "stubborn"])
def test_nothing_is_left_when_time_is_up(
    runner, said, stop_after, monkeypatch, children, parent
):
    monkeypatch.setattr(stopping, "GRACE", 0.5)
    command = [PYTHON, "-c", dedent(FAMILY), children, parent]
    with pytest.raises(TimeIsUpError):
        runner.run(Command(command, timeout=HANGS), stop_after(4))
    pids = [int(line) for line in b"".join(said.lines["stdout"]).split()]
    assert len(pids) == 4
    assert not [pid for pid in pids if is_alive(pid)]


DAEMON = """
    import os, sys, time
    reading, writing = os.pipe()
    if not os.fork():
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(1, b"%d\\n" % os.getpid())
        os.close(writing)
        time.sleep(300)
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    time.sleep(float(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells environments")
def test_a_daemon_ends_when_the_time_of_its_command_is_up(said, stop_after, tmp_path):
    """And no other one does: its run goes on."""
    runner = LocalRunner(RunSupervisor(str(tmp_path)))
    command = [PYTHON, "-c", dedent(DAEMON)]
    runner.run(Command([*command, "0"], timeout=HANGS), said)
    with pytest.raises(TimeIsUpError):
        runner.run(Command([*command, "300"], timeout=HANGS), stop_after(2))
    other, own = (int(line) for line in b"".join(said.lines["stdout"]).split())
    assert is_alive(other)
    assert not is_alive(own)
    runner.close()
    assert not is_alive(other)
