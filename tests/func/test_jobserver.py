"""Slots of a run shared with make, and with a run inside a stage."""

import shutil
import signal
import subprocess
import sys

import pytest
from dvc.exceptions import InvalidArgumentError

from tests.support.jobserver_tokens import free
from tests.support.project import HOLD, MEET, finish

pytest.importorskip("fcntl")

from dvc_parallel.scheduling.jobserver import Server, make_knows_fifo

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")

PYTHON = sys.executable

# Writes down how many there are of it.
COUNT = """\
import os, pathlib, sys, time
root = pathlib.Path(__file__).parent
running = root / "running"
running.mkdir(exist_ok=True)
me = running / str(os.getpid())
me.touch()
with open(root / "counts", "a") as fobj:
    fobj.write(f"{len(list(running.iterdir()))}\\n")
time.sleep(0.2)
me.unlink()
"""

MAKEFILE = f"""
all: 1 2 3 4 5 6
1 2 3 4 5 6:
\t@{PYTHON} count.py
"""


@pytest.fixture(autouse=True)
def _jobserver(monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_JOBSERVER", "1")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def counts(project):
    return [int(line) for line in project.read("counts").split()]


def test_stages_of_make_share_the_jobs(make_project, temporary):
    dvc_yaml = "stages: {build: {foreach: [a, b, c], do: {cmd: make}}}"
    project = make_project("make", dvc_yaml, {"Makefile": MAKEFILE, "count.py": COUNT})
    result = project.dvc("repro", "-j", 3)
    assert "jobserver" not in result.stdout + result.stderr
    assert len(counts(project)) == 18
    assert max(counts(project)) <= 3
    assert not list(temporary.iterdir())


def test_make_has_what_stages_leave(make_project):
    makefile = f"all: 1 2 3\n1 2 3:\n\t@{PYTHON} meet.py $@ 3\n"
    files = {"Makefile": makefile, "meet.py": MEET}
    project = make_project("one", "stages: {build: {cmd: make}}", files)
    project.dvc("repro", "-j", 3)


INNER = f"""
stages:
  count:
    foreach: [1, 2, 3, 4, 5, 6]
    do: {{cmd: {PYTHON} ../count.py}}
"""


def test_a_run_inside_a_stage_shares_the_jobs(make_project):
    dvc_yaml = f"""
        stages:
          outer: {{cmd: {PYTHON} -m dvc repro -j 8 inner/dvc.yaml}}
          other: {{foreach: [a, b], do: {{cmd: "{PYTHON} count.py"}}}}
    """
    files = {"inner/dvc.yaml": INNER, "count.py": COUNT}
    project = make_project("nested", dvc_yaml, files)
    result = project.dvc("repro", "-j", 3)
    assert "6 stages: 6 ran;" in result.stdout
    assert len(counts(project)) == 8
    # NOTE: the outer run counts the inner one as a stage
    assert max(counts(project)) <= 3


def test_a_run_inside_a_stage_uses_the_jobs_that_are_left(make_project):
    inner = f"""
stages:
  meet: {{foreach: [1, 2, 3], do: {{cmd: "{PYTHON} meet.py ${{item}} 3"}}}}
"""
    dvc_yaml = f"stages: {{outer: {{cmd: {PYTHON} -m dvc repro -j 3 inner/dvc.yaml}}}}"
    files = {"inner/dvc.yaml": inner, "inner/meet.py": MEET}
    project = make_project("left", dvc_yaml, files)
    project.dvc("repro", "-j", 3)


@pytest.mark.parametrize("plus", ["+", ""])
def test_a_run_inside_make_shares_its_jobs(make_project, plus):
    makefile = f"all: dvc 1 2\ndvc:\n\t{plus}@{PYTHON} -m dvc repro -j 8\n"
    makefile += f"1 2:\n\t@{PYTHON} count.py\n"
    dvc_yaml = INNER.replace("../count", "count")
    files = {"Makefile": makefile, "count.py": COUNT}
    project = make_project("make", dvc_yaml, files)
    result = subprocess.run(
        ["make", "-j3"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(counts(project)) == 8
    unreachable = "not sharing the jobs of make" in result.stderr
    assert unreachable == (not plus and not make_knows_fifo())
    if not unreachable:
        assert max(counts(project)) <= 3


@pytest.mark.parametrize("fifo", [True, False])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_gives_back_what_it_has(
    make_project, monkeypatch, signum, fifo
):
    server = Server(3, fifo=fifo)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    dvc_yaml = f"""
        stages:
          hold: {{foreach: [a, b, c], do: {{cmd: "exec {PYTHON} hold.py ${{item}}"}}}}
    """
    project = make_project("stopped", dvc_yaml, {"hold.py": HOLD})
    process = project.start("repro", "-j", 3, pass_fds=server.inherited)
    project.wait_for("a.runs", "b.runs", "c.runs")
    # NOTE: one stage has the slot that the run has itself
    assert free(server) == 1
    process.send_signal(signum)
    finish(process)
    assert free(server) == 3
    server.close()


@pytest.mark.parametrize("value", ["2", "yes"])
def test_it_is_on_or_off(make_project, monkeypatch, value):
    monkeypatch.setenv("DVC_PARALLEL_JOBSERVER", value)
    project = make_project(dvc_yaml="stages: {a: {cmd: touch a.txt}}")
    message = f"DVC_PARALLEL_JOBSERVER: expected 0 or 1, got '{value}'"
    with pytest.raises(InvalidArgumentError, match=message):
        project.reproduce(jobs=2)
    assert not project.exists("a.txt")


@pytest.mark.parametrize("value", ["", "0", None])
def test_it_is_off_if_not_asked_for(make_project, monkeypatch, value):
    monkeypatch.delenv("DVC_PARALLEL_JOBSERVER")
    if value is not None:
        monkeypatch.setenv("DVC_PARALLEL_JOBSERVER", value)
    project = make_project(dvc_yaml="stages: {a: {cmd: 'echo +$MAKEFLAGS > a.txt'}}")
    project.reproduce(jobs=2)
    assert project.read("a.txt") == "+\n"
