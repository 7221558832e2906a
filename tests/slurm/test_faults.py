"""DVC, Slurm's controller and nodes are killed: the result is that of serial DVC.

``DVC_PARALLEL_KILLS`` is how many times DVC is, ``DVC_PARALLEL_SEED`` where to start.
"""

import json
import os
import random
import shutil
import signal
from collections import Counter
from itertools import count

import pytest

from tests import HANGS, wait_until
from tests.support import rounds
from tests.support.processes import DvcProcess
from tests.support.project import finish

pytestmark = pytest.mark.slow


def successes(slurm, project) -> Counter:
    """How many jobs of each stage have come to a good end."""
    jobs = [line.split(" ", 2) for line in slurm.jobs("%j %T %Z")]
    return Counter(
        name.split(".")[0]
        for name, state, folder in jobs
        if folder.startswith(f"{project.path}/") and state == "COMPLETED"
    )


@pytest.mark.parametrize("seed, kills", rounds.rounds("DVC_PARALLEL_KILLS", 3))
def test_dvc_is_killed_at_random(tmp_path, slurm, seed, kills, record_property):
    pipeline = rounds.Pipeline(tmp_path, random.Random(seed), (6, 12))
    hit = Counter()
    for number in count():
        if not kills:
            break
        rng = random.Random(f"{seed} {number}")
        project = pipeline.project(f"round{number}")
        while True:
            process = DvcProcess(project, "repro", "--runner", "slurm", "-j", 4)
            if kills and pipeline.wait(process, project, rng):
                process.send_signal(signal.SIGKILL)
                kills -= 1
                hit.update(rounds.where(project))
            process.wait(HANGS)
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, process.output
            pipeline.assert_sound(project)
        pipeline.assert_as_serial(project)
        pipeline.assert_in_order(project)
        assert set(successes(slurm, project).values()) == {1}
        shutil.rmtree(project.path.parent)
    record_property("hit", json.dumps(hit))


PIPELINE = """
stages:
  long:
    foreach: [a, b, c, d]
    do:
      cmd: "echo $$ >> ${item}.began; while ! test -e go; do sleep 0.1; done;
        test $(wc -l < ${item}.began) = 1 || echo again; echo ${item} > ${item}.txt"
      outs: ["${item}.txt"]
  all:
    cmd: cat a.txt b.txt c.txt d.txt > all.txt
    deps: [a.txt, b.txt, c.txt, d.txt]
    outs: [all.txt]
"""


@pytest.fixture
def running(make_project, slurm):
    """A project whose four jobs run, and DVC."""
    project = make_project(dvc_yaml=PIPELINE)
    process = project.start("repro", "--runner", "slurm", "-j", 4)
    project.wait_for(*(f"{name}.began" for name in "abcd"))
    return project, process


def ends_well(project, process) -> str:
    project.write({"go": ""})
    output = finish(process)
    assert process.returncode == 0, output
    assert project.read("all.txt") == "a\nb\nc\nd\n"
    return output


def began(project) -> list[int]:
    return [len(project.read(f"{name}.began").split()) for name in "abcd"]


def test_the_controller_is_killed(running, slurm):
    """Some jobs are too new for it to know them when it is back."""
    project, process = running
    slurm.kill_controller()
    slurm.start_controller()
    output = ends_well(project, process)
    assert "Slurm knows nothing of job" in output or began(project) == [1, 1, 1, 1]


def test_the_controller_is_away(running, slurm):
    project, process = running
    slurm.kill_controller()
    try:
        project.write({"go": ""})
        said = ""
        for line in process.stdout:
            said += line
            if "Waiting for Slurm" in line:
                break
        assert "| failed in" not in said
    finally:
        slurm.start_controller()
    output = said + ends_well(project, process)
    assert "5 ran" in output
    assert began(project) == [1, 1, 1, 1]


def test_a_node_loses_its_power(make_project, slurm):
    project = make_project(dvc_yaml=PIPELINE)
    env = "DVC_PARALLEL_SLURM"
    process = project.start(
        *("repro", "--runner", "slurm", "-j", 4),
        env={**os.environ, env: "nodelist=n2"},
    )
    try:
        project.wait_for(*(f"{name}.began" for name in "abcd"))
        slurm.kill_node("n2")
        wait_until(lambda: "NODE_FAIL" in " ".join(slurm.jobs()))
    finally:
        slurm.start_node("n2")
    project.write({"go": ""})
    output = finish(process)
    assert process.returncode == 0, output
    assert project.read("all.txt") == "a\nb\nc\nd\n"
    assert began(project) == [2, 2, 2, 2]
    assert "its node failed (NODE_FAIL)" in output


def test_a_job_out_of_sight_is_stopped_before_it_runs_again(make_project, slurm):
    """Slurm has lost a node whose job goes on: never are there two that write."""
    project = make_project(
        dvc_yaml="""
        stages:
          one:
            cmd: "echo begun $SLURM_JOB_ID >> ../log;
              trap 'echo ended $SLURM_JOB_ID >> ../log; exit 1' TERM;
              test $(grep -c begun ../log) = 2 || while sleep 0.1; do :; done;
              echo done > out.txt"
            outs: [out.txt]
        """
    )
    env = {**os.environ, "DVC_PARALLEL_SLURM": "nodelist=n3"}
    process = project.start("repro", "--runner", "slurm", env=env)
    try:
        project.wait_for("../log")
        slurm.kill_slurmd("n3")
        wait_until(lambda: "ended" in project.read("../log"))
    finally:
        slurm.start_node("n3")
    output = finish(process)
    assert process.returncode == 0, output
    first, second = (
        line.split()[1]
        for line in project.read("../log").splitlines()
        if line.startswith("begun")
    )
    assert project.read("../log").splitlines() == [
        f"begun {first}",
        f"ended {first}",
        f"begun {second}",
    ]
