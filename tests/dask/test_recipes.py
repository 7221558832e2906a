"""What docs/cluster.md says works."""

import os
import re

import pytest

from tests.support.dask_cluster import worker_of
from tests.support.docs import blocks

PAGE = "docs/cluster.md"


def recipe(language, text):
    (block,) = [block for block in blocks(PAGE, language) if text in block.text]
    return block.text


def test_which_worker(make_project, shared_cluster):
    project = make_project(dvc_yaml=recipe("yaml", "workers: [lab-*]"))
    project.reproduce(jobs="auto", runner=shared_cluster.runner)
    assert worker_of(project, "train@a") == worker_of(project, "train@b") == "lab-a"
    assert worker_of(project, "report").startswith("lab-")


def test_nightly(make_project, shared_cluster):
    project = make_project(dvc_yaml=recipe("yaml", "summary"))
    assert len(project.reproduce(jobs="auto", runner=shared_cluster.runner)) == 4


# Runs the script of a job as Slurm would, on this machine.
SBATCH = """\
#!/bin/sh
cp "$1" job.sh
setsid sh job.sh > job.log 2>&1 < /dev/null &
echo $! > job.pid
echo Submitted batch job $!
"""
SCANCEL = """\
#!/bin/sh
kill -- -$(cat job.pid)
"""


def test_slurm(make_project, tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue")
    project = make_project(dvc_yaml="stages: {one: {cmd: echo $PPID > one.txt}}")
    # NOTE: one worker is enough
    code = recipe("python", "SLURMCluster").replace("jobs=2", "jobs=1")
    project.write({"clusters.py": code})
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    result = project.dvc("repro", "--runner", "dask:clusters.slurm")
    assert re.search(r"Waiting for the first worker", result.stdout + result.stderr)
    assert worker_of(project, "one").startswith("SLURMCluster-0")
    job = project.read("job.sh")
    assert "#SBATCH -p cpu" in job
    assert "#SBATCH -t 04:00:00" in job
    assert " tls://" in job


def test_kubernetes():
    pytest.importorskip("dask_kubernetes", reason="needs dask-kubernetes")
    names = {}
    exec(recipe("python", "KubeCluster"), names)
    made = names["spec"]()
    pod = made["spec"]["worker"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "work"}
    (container,) = pod["containers"]
    assert container["image"] == names["IMAGE"]
    assert container["volumeMounts"] == [names["MOUNT"]]
    assert container["args"][-2:] == ["--nthreads", "2"]
