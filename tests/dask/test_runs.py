"""Runs whose commands go to workers that share the workspace."""

import json
import os
import re
import signal
import sys
from textwrap import dedent

import pytest
from dvc.exceptions import DvcException, InvalidArgumentError

from tests import is_alive
from tests.support.dask_cluster import CLUSTER, MIXED, worker_of
from tests.support.project import assert_same, finish

PYTHON = sys.executable


def test_same_as_serial(twins, shared_cluster):
    serial, parallel = twins(MIXED, {"in.txt": "in\n", "sub/readme": ""})
    expected = serial.reproduce()
    assert parallel.reproduce(jobs=3, runner=shared_cluster.runner) == expected
    assert_same(serial, parallel)
    for project in (serial, parallel):
        project.write({"in.txt": "other\n"})
    expected = serial.reproduce()
    assert parallel.reproduce(jobs=3, runner=shared_cluster.runner) == expected
    assert_same(serial, parallel)


def test_where_commands_run(make_project, shared_cluster):
    project = make_project(
        dvc_yaml="""
        stages:
          by-name:
            cmd: echo $PPID > by-name.pid
            outs: [by-name.pid]
            meta: {parallel: {workers: ["*-b"]}}
          by-pool:
            cmd: echo $PPID $DVC_POOL_GPU > by-pool.pid
            outs: [by-pool.pid]
            meta: {parallel: {pools: {gpu: 1, db: 1}}}
        """
    )
    result = project.dvc("repro", "--runner", shared_cluster.runner)
    assert "with 4 jobs" in result.stdout
    assert worker_of(project, "by-name") == "lab-b"
    assert worker_of(project, "by-pool") == "lab-a"
    pids = {n: str(p.pid) for n, p in shared_cluster.processes.items()}
    assert project.read("by-name.pid").split() == [pids["lab-b"]]
    assert project.read("by-pool.pid").split() == [pids["lab-a"], "1"]

    # NOTE: dvc-parallel's own commands know it, too
    logs = project.own("logs").stdout
    assert re.search(r"^by-name +ran .* lab-b$", logs, re.MULTILINE)
    log = project.own("logs", "--json", "by-pool")
    assert json.loads(log.stdout)["worker"] == "lab-a"
    project.own("report", "-o", "trace.json")
    assert '"worker":"lab-b"' in project.read("trace.json")


def test_output_comes_whole_and_in_order(make_project, shared_cluster, capfd):
    count = 200_000
    project = make_project(
        dvc_yaml=f"""
        stages:
          long: {{cmd: seq {count}}}
          error: {{cmd: "echo out; echo err >&2"}}
        """
    )
    project.reproduce(jobs=2, runner=shared_cluster.runner)
    out, err = capfd.readouterr()
    lines = re.findall(r"^long \| (\d+)$", out, re.MULTILINE)
    assert lines == [str(number + 1) for number in range(count)]
    assert "error | out\n" in out
    assert "error | err\n" in err


def test_what_commands_use_is_known(make_project, shared_cluster):
    project = make_project(
        dvc_yaml=f"""
        stages:
          busy: {{cmd: {PYTHON} busy.py, deps: [busy.py]}}
          bad: {{cmd: exit 3}}
        """,
        files={"busy.py": "import os\nwhile sum(os.times()[:2]) < 0.3: pass\n"},
    )
    project.dvc("repro", "--runner", shared_cluster.runner, "-j", 2, "-k", check=False)
    logs = project.own("logs", "--json").stdout
    used = {stage["name"]: stage["used"] for stage in json.loads(logs)["stages"]}
    assert 0.3 <= used["busy"]["cpu"] < 30
    assert used["bad"]["seconds"] < used["busy"]["seconds"]


def test_failures_are_as_here(make_project, shared_cluster):
    project = make_project(
        dvc_yaml="""
        stages:
          bad: {cmd: "echo the reason; exit 3"}
          slow: {cmd: sleep 300, meta: {parallel: {timeout: 1s}}}
        """
    )
    result = project.dvc("repro", "--runner", shared_cluster.runner, "-k", check=False)
    assert result.returncode == 255
    assert "failed to run: echo the reason; exit 3, exited with 3" in result.stderr
    assert "timed out after 1 s" in result.stderr
    assert re.search(r"^  bad +3 .*\n    \| the reason$", result.stderr, re.MULTILINE)


