"""What docs/cluster.md says works."""

import contextlib
import os
import re
import socket
import ssl
from ipaddress import ip_address

import psutil
import pytest

from tests.support.dask_cluster import worker_of
from tests.support.docs import blocks
from tests.support.project import finish

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
    assert " --dashboard-address 127.0.0.1:0" in job


def test_a_real_slurm(make_project, slurm):
    """Nothing of it listens for others but what TLS protects."""
    pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue")
    project = make_project(
        dvc_yaml="""
        stages:
          one: {cmd: "touch one.on; until test -e go; do sleep 0.05; done"}
          two: {cmd: echo $SLURM_JOB_ID > two.txt, outs: [two.txt]}
        """
    )
    code = recipe("python", "SLURMCluster")
    for text, other in (('"cpu"', '"main"'), ('"16GB"', '"1GB"'), ("jobs=2", "jobs=1")):
        assert text in code
        code = code.replace(text, other)
    project.write({"clusters.py": code})
    run = project.start("repro", "-j", 2, "--runner", "dask:clusters.slurm")
    project.wait_for("one.on")
    processes = [psutil.Process(run.pid)]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            # NOTE: of a job of this Slurm
            env = process.environ()
            if "SLURM_JOB_ID" in env and slurm.env.items() <= env.items():
                processes.append(process)
    listeners = {
        connection.laddr: process.cmdline()
        for process in processes
        for connection in net_connections(process)
        if connection.status == psutil.CONN_LISTEN
        and not ip_address(connection.laddr.ip).is_loopback
    }
    assert len(processes) > 2
    assert listeners
    for address, command in listeners.items():
        with pytest.raises(ssl.SSLError) as info:
            get_without_certificate(*address)
        assert info.value.reason != "WRONG_VERSION_NUMBER", command  # no TLS
    project.write({"go": ""})
    output = finish(run)
    assert run.returncode == 0, output
    assert project.read("two.txt").strip() in slurm.call("squeue", "-t", "all")
    assert worker_of(project, "two").startswith("SLURMCluster-0")


def get_without_certificate(host, port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port)) as plain:
        with context.wrap_socket(plain) as protected:
            protected.send(b"GET / HTTP/1.0\r\n\r\n")
            protected.recv(1)


def net_connections(process):
    with contextlib.suppress(psutil.Error):
        get = getattr(process, "net_connections", process.connections)
        return get("tcp")
    return []


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
