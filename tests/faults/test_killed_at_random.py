"""DVC is killed at a random moment: the next serial run is as if nothing had been.

``DVC_PARALLEL_KILLS`` is how many times, ``DVC_PARALLEL_SEED`` where to start.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from itertools import count
from zlib import crc32

import psutil
import pytest
from ruamel.yaml import YAML

from tests.project import Project

from .pipeline import write_pipeline

KILLS = int(os.environ.get("DVC_PARALLEL_KILLS", "6"))
# NOTE: all workers of a run have to collect the same tests
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
SEED = int(os.environ.get("DVC_PARALLEL_SEED", crc32(RUN.encode())))
KILLS_OF_ONE = 20


def entries(project):
    if not project.exists("dvc.lock"):
        return {}
    with open(project.path / "dvc.lock") as fobj:
        return dict(YAML(typ="safe").load(fobj)["stages"])


def left(project):
    """What is left, in whatever order stages have been recorded."""
    files = {
        name: value for name, value in project.left().items() if ".dvc/" not in name
    }
    del files["dvc.lock"]
    mode, ignored = files[".gitignore"]
    files[".gitignore"] = mode, sorted(ignored.splitlines())
    return {**files, "dvc.lock": entries(project)}


def wait_for_commands(project):
    """Wait for the end of all that the run has started."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.path):
                processes.append(process)
        except psutil.Error:
            continue
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


@pytest.mark.parametrize("seed", range(SEED, SEED + -(-KILLS // KILLS_OF_ONE)))
@pytest.mark.timeout(1200)
def test_killed_at_a_random_moment(tmp_path, seed):
    rng = random.Random(seed)
    serial = Project(tmp_path / "serial")
    write_pipeline(serial, rng, rng.randint(20, 50))
    pristine = tmp_path / "pristine"
    shutil.copytree(serial.path, pristine)
    serial.reproduce()
    expected = left(serial)

    whole = Project(tmp_path / "whole")
    shutil.copytree(pristine, whole.path, dirs_exist_ok=True)
    start = time.monotonic()
    whole.dvc("repro", "-j", 4)
    duration = time.monotonic() - start
    assert left(whole) == expected

    kills = 0
    for number in count():
        if kills == min(KILLS, KILLS_OF_ONE):
            break
        project = Project(tmp_path / f"killed{number}")
        shutil.copytree(pristine, project.path, dirs_exist_ok=True)
        while kills < min(KILLS, KILLS_OF_ONE):
            process = project.start("repro", "-j", rng.randint(2, 6))
            try:
                output, _ = process.communicate(timeout=rng.uniform(0.2, duration))
                assert process.returncode == 0, output
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
            kills += 1
            wait_for_commands(project)
            recorded = entries(project)
            right = expected["dvc.lock"]
            assert recorded == {name: right[name] for name in recorded}
            if rng.random() < 0.5:  # else, another parallel run takes over
                break
        project.reproduce()
        assert left(project) == expected
        with project.repo() as repo:
            assert repo.status() == {}
        shutil.rmtree(project.path)