# Goes on until it is killed, with a child in a session of its own.
STAYS = """\
import os, pathlib, signal, sys
name = sys.argv[1]
def stop(signum, _frame):
    pathlib.Path(f"{name}.got{signum}").touch()
    os._exit(1)
signal.signal(signal.SIGINT, stop)
kind = "pid"
if os.fork() == 0:
    os.setsid()
    kind = "child"
pathlib.Path(f"{name}.{kind}.tmp").write_text(str(os.getpid()))
os.rename(f"{name}.{kind}.tmp", f"{name}.{kind}")
while True:
    signal.pause()
"""


def test_ctrl_c_reaches_all_that_runs_elsewhere(make_project, shared_cluster):
    project = make_project(
        dvc_yaml=f"""
        stages:
          one: {{cmd: exec {PYTHON} stays.py one}}
          two: {{cmd: exec {PYTHON} stays.py two}}
        """,
        files={"stays.py": STAYS},
    )
    process = project.start("repro", "--runner", shared_cluster.runner)
    names = [f"{name}.{kind}" for name in ("one", "two") for kind in ("pid", "child")]
    project.wait_for(*names)
    pids = [int(project.read(name)) for name in names]
    os.kill(process.pid, signal.SIGINT)
    output = finish(process)
    assert process.returncode == 252, output
    assert project.exists("one.got2")
    assert project.exists("two.got2")
    assert not [pid for pid in pids if is_alive(pid)]


def test_a_scheduler_that_cannot_be_reached(make_project, monkeypatch):
    from dvc_parallel.remote.dask import connection

    monkeypatch.setattr(connection, "AT_START", 1.0)
    project = make_project(dvc_yaml="stages: {one: {cmd: touch one.txt}}")
    with pytest.raises(DvcException, match="cannot reach the Dask scheduler") as exc:
        project.reproduce(jobs="auto", runner="dask://127.0.0.1:9")
    assert "runner 'dask://127.0.0.1:9'" in str(exc.value)
    assert not project.exists("one.txt")


@pytest.mark.parametrize(
    "settings, meta, error",
    [
        ({"runner": "dusk"}, "", "runner: expected 'local', 'dask'"),
        ({"load_average": 2.0}, "", "load_average: limits the load of this machine"),
        ({"single_item": True}, "", "have to run one at a time"),
        ({}, "workers: [gpu-*]", "no worker is named gpu-\\*; there are lab-a, lab-b"),
        ({}, "pools: {gpu: 2}", "takes 2 of 'gpu', more than any worker"),
        ({"runner": "dask:no_such.thing"}, "", "No module named 'no_such'"),
        ({"runner": "dask:os.getcwd"}, "", "expected a Dask cluster or client, got"),
    ],
)
def test_errors_before_anything_runs(
    make_project, shared_cluster, settings, meta, error
):
    project = make_project(
        dvc_yaml=f"""
        stages:
          one: {{cmd: touch one.txt}}
          two: {{cmd: touch two.txt, meta: {{parallel: {{{meta}}}}}}}
        """
    )
    targets = ["one"] if "single_item" in settings else None
    kwargs = {"runner": shared_cluster.runner, "targets": targets, **settings}
    with pytest.raises((DvcException, InvalidArgumentError), match=error):
        project.reproduce(jobs=2, **kwargs)
    assert not project.exists("one.txt")


def test_the_option_wins_over_the_environment_over_the_config(
    make_project, shared_cluster, monkeypatch
):
    project = make_project(dvc_yaml="stages: {one: {cmd: echo $PPID > one.txt}}")
    workers = [str(p.pid) for p in shared_cluster.processes.values()]

    def ran_elsewhere(*args):
        project.dvc("repro", "-f", *args)
        return project.read("one.txt").strip() in workers

    project.dvc("config", "--local", "core.parallel_runner", shared_cluster.runner)
    assert ran_elsewhere()
    monkeypatch.setenv("DVC_PARALLEL_RUNNER", "local")
    assert not ran_elsewhere()
    assert ran_elsewhere("--runner", shared_cluster.runner)


def test_a_function_that_returns_a_client(make_project, shared_cluster):
    project = make_project(dvc_yaml="stages: {one: {cmd: echo $PPID > one.txt}}")
    address = shared_cluster.runner.replace("dask", "tcp")
    project.write({"my_cluster.py": dedent(CLUSTER).format(address=address)})
    project.dvc("repro", "--runner", "dask:my_cluster.address")
    workers = [str(p.pid) for p in shared_cluster.processes.values()]
    assert project.read("one.txt").strip() in workers
