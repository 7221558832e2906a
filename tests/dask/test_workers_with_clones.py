"""Runs whose commands go to workers that do not see the workspace."""

import json
import os
import signal
import sys
from functools import partial
from textwrap import dedent

import psutil
import pytest
from dvc.exceptions import DvcException
from hypothesis import given
from hypothesis import strategies as st

from dvc_parallel.remote.clones.pool import locked
from tests import is_alive
from tests.support.clone_runs import compare_with_serial, random_runs
from tests.support.dask_cluster import (
    MIXED,
    can_unshare,
    in_another_workspace,
    worker_of,
)
from tests.support.project import Project, assert_same, finish

REMOTE = "[core]\n    remote = store\n['remote \"store\"']\n    url = {url}\n"

EXAMPLES = int(os.environ.get("DVC_PARALLEL_DASK_EXAMPLES", "3"))
thorough = pytest.mark.skipif(
    not os.environ.get("DVC_PARALLEL_DASK"),
    reason="takes long; set DVC_PARALLEL_DASK=1",
)


@pytest.fixture
def far_cluster(tmp_path, make_cluster):
    """Two workers for which the folder of all projects is empty."""
    if not can_unshare(tmp_path):
        pytest.skip("may not mount anything here")
    (tmp_path / "projects").mkdir()
    cluster = make_cluster()
    for name in ("far-a", "far-b"):
        cluster.start_worker(name, wrapper=in_another_workspace(tmp_path / "projects"))
    cluster.wait_for_workers(2)
    return cluster


@pytest.fixture
def twins(tmp_path, make_project):
    """Make a project twice, in the folder of all projects, with a remote."""

    def make(dvc_yaml, files):
        config = {".dvc/config": REMOTE.format(url=tmp_path / "remote")}
        names = (f"projects/{name}" for name in ("serial", "parallel"))
        return [make_project(name, dvc_yaml, {**config, **files}) for name in names]

    return make


def test_same_as_serial(twins, far_cluster):
    serial, parallel = twins(MIXED, {"in.txt": "in\n", "sub/readme": ""})
    for content in ("in\n", "other\n"):
        for project in (serial, parallel):
            project.write({"in.txt": content})
        expected = serial.reproduce()
        assert parallel.reproduce(jobs=3, runner=far_cluster.runner) == expected
        assert_same(serial, parallel)


@thorough
@random_runs(EXAMPLES)
@given(data=st.data(), jobs=st.integers(2, 5))
def test_random_pipelines(tmp_path, far_cluster, data, jobs):
    def with_remote(*projects):
        for project in projects:
            project.write({".dvc/config": REMOTE.format(url=tmp_path / "remote")})

    run = partial(Project.reproduce, jobs=jobs, runner=far_cluster.runner)
    compare_with_serial(tmp_path / "projects", with_remote, data, run)


def test_what_is_shown(twins, far_cluster):
    _, project = twins(
        """
        stages:
          say:
            cmd: echo here; pwd
            meta: {parallel: {workers: [far-b]}}
        """,
        {},
    )
    done = project.dvc("repro", "-j", 2, "--runner", far_cluster.runner)
    assert "they use clones, and data goes through" in done.stdout
    assert "say | > echo here; pwd" in done.stdout
    assert "say | here" in done.stdout
    assert f"say | {project.path}" not in done.stdout
    assert worker_of(project, "say") == "far-b"
    logs = project.own("logs", "say", "--json")
    assert json.loads(logs.stdout)["used"]["cpu"] > 0


def test_nowhere_to_put_data(make_project, far_cluster):
    project = make_project("projects/p", "stages: {a: {cmd: echo > a, outs: [a]}}")
    with pytest.raises(DvcException, match="dvc remote add -d <name> <url>"):
        project.reproduce(jobs=2, runner=far_cluster.runner)
    assert not project.exists("dvc.lock")


def test_some_see_the_workspace_and_some_do_not(twins, far_cluster):
    _, project = twins("stages: {a: {cmd: echo > a, outs: [a]}}", {})
    far_cluster.start_worker("near")
    far_cluster.wait_for_workers(3)
    message = r"(worker 'far-[ab]' does not see(.|\n)*){2}"
    with pytest.raises(DvcException, match=message):
        project.reproduce(jobs=2, runner=far_cluster.runner)


# Waits for a signal, if it is the first to run.
STAYS = """
    import os, pathlib, sys, time
    running = pathlib.Path(sys.argv[1])
    if not running.exists():
        running.with_suffix(".tmp").write_text(str(os.getpid()))
        running.with_suffix(".tmp").rename(running)
        time.sleep(300)
    pathlib.Path("a").write_text("again")
"""


@pytest.fixture
def start(twins, far_cluster, tmp_path):
    """Start a run whose command stays, and wait for that."""
    running = tmp_path / "running"
    cmd = f"{sys.executable} stays.py {running}"
    dvc_yaml = f"stages: {{a: {{cmd: '{cmd}', deps: [stays.py], outs: [a]}}}}"
    _, project = twins(dvc_yaml, {"stays.py": dedent(STAYS)})
    process = project.start("repro", "-j", 2, "--runner", far_cluster.runner)
    project.wait_for(running)
    return project, process, psutil.Process(int(running.read_text()))


@thorough
def test_a_worker_that_dies(start, far_cluster):
    project, process, command = start
    ancestors = {parent.pid for parent in command.parents()}
    (worker,) = (
        name for name, it in far_cluster.processes.items() if it.pid in ancestors
    )
    far_cluster.kill(worker)
    output = finish(process)
    assert process.returncode == 0, output
    assert project.read("a") == "again"
    assert not is_alive(command)


def test_interrupt(start):
    project, process, command = start
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert process.returncode == 252, output
    assert not is_alive(command)
    assert not project.exists("dvc.lock")


@thorough
def test_interrupt_while_a_worker_gets_data(twins, far_cluster):
    _, project = twins(
        """
        stages:
          a:
            cmd: cp data a
            deps: [data]
            outs: [a]
            meta: {parallel: {workers: [far-b]}}
        """,
        {"data": "1\n"},
    )
    with project.repo() as repo:
        repo.add("data")
    command = ("repro", "-j", 2, "--runner", far_cluster.runner)
    folder = far_cluster.folder / "far-b" / f"dvc-parallel-{os.getuid()}"
    with locked(str(folder / "cache.lock")):  # the worker waits for it
        process = project.start(*command)
        project.wait_for(folder / "without-commits" / "0" / ".dvc" / "config.local")
        process.send_signal(signal.SIGINT)
        output = finish(process)
        assert process.returncode == 252, output
    assert not project.exists("a")
    project.dvc(*command)
    assert project.read("a") == "1\n"
