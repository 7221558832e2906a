"""DVC is killed at a random moment: the next serial run is as if nothing had been.

``DVC_PARALLEL_KILLS`` is how many times, ``DVC_PARALLEL_SEED`` where to start.
"""

import json
import random
import shutil
import signal
import sys
from collections import Counter
from itertools import count

import psutil
import pytest

from tests import HANGS
from tests.support import rounds
from tests.support.processes import DvcProcess, dvc_alone, watchdogs_of

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

# Who is killed: the watchdog, too, or some time before DVC.
VICTIMS = ("dvc", "dvc", "dvc", "dvc and watchdog", "watchdog, then dvc")


def kill(process, project, pipeline, rng, victims):
    """Kill a run at a random moment, if it has not ended before."""
    if victims == "watchdog, then dvc" and pipeline.wait(process, project, rng):
        kill_watchdogs(process)
    if pipeline.wait(process, project, rng):
        if victims == "dvc and watchdog":
            kill_watchdogs(process)
        process.send_signal(signal.SIGKILL)
        process.wait(HANGS)


def kill_watchdogs(process):
    for watchdog in watchdogs_of(process.pid):
        try:
            watchdog.kill()
        except psutil.NoSuchProcess:
            continue


def recover(project, by):
    """Reproduce what is left, serially."""
    if by == "alone":
        dvc_alone(project, "repro")
        return
    process = DvcProcess(project, "repro")
    output = process.finish()
    assert process.returncode == 0, output


def test_dvc_alone_is_without_the_plugin(make_project):
    assert "--jobs" not in dvc_alone(make_project(), "repro", "--help").stdout


@pytest.mark.parametrize("seed, kills", rounds.rounds("DVC_PARALLEL_KILLS", 4))
@pytest.mark.timeout(7200)
def test_killed_at_a_random_moment(tmp_path, seed, kills, record_property):
    pipeline = rounds.Pipeline(tmp_path, random.Random(seed), (20, 50))
    hit, taken_over = Counter(), Counter()
    for number in count():
        if not kills:
            break
        rng = random.Random(f"{seed} {number}")
        project = pipeline.project(f"round{number}")
        by = "parallel"
        while kills and by == "parallel":
            victims = rng.choice(VICTIMS)
            process = DvcProcess(project, "repro", "-j", rng.randint(2, 6))
            kill(process, project, pipeline, rng, victims)
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 0, process.output
                by = None
                break
            kills -= 1
            hit.update(rounds.where(project))
            pipeline.assert_sound(project)
            by = rng.choice(["parallel", "serial"])
            if victims == "dvc" and rng.random() < 0.2:
                by = "alone"
                rounds.assert_no_commands(project)
            taken_over[by] += 1
        if by is not None:
            recover(project, by)
        pipeline.assert_as_serial(project)
        if by != "alone":
            pipeline.assert_in_order(project)
        shutil.rmtree(project.path.parent)
    record_property("hit", json.dumps(hit))
    record_property("taken over", json.dumps(taken_over))
