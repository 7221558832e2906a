"""A parallel run beside other DVC processes that use the same paths."""

import json
import os
import signal
import sys
from contextlib import contextmanager

import pytest
from dvc.lock import Lock

from tests.support.capabilities import HAS_KEEP_GOING
from tests.support.project import finish

PYTHON = sys.executable

# Says that it runs, and goes on once it is told; fails where it already runs.
WORK = """\
import os, sys, time
name, *outs = sys.argv[1:]
os.mkdir(name + ".on")
with open("ran.log", "a") as fobj:
    print(name, file=fobj)
open(name + ".runs", "w").close()
while not os.path.exists(name + ".go"):
    time.sleep(0.01)
for out in outs:
    with open(out, "w") as fobj:
        print(name, file=fobj)
os.rmdir(name + ".on")
"""


def work(name, *outs):
    return f'"{PYTHON} work.py {name} {" ".join(outs)}"'


@pytest.fixture
def project(make_project):
    return make_project(
        "neighbours",
        f"""
        stages:
          up: {{cmd: {work("up", "up.txt")}, deps: [in.txt], outs: [up.txt]}}
          down: {{cmd: {work("down", "down.txt")}, deps: [up.txt], outs: [down.txt]}}
          other: {{cmd: {work("other", "other.txt")}, outs: [other.txt]}}
          more: {{cmd: {work("more", "more.txt")}, outs: [more.txt]}}
        """,
        {"work.py": WORK, "in.txt": "in", "ran.log": ""},
    )


@contextmanager
def running(project, *args):
    """A run, which is killed if the test fails."""
    process = project.start("repro", *args)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.stdout.close()


def wait_for_line(process, text):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    raise AssertionError("".join(lines))


def go(project, *names):
    project.write({f"{name}.go": "" for name in names})


def ran(project):
    return project.read("ran.log").split()


def assert_over(project, process):
    output = finish(process)
    assert process.returncode == 0, output
    return output


def test_a_stage_that_a_neighbour_runs_is_not_run_again(project):
    go(project, "down")
    with running(project, "-j", 2, "up") as one:
        project.wait_for("up.runs")
        with running(project, "-j", 2, "down", "other", "more") as two:
            wait_for_line(two, "up | waits: ")
            # it keeps no slot from the others
            project.wait_for("other.runs", "more.runs")
            assert "down" not in ran(project)
            go(project, "up", "other", "more")
            assert_over(project, one)
            output = assert_over(project, two)
    assert sorted(ran(project)) == ["down", "more", "other", "up"]
    assert "4 stages: 3 ran, 1 unchanged; " in output
    assert not any(json.loads(project.path_locks()).values())
    assert "up to date" in project.dvc("status").stdout


def test_a_path_that_a_neighbour_uses_under_another_name(make_project):
    project = make_project(
        "names",
        f"""
        stages:
          one: {{cmd: {work("one", "data/x")}, outs: [data/x]}}
          two: {{cmd: {work("two", "y")}, deps: [store/x], outs: [y]}}
        """,
        {"work.py": WORK, "ran.log": "", "store/x": "old"},
    )
    (project.path / "data").symlink_to("store")
    go(project, "two")
    with running(project, "-j", 2, "one") as one:
        project.wait_for("one.runs")
        with running(project, "-j", 2, "two") as two:
            wait_for_line(two, "two | waits: ")
            assert ran(project) == ["one"]
            go(project, "one")
            assert_over(project, one)
            assert_over(project, two)
    assert ran(project) == ["one", "two"]


def test_two_runs_that_wait_for_each_other(project):
    with (
        running(project, "-j", 2, "other") as one,
        running(project, "-j", 2, "more") as two,
    ):
        project.wait_for("other.runs", "more.runs")
        with (
            running(project, "-j", 2, "other", "more", "up") as three,
            running(project, "-j", 2, "more", "other", "down") as four,
        ):
            for process in (three, four):
                wait_for_line(process, "waits: ")
            project.wait_for("up.runs")
            go(project, "up", "down", "other", "more")
            for process in (one, two, three, four):
                assert_over(project, process)
    assert sorted(ran(project)) == ["down", "more", "other", "up"]


def test_an_unchanged_upstream_blocks_nobody(project):
    """As in issues 11054 and 5795 of DVC."""
    go(project, "up", "other")
    project.dvc("repro", "up")
    with running(project, "-j", 2, "down") as one:
        project.wait_for("down.runs")
        # it reads up.txt all the while
        two = project.dvc("repro", "-j", 2, "up", "other")
        assert "waits" not in two.stdout
        go(project, "down")
        assert_over(project, one)
    assert sorted(ran(project)) == ["down", "other", "up"]


def test_a_changed_upstream_waits_for_those_who_read_it(project):
    go(project, "up")
    project.dvc("repro", "up")
    with running(project, "-j", 2, "down") as one:
        project.wait_for("down.runs")
        with running(project, "-j", 2, "--force", "up") as two:
            wait_for_line(two, "up | waits: ")
            assert project.read("up.txt") == "up\n"
            go(project, "down")
            assert_over(project, one)
            assert_over(project, two)
    assert ran(project) == ["up", "down", "up"]


