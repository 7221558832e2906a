"""What a job runs, without Slurm."""

import os
import subprocess
import sys

import pytest

from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.runner import Command
from tests import HANGS

if sys.platform != "linux":
    pytest.skip("jobs need /proc", allow_module_level=True)

from dvc_parallel.remote.slurm.records import Job
from dvc_parallel.remote.slurm.script import script_of


@pytest.fixture
def job(tmp_path):
    folder = OwnFolder(str(tmp_path), "job")
    folder.make()
    return Job(folder, "one.12345678")


def run(job, line, job_id="7", **kwargs) -> int:
    script = script_of(job, Command(["sh", "-c", line], cwd="/", **kwargs))
    return subprocess.run(
        ["sh", "-c", script],
        env={**os.environ, "SLURM_JOB_ID": job_id},
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=HANGS,
    ).returncode


@pytest.mark.parametrize(
    "line, end",
    [
        ("true", (0, "0")),
        ("exit 3", (3, "0")),
        # NOTE: Slurm is asked whether it has done that
        ("kill -TERM $$", (143, "1")),
        ("kill -KILL $$", (137, "1")),
        ("kill -TERM $PPID; sleep 300 & kill $!; exit 0", (0, "1")),
    ],
)
def test_how_a_command_has_ended(job, line, end):
    assert run(job, line) == end[0]
    assert job.end == end
    assert job.claim[0] == "7"
    assert job.claim[-1] == os.uname().nodename
    assert job.usage.cpu >= 0


def test_it_runs_once(job):
    assert run(job, "echo ran; echo error >&2") == 0
    assert run(job, "echo ran again", "8") == 91
    assert job.read("stdout") == b"ran\n"
    assert job.read("stderr") == b"error\n"
    assert job.claim[0] == "7"


def test_it_does_not_begin_any_more(job):
    assert job.bar()
    assert run(job, "echo ran") == 91
    assert job.end is None
    assert not job.read("stdout")


def test_its_time_is_up(job):
    assert run(job, "trap 'exit 0' TERM; sleep 300", timeout=0.1) == 124
    assert job.end == (124, "late")
