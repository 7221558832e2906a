"""Ctrl-C and other signals: finished work is kept, nothing is left behind."""

import json
import os
import signal
import sys

import pytest
from dvc.lock import Lock

from tests import HANGS, is_alive
from tests.support.project import finish

if os.name != "posix":
    pytest.skip("signals are POSIX's", allow_module_level=True)

PYTHON = sys.executable

# Runs until it is told to stop; how it takes that, is in its arguments.
WORKER = """\
import os, pathlib, signal, subprocess, sys, time
name, *ways = sys.argv[1:]
def stop(signum, frame):
    pathlib.Path(f"{name}.got{signum}").touch()
    if "finish" in ways:
        pathlib.Path(name + ".txt").write_text(name)
        os._exit(0)
    if "stubborn" not in ways:
        os._exit(1)
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(signum, stop)
if "parent" in ways:
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN);"
    code += "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    child = subprocess.Popen([sys.executable, "-c", code])
    pathlib.Path(name + ".child").write_text(str(child.pid))
pathlib.Path(f"{name}.pid.tmp").write_text(str(os.getpid()))
os.replace(f"{name}.pid.tmp", f"{name}.pid")
if "leave" in ways:
    pathlib.Path(name + ".txt").write_text(name)
    os._exit(0)
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def running(make_project):
    """Start a run of two workers, after a stage that is quickly done."""

    def start(*ways, other=("finish",)):
        def worker(name, ways):
            # NOTE: a shell of its own would die of the signal
            cmd = f"exec {PYTHON} worker.py {name} {' '.join(ways)}"
            return f'{name}: {{cmd: "{cmd}", deps: [done.txt], outs: [{name}.txt]}}'

        project = make_project(
            "interrupted",
            f"""
            stages:
              done: {{cmd: echo done > done.txt, outs: [done.txt]}}
              {worker("one", ways)}
              {worker("two", other)}
              later: {{cmd: echo later > later.txt, deps: [one.txt], outs: [later.txt]}}
            """,
            {"worker.py": WORKER},
        )
        process = project.start("repro", "-j", 2)
        project.wait_for("one.pid", "two.pid")
        return project, process

    return start


def check(project, recorded):
    for name in ("one.pid", "two.pid", "one.child"):
        if project.exists(name):
            assert not is_alive(int(project.read(name))), name
    assert not any(json.loads(project.path_locks()).values())
    lock = project.read("dvc.lock")
    names = ("done", "one", "two", "later")
    assert [name for name in names if f"\n  {name}:\n" in lock] == recorded
    assert not project.exists("later.txt")


def test_ctrl_c_passes_the_signal_on_and_keeps_what_finishes(running):
    project, process = running()
    os.kill(process.pid, signal.SIGINT)
    output = finish(process)
    assert process.returncode == 252, output
    assert "interrupted by the user" in output
    assert "4 stages: 2 ran, 1 not run, 1 interrupted; " in output
    assert project.exists("one.got2")
    check(project, ["done", "two"])


def test_a_second_ctrl_c_kills(running):
    project, process = running("stubborn", "parent", other=("stubborn",))
    os.kill(process.pid, signal.SIGINT)
    project.wait_for("one.got2", "two.got2")
    os.kill(process.pid, signal.SIGINT)
    output = finish(process)
    assert process.returncode == 252, output
    check(project, ["done"])


@pytest.mark.slow
def test_what_does_not_stop_is_killed_after_a_while(running, monkeypatch):
    project, process = running("stubborn", "parent")
    os.kill(process.pid, signal.SIGINT)
    output = finish(process)
    assert process.returncode == 252, output
    check(project, ["done", "two"])


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_terminated(running, signum):
    project, process = running()
    os.kill(process.pid, signum)
    output = finish(process)
    assert process.returncode == -signum, output
    assert project.exists(f"one.got{int(signum)}")
    check(project, ["done", "two"])


# Its first stage runs until there is a file.
UNTIL_GO = """
    stages:
      one:
        cmd: touch one.begun && until test -e go; do sleep 0.05; done && touch one
        outs: [one]
      two: {cmd: touch two, outs: [two], deps: [one]}
"""


def test_nohup_keeps_a_hang_up_from_the_run(make_project):
    project = make_project(dvc_yaml=UNTIL_GO)
    process = project.start("repro", "-j", 2, before=["nohup"])
    project.wait_for("one.begun")
    os.killpg(process.pid, signal.SIGHUP)
    project.write({"go": ""})
    output = finish(process)
    assert process.returncode == 0, output
    assert project.exists("two")


def test_what_a_command_leaves_behind_ends_with_the_run(running):
    project, process = running("parent", "leave", other=("leave",))
    output = finish(process)
    assert process.returncode == 0, output
    assert not is_alive(int(project.read("one.child")))


def test_the_next_run_does_what_was_interrupted(running):
    project, process = running("finish")
    os.kill(process.pid, signal.SIGINT)
    output = finish(process)
    assert process.returncode == 252, output
    check(project, ["done", "one", "two"])

    result = project.dvc("repro", "-j", 2)
    assert "4 stages: 1 ran, 3 unchanged; " in result.stdout


def test_a_third_ctrl_c_ends_a_run_that_waits_for_the_repo(running):
    project, process = running("finish")
    lock = Lock(str(project.path / ".dvc" / "tmp" / "lock"))
    lock.lock()

    def interrupt_and_read(until):
        os.kill(process.pid, signal.SIGINT)
        assert any(until in line for line in process.stdout)

    interrupt_and_read("no result is lost")
    interrupt_and_read("killing")
    os.kill(process.pid, signal.SIGINT)
    output = finish(process)
    assert process.returncode == 252, output
    lock.unlock()

    assert "\n  one:" not in project.read("dvc.lock")
    assert "1 ran; " in project.dvc("repro", "-f", "-j", 2, "done").stdout


def test_what_has_run_is_recorded_though_nobody_reads_what_is_printed(make_project):
    project = make_project(dvc_yaml=UNTIL_GO)
    process = project.start("repro", "-j", 2)
    project.wait_for("one.begun")
    process.stdout.close()
    project.write({"go": ""})
    process.wait(HANGS)
    assert process.returncode
    assert "\n  one:\n" in project.read("dvc.lock")
    assert not project.exists("two")
