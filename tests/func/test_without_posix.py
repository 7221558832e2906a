"""Nothing on the way of a stage needs what only POSIX has.

Windows itself is not tried: see :mod:`tests.support.without_posix`.
"""

import os
import subprocess
import sys

import pytest

from tests import HANGS
from tests.support import without_posix
from tests.support.capabilities import needs_keep_going

if os.name != "posix":
    pytest.skip("takes away what is not there", allow_module_level=True)

DVC = [sys.executable, without_posix.__file__]


def test_same_as_serial(twins):
    serial, parallel = twins("""
        stages:
          one: {cmd: "echo a > fifo; echo 1 > 1", outs: ["1"]}
          two: {cmd: "cat fifo; echo 2 > 2", outs: ["2"]}
          three: {cmd: cat 1 2 > 3, deps: ["1", "2"], outs: ["3"]}
    """)
    os.mkfifo(parallel.path / "fifo")
    result = parallel.run([*DVC, "repro", "--jobs", "2"])
    assert "two | a\n" in result.stdout
    (serial.path / "fifo").touch()
    serial.dvc("repro")
    for name in ("dvc.lock", ".gitignore", "3"):
        assert parallel.read(name) == serial.read(name)
    assert "up to date" in parallel.run([*DVC, "repro", "-j", "2"]).stdout


@needs_keep_going
def test_failure_and_time_limit(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          bad: {cmd: exit 3}
          slow: {cmd: sleep 300, meta: {parallel: {timeout: 0.1}}}
          good: {cmd: "echo 1 > 1", outs: ["1"]}
    """
    )
    result = project.run([*DVC, "repro", "-k", "--jobs", "3"], check=False)
    assert result.returncode == 255
    assert "exited with 3" in result.stdout + result.stderr
    assert "timed out" in result.stdout + result.stderr
    assert "good" in project.read("dvc.lock")


def test_ctrl_c(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          one: {cmd: "echo begun > fifo; sleep 300", outs: ["1"]}
          two: {cmd: sleep 300, outs: ["2"]}
    """
    )
    os.mkfifo(project.path / "fifo")
    process = subprocess.Popen(
        [*DVC, "repro", "--jobs", "2"],
        cwd=project.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert project.read("fifo") == "begun\n"
    process.send_signal(2)
    output, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 252, output
    assert "AttributeError" not in output
    assert "one" in output
