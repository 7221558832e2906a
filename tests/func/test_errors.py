"""Errors of a run: those of serial DVC, in its order."""

import json
import re
import subprocess
import sys

from tests.support.many_commands import COMMANDS

PYTHON = sys.executable
MODES = ([], ["-k"], ["--ignore-errors"])


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
        last_lines = r"^WARNING: the last lines of .*\n  words\n?"
        ours = re.sub(last_lines, "", parallel, flags=re.MULTILINE)
        assert ours.strip() == serial.strip()


def test_several_failures_are_told_in_serial_order(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          first: {cmd: "while test ! -e go; do sleep 0.05; done; exit 1"}
          second: {cmd: "trap 'touch go' EXIT; exit 2"}
        """
    )
    (said,) = errors_of(project, [["repro", "-j", "2"]])
    assert re.findall("^ERROR: .*", said, re.MULTILINE) == [
        "ERROR: failed to reproduce 'first': failed to run: while test ! -e go; do "
        "sleep 0.05; done; exit 1, exited with 1",
        "ERROR: failed to reproduce 'second': failed to run: trap 'touch go' EXIT; "
        "exit 2, exited with 2",
        "ERROR: failed to reproduce stages: 'first' and 'second': failed to run: while "
        "test ! -e go; do sleep 0.05; done; exit 1, exited with 1",
    ]
