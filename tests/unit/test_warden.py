import errno
import os
import re
import signal
import subprocess
import sys
import time
from textwrap import dedent

import psutil
import pytest
from shortuuid import uuid

from dvc_parallel.runners import warded, warden
from dvc_parallel.runners.stopping import is_alive
from dvc_parallel.runners.warded import WardedRunner

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

STAYS = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
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


def test_kills_when_the_time_is_up(start, ids):
    one, other = start(ids[0]), start(ids[1])
    guard = warden.start(ids[0])
    guard.kill_at(time.monotonic() + 0.2)
    assert one.wait(60) == -9
    # NOTE: also what is started by whoever has not noticed
    assert start(ids[0]).wait(60) == -9
    assert other.poll() is None
    guard.dismiss()


def test_a_later_time_counts_from_then_on(start, ids):
    one, two = start(ids[0]), start(ids[1])
    guard, other = warden.start(ids[0]), warden.start(ids[1])
    now = time.monotonic()
    guard.kill_at(now + 0.5)
    guard.kill_at(now + 300)
    other.kill_at(now + 1)
    assert two.wait(60) == -9
    assert one.poll() is None
    guard.dismiss()
    other.dismiss()


def test_the_time_is_up_though_who_has_started_it_is_stopped(ids):
    code = f"""
        import sys, time
        from dvc_parallel.runners.leased import LeasedRunner
        runner = LeasedRunner(time.monotonic() + 2)
        runner.run([sys.executable, "-c", {STAYS!r}], lambda _, data: print(data))
    """
    holder = subprocess.Popen(
        [sys.executable, "-uc", dedent(code)], stdout=subprocess.PIPE
    )
    pid = int(re.search(rb"\d+", holder.stdout.readline())[0])
    holder.send_signal(signal.SIGSTOP)
    # NOTE: nobody waits for it
    end = time.monotonic() + 60
    while is_alive(psutil.Process(pid)):
        assert time.monotonic() < end
        time.sleep(0.05)
    holder.kill()
    holder.communicate()


def test_does_nothing_when_dismissed(start, ids):
    process = start(ids[0])
    guard = warden.start(ids[0])
    children = psutil.Process().children()
    guard.dismiss()
    assert process.poll() is None
    assert len(psutil.Process().children()) == len(children) - 1


def test_none_where_there_is_no_python(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    assert warden.start("one") is None


def test_a_run_goes_on_without_one(monkeypatch, mocker):
    warning = mocker.patch.object(warded.logger, "warning")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    runner = WardedRunner()
    for _ in range(2):
        assert runner.run(["true"], print) == 0
    runner.close()
    (args,) = [call.args for call in warning.call_args_list]
    assert "/no/such/python" in args[0] % args[1:]


def test_kills_what_cannot_be_seen_from_here(monkeypatch, tmp_path):
    def fail(_run_id):
        raise OSError(errno.EMFILE, "Too many open files")

    runner = WardedRunner()
    started = tmp_path / "pid"
    command = f"setsid sh -c 'echo $$ > {started}.tmp; mv {started}.tmp {started};"
    command += f" exec sleep 300' & until test -e {started}; do sleep 0.05; done"
    assert runner.run(["sh", "-c", command], print) == 0
    process = psutil.Process(int(started.read_text()))
    monkeypatch.setattr(warden, "processes_of", fail)
    runner.close()
    assert not is_alive(process)