def test_ctrl_c_ends_the_wait(project):
    with running(project, "-j", 2, "up") as one:
        project.wait_for("up.runs")
        with running(project, "-j", 2, "down") as two:
            wait_for_line(two, "up | waits: ")
            two.send_signal(signal.SIGINT)
            finish(two)
            assert two.returncode != 0
        go(project, "up")
        assert_over(project, one)
    assert ran(project) == ["up"]


@pytest.mark.skipif(not HAS_KEEP_GOING, reason="fails for another reason")
def test_a_failure_ends_the_wait(project):
    project.write({"more.on/there": ""})
    with running(project, "-j", 2, "up") as one:
        project.wait_for("up.runs")
        with running(project, "-j", 2, "down", "more") as two:
            output = finish(two)
            assert two.returncode != 0
            assert "failed to reproduce 'more'" in output
        go(project, "up")
        assert_over(project, one)
    assert ran(project) == ["up"]


@pytest.mark.skipif(sys.platform != "linux", reason="commands outlive their DVC")
def test_nobody_waits_for_the_dead(project):
    with running(project, "-j", 2, "up") as one:
        project.wait_for("up.runs")
        with running(project, "-j", 2, "up") as two:
            wait_for_line(two, "up | waits: ")
            (project.path / "up.on").rmdir()
            one.kill()
            one.wait()
            wait_for_line(two, "up | > ")
            go(project, "up")
            assert_over(project, two)
    assert ran(project) == ["up", "up"]


def test_a_run_in_a_command_does_not_wait_for_it(make_project):
    project = make_project(
        "nested",
        f"""
        stages:
          inner: {{cmd: echo > inner.txt, outs: [inner.txt]}}
          outer:
            cmd: "{PYTHON} -m dvc repro -f -j 2 inner"
            deps: [inner.txt]
        """,
    )
    result = project.dvc("repro", "-j", 2, check=False)
    assert result.returncode == 255
    assert "is busy, it is being blocked by" in result.stdout + result.stderr


def test_a_run_begins_when_the_repo_is_free(project):
    go(project, "other")
    lock = Lock(str(project.path / ".dvc" / "tmp" / "lock"))
    lock.lock()
    with running(project, "-j", 2, "other") as process:
        wait_for_line(process, "Waiting for the repo: ")
        assert ran(project) == []
        lock.unlock()
        assert_over(project, process)
    assert ran(project) == ["other"]


def test_a_run_on_workers_begins_when_the_repo_is_free(project):
    lock = Lock(str(project.path / ".dvc" / "tmp" / "lock"))
    lock.lock()
    with running(project, "--runner", "dask:no.cluster") as process:
        wait_for_line(process, "Waiting for the repo: ")
        lock.unlock()
        output = finish(process)
    assert process.returncode == 255
    assert "runner 'dask:no.cluster'" in output or "dvc-parallel[dask]" in output


def test_a_wait_for_the_path_locks_says_who_has_them(project):
    go(project, "other", "more")
    lock = Lock(str(project.path / ".dvc" / "tmp" / "rwlock.lock"))
    lock.lock()
    with running(project, "-j", 2, "other", "more") as process:
        wait_for_line(process, f"Waiting for the path locks: process {os.getpid()} (")
        assert ran(project) == []
        lock.unlock()
        assert_over(project, process)
    assert sorted(ran(project)) == ["more", "other"]


@pytest.mark.slow
def test_ctrl_c_ends_a_wait_for_the_path_locks(project):
    lock = Lock(str(project.path / ".dvc" / "tmp" / "rwlock.lock"))
    lock.lock()
    with running(project, "-j", 2, "other", "more") as process:
        wait_for_line(process, "Waiting for the path locks: ")
        process.send_signal(signal.SIGINT)
        finish(process)
        assert process.returncode == 252
    lock.unlock()
    assert ran(project) == []


def test_path_locks_that_a_power_cut_has_left(project):
    go(project, "other")
    damaged = project.path / ".dvc" / "tmp" / "rwlock"
    damaged.write_text('{"write": {"')
    # one job is today's DVC
    result = project.dvc("repro", "-j", 1, "other", check=False)
    assert result.returncode == 255
    assert "JSON structure is corrupted" in result.stderr
    result = project.dvc("repro", "-j", 2, "other")
    assert (result.stdout + result.stderr).count(f"'{damaged}' is damaged") == 1
    project.dvc("repro", "-j", 1, "other")
    assert ran(project) == ["other"]


LEAVE_THE_REPO_LOCKED = """\
import os, sys
from dvc.repo import Repo
from dvc_parallel.engine.lock_wait import PatientLock
repo = Repo()
PatientLock(repo).lock()
os._exit(0)
"""


def test_a_hard_link_that_a_killed_run_has_left(project):
    go(project, "other")
    project.write({".dvc/config": "[core]\n    hardlink_lock = true\n"})
    project.run([PYTHON, "-c", LEAVE_THE_REPO_LOCKED])
    result = project.dvc("repro", "-j", 2, "other", check=False)
    assert result.returncode == 255
    lock = project.path / ".dvc" / "tmp" / "lock"
    assert f"has ended and left '{lock}' behind; remove that file" in result.stderr
    lock.unlink()
    project.dvc("repro", "-j", 2, "other")
    assert ran(project) == ["other"]
