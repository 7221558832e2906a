"""``dvc-parallel watch``: the view of a run of another process."""

import re
import shlex
import subprocess
import sys
import termios

import pytest

from tests import HANGS
from tests.func.test_terminal import Terminal
from tests.support.capabilities import HAS_KEEP_GOING
from tests.support.project import finish

WATCH = [sys.executable, "-m", "dvc_parallel", "watch"]

DVC_YAML = """
    stages:
      wrong: {cmd: "echo a problem; exit 3"}
      work:
        cmd: "echo at it; touch began; until [ -f go ]; do sleep 0.1; done"
      last: {cmd: echo, deps: [work.txt]}
      more: {cmd: "echo > work.txt", deps: [made.txt], outs: [work.txt]}
      make:
        cmd: "until [ -f go ]; do sleep 0.1; done; echo > made.txt"
        outs: [made.txt]
"""


@pytest.fixture
def project(make_project):
    return make_project("watch", DVC_YAML)


@pytest.fixture
def running(project):
    """A run with a stage that has failed, and two that go on until they are told."""
    options = ["--keep-going"] if HAS_KEEP_GOING else []
    process = project.start("repro", "-j", 3, *options)
    lines = iter(process.stdout.readline, "")
    wanted = {"wrong | failed", "work | at it"}
    while wanted:
        line = next(lines)
        wanted -= {known for known in wanted if known in line}
    yield process
    project.write({"go": ""})
    finish(process)


@pytest.fixture
def watch(project):
    terminals = []

    def start(command=WATCH, **kwargs):
        terminals.append(Terminal(project, command=command, **kwargs))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def test_the_view_can_be_left_and_entered(project, running, watch):
    leaving = {key: watch() for key in ("q", "\x03")}
    shell = watch(["bash", "--norc", "--noprofile", "-i"], PS1="ready> ")
    shell.wait_for("^ready>")
    shell.type(f"{shlex.join(WATCH)}\n")
    for key, terminal in leaving.items():
        terminal.wait_for(r"^[━─]+ 1/5, 2 running, 1 failed")
        terminal.wait_for(r"^work +0:\d\d  at it$")
        assert not termios.tcgetattr(terminal._fd)[3] & termios.ICANON
        terminal.type(key)
        text = terminal.finish()
        assert terminal.process.returncode == 0
        assert "running" not in text
        left = r"^wrong \| failed in .*\nLeft run \S+, which goes on\.$"
        assert re.search(left, text, re.MULTILINE)
        assert termios.tcgetattr(terminal._fd)[3] & termios.ICANON
        assert running.poll() is None

    shell.wait_for("2 running")
    shell.type("\x1a")
    shell.wait_for("Stopped")
    assert not re.search("running$|[━─]", "\n".join(shell.text), re.MULTILINE)
    shell.type("clear; fg\n")
    shell.wait_for("2 running")
    project.write({"go": ""})
    shell.wait_for("^5 stages: ")
    shell.type("exit $?\n")
    text = shell.finish()
    assert shell.process.returncode == 1
    ran = "4 ran, 1 failed" if HAS_KEEP_GOING else "2 ran, 1 failed, 2 not run"
    for line in (
        r"work \| ran in .*",
        r"last \| ran in .*" if HAS_KEEP_GOING else r"make \| ran in .*",
        r"  wrong +3 .*",
        r"    \| a problem",
        rf"5 stages: {ran}; .* with 3 jobs.*",
    ):
        assert re.search(f"^{line}$", text, re.MULTILINE)


def test_a_run_that_is_killed_without_a_terminal(project, running):
    watching = subprocess.Popen(
        WATCH, cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert watching.stdout.readline().startswith(b"wrong | failed in")
    running.kill()
    out, err = watching.communicate(timeout=HANGS)
    assert watching.returncode == 1
    assert b"5 stages: 1 failed, 2 not run, 2 interrupted; " in out
    assert re.search(rb"^run \S+ was killed$", err, re.MULTILINE)

    result = project.run(WATCH, check=False)
    assert result.returncode == 255
    assert re.search(
        r"no run goes on: the last one, \S+, has ended \(killed\)", result.stderr
    )
