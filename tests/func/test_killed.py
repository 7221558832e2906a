"""A run of which DVC itself is killed, or whose commands try to stay behind."""

import os
import signal
import sys

import psutil
import pytest

from dvc_parallel.processes.watchdog import processes_of
from tests import HANGS, is_alive, wait_until

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

PYTHON = sys.executable

# Tells its process ID, and goes on until it is killed, whatever else it is told.
STAYS = """\
import os, pathlib, signal, sys
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(signum, signal.SIG_IGN)
name, *ways = sys.argv[1:]
if "background" in ways and os.fork():
    os._exit(0)
if "session" in ways:
    if os.fork():
        while not os.path.exists(name + ".pid"):
            pass
        os._exit(0)
    os.setsid()
pathlib.Path(f"{name}.tmp").write_text(str(os.getpid()))
os.replace(f"{name}.tmp", f"{name}.pid")
while True:
    signal.pause()
"""

# Two processes, each of which starts the other one anew when it has died.
COMES_AGAIN = """\
import os, pathlib, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
parent = os.getpid()
pid = os.fork() or parent
if pid == parent:
    pathlib.Path("pair.pid").touch()
while True:
    if os.path.exists(f"/proc/{pid}"):
        time.sleep(0.001)
    else:
        parent = os.getpid()
        pid = os.fork() or parent
"""


def process_of(project, name):
    return psutil.Process(int(project.read(f"{name}.pid")))


def assert_ends(*processes):
    wait_until(lambda: not any(map(is_alive, processes)), processes)


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_commands_die_with_dvc(make_project, kill):
    project = make_project(
        dvc_yaml=f"""
        stages:
          done: {{cmd: echo done > done.txt, outs: [done.txt]}}
          one:
            cmd: test -e go || {PYTHON} stays.py one; echo one > one.txt
            deps: [done.txt]
            outs: [one.txt]
          two:
            cmd: test -e go || setsid {PYTHON} stays.py two; echo two > two.txt
            deps: [done.txt]
            outs: [two.txt]
        """,
        files={"stays.py": STAYS},
    )
    dvc = project.start("repro", "-j", 2)
    project.wait_for("one.pid", "two.pid")
    commands = [process_of(project, name) for name in ("one", "two")]
    kill(dvc.pid, signal.SIGKILL)
    dvc.communicate()
    assert_ends(*commands)
    assert not project.exists("one.txt")

    project.write({"go": ""})
    assert project.reproduce() == ["one", "two"]


def watchdog_of(dvc):
    children = psutil.process_iter(["cmdline", "ppid"])
    # NOTE: there is no command line of commands that are just ending
    (watchdog,) = [
        child
        for child in children
        if child.info["ppid"] == dvc.pid
        and "watchdog.py" in " ".join(child.info["cmdline"] or ())
    ]
    return watchdog


