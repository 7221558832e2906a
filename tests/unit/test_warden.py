import os
import subprocess
import sys

import psutil
import pytest
from shortuuid import uuid

from dvc_parallel.runners import warden

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

WAIT = [sys.executable, "-c", "print(1, flush=True); input()"]


@pytest.fixture
def start():
    processes = []

    def start(*run_ids):
        env = dict(os.environ)
        for run_id in run_ids:
            env = warden.marked(env, run_id)
        process = subprocess.Popen(WAIT, stdin=-1, stdout=-1, env=env)
        processes.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_run_within_a_run_belongs_to_both():
    env = warden.marked({"A": "b"}, "outer")
    assert env == {"A": "b", "DVC_PARALLEL_RUN": "outer"}
    env = warden.marked(env, "inner")
    assert env == {"A": "b", "DVC_PARALLEL_RUN": "outer:inner"}


@pytest.fixture
def ids():
    # NOTE: others may run these tests at the same time
    return uuid(), uuid(), uuid()


def test_processes_of_a_run(start, ids):
    one, both, other = start(ids[0]), start(*ids[:2]), start(ids[2])
    assert set(warden.processes_of(ids[0])) == {one.pid, both.pid}
    assert set(warden.processes_of(ids[1])) == {both.pid}
    assert set(warden.processes_of(ids[2])) == {other.pid}
    assert not set(warden.processes_of(ids[0][:-1]))


def test_kills_all_of_a_run_and_nothing_else(start, ids):
    one, both, other = start(ids[0]), start(*ids[:2]), start(ids[2])
    warden.kill_all(ids[0])
    assert one.wait(60) == both.wait(60) == -9
    assert other.poll() is None


def test_looks_until_nothing_is_left_twice(monkeypatch):
    looks = iter([[11], [], [12], [], []])
    killed = []
    monkeypatch.setattr(warden, "processes_of", lambda _run_id: next(looks))
    monkeypatch.setattr(os, "kill", lambda pid, _signum: killed.append(pid))
    warden.kill_all("one")
    assert killed == [11, 12]
    assert not list(looks)


def test_gives_up_on_what_cannot_be_killed(monkeypatch, start, ids):
    process = start(ids[0])
    monkeypatch.setattr(os, "kill", lambda *_args: None)
    warden.kill_all(ids[0], seconds=0.1)
    assert process.poll() is None


def test_does_nothing_when_dismissed(start, ids):
    process = start(ids[0])
    guard = warden.start(ids[0])
    children = psutil.Process().children()
    guard.dismiss()
    assert process.poll() is None
    assert len(psutil.Process().children()) == len(children) - 1


@pytest.mark.parametrize("executable", ["", "/no/such/python"])
def test_none_where_python_cannot_be_started(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    assert warden.start("one") is None
