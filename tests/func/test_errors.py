"""Errors of a run: those of serial DVC, in its order."""

import json
import os
import re
import subprocess
import sys
import threading

import pytest
from dvc.exceptions import ReproductionError

from dvc_parallel.engine.plan import Finished, Plan, PlanError
from tests.support.capabilities import HAS_KEEP_GOING
from tests.support.many_commands import COMMANDS
from tests.support.project import SCRIPTS, finish

PYTHON = sys.executable
MODES = ([], ["-k"], ["--ignore-errors"]) if HAS_KEEP_GOING else ([],)


def errors_of(project, commands):
    """What each of some commands says on stderr."""
    script = COMMANDS.replace("os.write(1", "os.write(2")
    result = subprocess.run(
        [PYTHON, "-c", script, json.dumps(commands)],
        cwd=project.path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return re.split(r"\n=== repro: -?\d+\n", result.stderr)[:-1]


def test_one_failure_is_told_as_by_serial_dvc(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          bad: {cmd: "echo words; exit 3", outs: [bad.txt]}
          after: {cmd: echo, deps: [bad.txt]}
        """
    )
    ways = [["repro", *mode, *jobs] for mode in MODES for jobs in ([], ["-j", "2"])]
    said = errors_of(project, ways)
    for serial, parallel in zip(said[::2], said[1::2]):
        # NOTE: that is not an error of DVC's, and there for those who see no more
        table = r"^WARNING: \d stages? failed:\n(  .*\n?)+\n?"
        parallel, count = re.subn(table, "", parallel, flags=re.MULTILINE)
        assert count == 1
        # NOTE: serial DVC has said before which stage it runs
        parallel = re.sub(r"WARNING: \w+ \| ", "WARNING: ", parallel)
        assert parallel.strip() == serial.strip()


def test_several_failures_are_told_in_serial_order(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          first: {cmd: "while test ! -e go; do sleep 0.05; done; exit 1"}
          second: {cmd: "trap 'touch go' EXIT; exit 2"}
        """
    )
    (said,) = errors_of(project, [["repro", "-j", "2"]])
    # NOTE: before 3.6.0, DVC has no words for several
    both = "stages: 'first' and 'second'" if HAS_KEEP_GOING else "'first', 'second'"
    assert re.findall("^ERROR: .*", said, re.MULTILINE) == [
        "ERROR: failed to reproduce 'first': failed to run: while test ! -e go; do "
        "sleep 0.05; done; exit 1, exited with 1",
        "ERROR: failed to reproduce 'second': failed to run: trap 'touch go' EXIT; "
        "exit 2, exited with 2",
        f"ERROR: failed to reproduce {both}: failed to run: while test ! -e go; do "
        "sleep 0.05; done; exit 1, exited with 1",
    ]


FAILING = f"""
    stages:
      bad: {{cmd: "{PYTHON} meet.py bad 2; echo the last word; exit 3"}}
      good:
        cmd: {PYTHON} meet.py good 2 && {PYTHON} hold.py good && echo 1 > good.txt
        outs: [good.txt]
      later: {{cmd: echo later > later.txt, deps: [good.txt], outs: [later.txt]}}
"""


def test_a_failure_lets_running_stages_finish_and_starts_nothing(make_project):
    project = make_project("failing", FAILING, SCRIPTS)
    process = project.start("repro", "-j", 2)
    project.wait_for("good.runs")
    output = ""
    for line in process.stdout:
        output += line
        if line.endswith("waiting for 1 running stage\n"):
            assert line.startswith("WARNING: bad | failed to run: ")
            break
    project.write({"good.go": ""})
    output += finish(process)
    assert process.returncode == 255
    assert "good:" in project.read("dvc.lock")
    assert not project.exists("later.txt")
    end = output[output.index("1 stage failed:") :]
    assert "the last word" in end
    assert "failed to reproduce 'bad'" in end


def test_all_failures_are_named(make_project):
    project = make_project(
        "failures",
        f"""
        stages:
          x: {{cmd: "{PYTHON} meet.py x 2; exit 3"}}
          y: {{cmd: "{PYTHON} meet.py y 2; exit 3"}}
        """,
        SCRIPTS,
    )
    with pytest.raises(ReproductionError, match=r"'x'(,| and) 'y'") as excinfo:
        project.reproduce(jobs=2)
    assert "exited with 3" in str(excinfo.value.__cause__)


def test_an_error_of_our_own_leaves_no_thread_and_no_lock(make_project, mocker):
    handle = Plan.handle

    def fail(plan, event):
        if isinstance(event, Finished):
            raise PlanError("ouch")
        return handle(plan, event)

    mocker.patch.object(Plan, "handle", fail)
    project = make_project(
        "ouch",
        """
        stages:
          a: {cmd: echo a > a.txt, outs: [a.txt]}
          b: {cmd: sleep 300; echo b > b.txt, outs: [b.txt]}
        """,
    )
    with pytest.raises(PlanError, match="ouch"):
        project.reproduce(jobs=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("dvc-stage")]
    assert not any(json.loads(project.path_locks()).values())
    assert "a:" in project.read("dvc.lock")
    assert project.dvc("status", "a").returncode == 0


def test_read_only_workspace(make_project):
    project = make_project("ro", "stages: {a: {cmd: 'true', outs: [a]}}")
    os.chmod(project.path, 0o555)
    try:
        if os.access(project.path, os.W_OK):
            pytest.skip("this user, as root, may write everywhere")
        result = project.dvc("repro", "-j", 2, check=False)
    finally:
        os.chmod(project.path, 0o755)
    assert result.returncode == 255
    assert "Traceback" not in result.stderr
    assert not project.exists("dvc.lock")