def test_what_comes_again_dies_with_dvc(make_project):
    project = make_project(
        dvc_yaml=f"""
        stages:
          one: {{cmd: {PYTHON} pair.py}}
          two: {{cmd: sleep 600}}
        """,
        files={"pair.py": COMES_AGAIN},
    )
    dvc = project.start("repro", "-j", 2)
    project.wait_for("pair.pid")
    watchdog = watchdog_of(dvc)
    run_id = watchdog.cmdline()[-1]
    assert list(processes_of(run_id))
    dvc.send_signal(signal.SIGKILL)
    dvc.communicate()
    assert_ends(watchdog)
    assert not list(processes_of(run_id))


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_outlives_the_watchdog_is_killed_by_the_next_run(make_project, jobs):
    project = make_project(
        dvc_yaml=f"""
        stages:
          one:
            cmd: test -e go || setsid {PYTHON} stays.py one; echo one > one.txt
            outs: [one.txt]
          two: {{cmd: test -e go || {PYTHON} stays.py two}}
        """,
        files={"stays.py": STAYS},
    )
    dvc = project.start("repro", "-j", 2)
    project.wait_for("one.pid", "two.pid")
    commands = [process_of(project, name) for name in ("one", "two")]
    watchdog = watchdog_of(dvc)
    watchdog.kill()
    dvc.send_signal(signal.SIGKILL)
    dvc.communicate()
    assert all(command.is_running() for command in commands)

    project.write({"go": ""})
    result = project.dvc("repro", "-j", jobs)
    assert "killing processes left by an earlier run" in result.stderr
    assert all(str(command.pid) in result.stderr for command in commands)
    assert_ends(*commands)
    assert project.read("one.txt") == "one\n"
    assert "left by an earlier run" not in project.dvc("repro", "-j", jobs).stderr


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_missing_comes_where_serial_dvc_would_have_it(twins, jobs):
    serial, project = twins(
        f"""
        stages:
          one:
            cmd: >
              until test -e go; do sleep 0.05; done;
              {PYTHON} -m dvc add -q data; echo one > one.txt
            outs: [one.txt]
          two: {{cmd: echo two > two.txt, outs: [two.txt]}}
          three: {{cmd: cp two.txt three.txt, deps: [two.txt], outs: [three.txt]}}
        """,
        files={"data": "data"},
    )
    serial.write({"go": ""})
    serial.reproduce()
    assert serial.read(".gitignore").split()[:2] == ["/data", "/one.txt"]

    process = project.start("repro", "-j", 2)
    wait_until(
        lambda: project.exists("dvc.lock") and "three:" in project.read("dvc.lock")
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    project.write({"go": ""})
    project.dvc("repro", "-j", jobs)
    assert project.left() == serial.left()


def test_a_watchdog_that_was_killed_is_replaced(make_project):
    project = make_project(
        dvc_yaml=f"""
        stages:
          one: {{cmd: until test -e go; do sleep 0.05; done}}
          two: {{cmd: {PYTHON} stays.py two}}
          three: {{cmd: {PYTHON} stays.py three}}
        """,
        files={"stays.py": STAYS},
    )
    dvc = project.start("repro", "-j", 2, "one", "two", "three")
    project.wait_for("two.pid")
    watchdog = watchdog_of(dvc)
    watchdog.kill()
    project.write({"go": ""})
    project.wait_for("three.pid")
    commands = [process_of(project, name) for name in ("two", "three")]
    dvc.send_signal(signal.SIGKILL)
    dvc.communicate()
    assert_ends(*commands)


def test_commands_of_a_run_in_a_command_die_with_the_outer_one(make_project):
    dvc = f"{PYTHON} -m dvc"
    project = make_project(
        dvc_yaml=f"""
        stages:
          outer: {{cmd: cd inner && {dvc} repro -j 2}}
          other: {{cmd: {PYTHON} stays.py other}}
        """,
        files={"stays.py": STAYS},
    )
    inner = project.path / "inner"
    inner.mkdir()
    project.dvc("init", "--no-scm", cwd=inner)
    project.write(
        {
            "inner/stays.py": STAYS,
            "inner/dvc.yaml": f"""
            stages:
              a: {{cmd: {PYTHON} stays.py a}}
              b: {{cmd: {PYTHON} stays.py b}}
            """,
        }
    )
    process = project.start("repro", "-j", 2)
    names = ("other", "inner/a", "inner/b")
    project.wait_for(*[f"{name}.pid" for name in names])
    commands = [process_of(project, name) for name in names]
    commands.append(commands[1].parent())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert_ends(*commands)


# DVC that is killed when it has made a file, and is about to clone another into it.
KILLED_IN_CLONE = """\
import fcntl, os, signal, sys
from dvc.cli import main
fcntl.ioctl = lambda *_args: os.kill(os.getpid(), signal.SIGKILL)
main(["repro", "-j", sys.argv[1]])
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_no_object_is_there_in_part(make_project, kind, jobs):
    make = {"file": "echo 1 > out", "folder": "mkdir out; echo 1 > out/a"}[kind]
    project = make_project(
        dvc_yaml=f"""
        stages:
          one: {{cmd: {make}, outs: [out]}}
          two: {{cmd: "true", deps: [out]}}
        """,
    )
    result = project.run([PYTHON, "-c", KILLED_IN_CLONE, str(jobs)], check=False)
    assert result.returncode == -signal.SIGKILL
    objects = (project.path / ".dvc" / "cache" / "files").rglob("*")
    assert [path for path in objects if path.is_file() and path.suffix != ".tmp"] == []
    project.dvc("repro", "-j", jobs)


@pytest.mark.parametrize("way", ["background", "session"])
def test_what_stays_behind_ends_with_the_run(make_project, way):
    project = make_project(
        dvc_yaml=f"""
        stages:
          one:
            cmd: {PYTHON} stays.py one {way} && echo one > one.txt
            outs: [one.txt]
          two:
            cmd: until test -e one.pid; do sleep 0.05; done; echo two > two.txt
            outs: [two.txt]
        """,
        files={"stays.py": STAYS},
    )
    project.dvc("repro", "-j", 2)
    assert not is_alive(int(project.read("one.pid")))


def test_the_watchdog_ends_with_the_run(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          one: {cmd: until test -e go; do sleep 0.05; done}
          two: {cmd: echo $DVC_PARALLEL_RUN > two.txt, outs: [two.txt]}
        """
    )
    process = project.start("repro", "-j", 2)
    project.wait_for("two.txt")
    watchdog = watchdog_of(process)
    assert project.read("two.txt").strip() == watchdog.cmdline()[-1]
    project.write({"go": ""})
    output, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 0, output
    assert_ends(watchdog)
