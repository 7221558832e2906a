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

from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.runner import Command, TimeIsUpError
from dvc_parallel.processes import orphans, supervisor, watchdog
from dvc_parallel.processes.supervisor import RunSupervisor
from tests import HANGS, is_alive, wait_until

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

STAYS = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"


def test_a_run_within_a_run_belongs_to_both():
    env = watchdog.marked({"A": "b"}, "outer")
    assert env == {"A": "b", "DVC_PARALLEL_RUN": "outer"}
    env = watchdog.marked(env, "inner")
    assert env == {"A": "b", "DVC_PARALLEL_RUN": "outer:inner"}


@pytest.fixture
def ids():
    # NOTE: others may run these tests at the same time
    return uuid(), uuid(), uuid()


def test_processes_of_a_run(start, ids):
    one, both, other = start(ids[0]), start(*ids[:2]), start(ids[2])
    assert set(watchdog.processes_of(ids[0])) == {one.pid, both.pid}
    assert set(watchdog.processes_of(ids[1])) == {both.pid}
    assert set(watchdog.processes_of(ids[2])) == {other.pid}
    assert not set(watchdog.processes_of(ids[0][:-1]))


def test_kills_all_of_a_run_and_nothing_else(start, ids):
    one, both, other = start(ids[0]), start(*ids[:2]), start(ids[2])
    watchdog.kill_all(ids[0])
    assert one.wait(HANGS) == both.wait(HANGS) == -9
    assert other.poll() is None


def test_looks_until_nothing_is_left_twice(monkeypatch):
    # NOTE: twice each time there is something: whether all that is there has stopped
    looks = iter([[11], [11], [], [12], [12], [], []])
    sent = []
    monkeypatch.setattr(watchdog, "processes_of", lambda *_args: next(looks))
    monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))
    monkeypatch.setattr(watchdog, "_runs", lambda _pid: False)
    assert watchdog.kill_all("one")
    stop, kill = signal.SIGSTOP, signal.SIGKILL
    assert sent == [(11, stop), (11, kill), (12, stop), (12, kill)]
    assert not list(looks)


def test_looks_again_when_what_is_there_has_stopped(monkeypatch):
    """As it may have started another one before."""
    looks = iter([[11], [11], [11, 12], [11, 12], [11, 12]])
    running = {11, 12}
    monkeypatch.setattr(os, "kill", lambda *_args: None)
    monkeypatch.setattr(watchdog, "_runs", lambda pid: pid in running)
    monkeypatch.setattr(watchdog.time, "sleep", lambda _seconds: running.clear())
    assert watchdog.freeze(lambda _known: next(looks)) == {11, 12}


def test_what_has_been_stopped_is_told_though_more_cannot_be_looked_for(monkeypatch):
    def look(known):
        if known:
            raise OSError(errno.EMFILE, "Too many open files")
        return {11}

    monkeypatch.setattr(os, "kill", lambda *_args: None)
    monkeypatch.setattr(watchdog, "_runs", lambda _pid: False)
    assert watchdog.freeze(look) == {11}


# Commands that leave something which makes a file when the command that it waits for,
# or it itself, is killed by anything but SIGKILL, or when another process has died.
REACT = {
    "next": "(sleep 60; touch finished) &",
    "or": "(sleep 60 || touch finished) &",
    "nested": "( (sleep 60; touch finished); touch finished) &",
    "loop": "(while sleep 0.002; do :; done; touch finished) &",
    "forks": "(while sleep 0.001 & sleep 0.002; do wait; done; touch finished) &",
    "trap": "(trap 'touch finished' EXIT TERM; sleep 60; touch finished) &",
    "ignores": "(trap '' TERM; sh -c 'trap - TERM; sleep 60'; touch finished) &",
    "session": "setsid sh -c 'sleep 60; touch finished' &",
    "no environment": "env -i PATH=$PATH sh -c 'sleep 60; touch finished' &",
    "pipe": "(sleep 60 | cat; touch finished) &",
    "watch": "sleep 60 & p=$!; (while kill -0 $p; do :; done; touch finished) &",
    "from apart": "setsid sh -c 'while kill -0 '$p'; do :; done; touch finished' &",
}
ALL_OF_THEM = f"exec >begun 2>&1\n{chr(10).join(REACT.values())}\nsleep 0.02\n"


@pytest.mark.parametrize("way", ["end", "kill", "next run", "time is up"])
def test_nothing_that_is_left_goes_on_to_its_next_command(tmp_path, way, monkeypatch):
    monkeypatch.setattr(supervisor, "LINGER", 0)
    for _ in range(20 if way == "end" else 3):
        runner = LocalRunner(RunSupervisor())
        command = ["sh", "-c", ALL_OF_THEM]
        if way == "time is up":
            # NOTE: who asks to be told with SIGTERM may do something then
            asked = [REACT[name] for name in ("trap", "ignores")]
            command[2] = ALL_OF_THEM.replace(asked[0], "").replace(asked[1], "")
            command[2] += "sleep 60; touch finished"
            with pytest.raises(TimeIsUpError):
                runner.run(Command(command, cwd=tmp_path, timeout=0.1), print)
        else:
            assert runner.run(Command(command, cwd=tmp_path), print) == 0
        run_id = runner._supervisor._run_id
        assert list(watchdog.processes_of(run_id)) or way == "time is up"
        if way == "kill":
            runner.signal(signal.SIGKILL)
        elif way == "next run":
            watchdog.kill_all(run_id)
        runner.close()
        assert not list(watchdog.processes_of(run_id))
        # NOTE: its time may be up before it has begun
        assert set(os.listdir(tmp_path)) <= {"begun"}


def test_what_is_left_is_named_with_its_stage(tmp_path, mocker):
    warning = mocker.patch.object(supervisor.logger, "warning")
    runner = LocalRunner(RunSupervisor())
    env = {**os.environ, "DVC_STAGE": "train"}
    command = ["sh", "-c", "exec >/dev/null 2>&1; sleep 60 & sleep 0.01 &"]
    runner.run(Command(command, env), print)
    runner.close()
    (args,) = [call.args for call in warning.call_args_list]
    assert re.fullmatch(r"stage 'train' left .*: \d+ \(sleep\); .*", args[0] % args[1:])


def test_what_is_to_go_on_does(tmp_path, mocker):
    """As the line says, and docs/guide.md."""
    warning = mocker.patch.object(supervisor.logger, "warning")
    runner = LocalRunner(RunSupervisor())
    keep = supervisor.LEFT.rpartition("`env")[2].strip("`")
    command = f"env {keep} -f sh -c 'echo $$ >pid.tmp; mv pid.tmp pid; exec sleep 60'"
    command += " >/dev/null 2>&1; until test -e pid; do sleep 0.01; done"
    assert runner.run(Command(["sh", "-c", command], cwd=tmp_path), print) == 0
    runner.close()
    process = psutil.Process(int((tmp_path / "pid").read_text()))
    assert is_alive(process)
    process.kill()
    assert not warning.called


def test_gives_up_on_what_cannot_be_killed(monkeypatch, start, ids):
    process = start(ids[0])
    monkeypatch.setattr(os, "kill", lambda *_args: None)
    watchdog.kill_all(ids[0], seconds=0.1)
    assert process.poll() is None


def test_kills_when_the_time_is_up(start, ids):
    one, other = start(ids[0]), start(ids[1])
    guard = watchdog.start(ids[0])
    guard.kill_at(time.monotonic() + 0.2)
    assert one.wait(HANGS) == -9
    # NOTE: also what is started by whoever has not noticed
    assert start(ids[0]).wait(HANGS) == -9
    assert other.poll() is None
    guard.dismiss()


def test_a_later_time_counts_from_then_on(start, ids):
    one, two = start(ids[0]), start(ids[1])
    guard, other = watchdog.start(ids[0]), watchdog.start(ids[1])
    now = time.monotonic()
    guard.kill_at(now + 0.5)
    guard.kill_at(now + 300)
    other.kill_at(now + 1)
    assert two.wait(HANGS) == -9
    assert one.poll() is None
    guard.dismiss()
    other.dismiss()


def test_the_time_is_up_though_who_has_started_it_is_stopped(ids):
    code = f"""
        import sys, time
        from dvc_parallel.engine.local_runner import LocalRunner
        from dvc_parallel.engine.runner import Command
        from dvc_parallel.processes.supervisor import RunSupervisor
        supervisor = RunSupervisor(lease_end=time.monotonic() + 3600)
        def output(_, data):
            # NOTE: once it runs, the lease is over soon
            supervisor._watchdog.kill_at(time.monotonic() + 0.2)
            print(data)
        command = Command([sys.executable, "-c", {STAYS!r}])
        LocalRunner(supervisor).run(command, output)
    """
    holder = subprocess.Popen(
        [sys.executable, "-uc", dedent(code)], stdout=subprocess.PIPE
    )
    pid = int(re.search(rb"\d+", holder.stdout.readline())[0])
    holder.send_signal(signal.SIGSTOP)
    # NOTE: nobody waits for it
    wait_until(lambda: not is_alive(pid))
    holder.kill()
    holder.communicate()


def test_does_nothing_when_dismissed(start, ids):
    process = start(ids[0])
    guard = watchdog.start(ids[0])
    children = psutil.Process().children()
    guard.dismiss()
    assert process.poll() is None
    assert len(psutil.Process().children()) == len(children) - 1


def test_none_where_there_is_no_python(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    assert watchdog.start("one") is None


def test_a_run_goes_on_without_one(monkeypatch, mocker):
    warning = mocker.patch.object(supervisor.logger, "warning")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    runner = LocalRunner(RunSupervisor())
    for _ in range(2):
        assert runner.run(Command(["true"]), print) == 0
    runner.close()
    (args,) = [call.args for call in warning.call_args_list]
    assert "/no/such/python" in args[0] % args[1:]


def test_kills_what_cannot_be_seen_from_here(monkeypatch, tmp_path):
    def fail(*_args):
        raise OSError(errno.EMFILE, "Too many open files")

    runner = LocalRunner(RunSupervisor())
    started = tmp_path / "pid"
    command = f"setsid sh -c 'echo $$ > {started}.tmp; mv {started}.tmp {started};"
    command += f" exec sleep 300' & until test -e {started}; do sleep 0.05; done"
    assert runner.run(Command(["sh", "-c", command]), print) == 0
    process = psutil.Process(int(started.read_text()))
    monkeypatch.setattr(watchdog, "processes_of", fail)
    monkeypatch.setattr(supervisor, "GRACE", HANGS)
    runner.close()
    assert not is_alive(process)


@pytest.mark.parametrize("can_look", [True, False])
def test_what_does_not_end_is_left_to_the_next_run(
    tmp_path, monkeypatch, mocker, can_look
):
    """And to the watchdog, which goes on."""
    warning = mocker.patch.object(supervisor.logger, "warning")
    runner = LocalRunner(RunSupervisor(str(tmp_path)))
    command = ["sh", "-c", "exec >/dev/null 2>&1; sleep 300 &"]
    assert runner.run(Command(command), print) == 0
    run_id = runner._supervisor._run_id
    # NOTE: it has no environment for an instant, when it has just been started
    wait_until(lambda: any(watchdog.processes_of(run_id)))
    (pid,) = watchdog.processes_of(run_id)
    guard = psutil.Process(runner._supervisor._watchdog._process.pid)
    guard.suspend()
    monkeypatch.setattr(supervisor, "LINGER", 0)
    monkeypatch.setattr(supervisor, "GRACE", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(watchdog, "send", lambda *_args: False)
        if not can_look:
            patch.setattr(watchdog, "processes_of", mocker.Mock(side_effect=OSError))
        runner.close()
    (said,) = [
        call.args for call in warning.call_args_list if "have not ended" in call[0][0]
    ]
    assert str(pid) in said[0] % said[1:] or not can_look
    assert len(os.listdir(runner._supervisor._folder.path)) == 1

    guard.resume()
    guard.kill()
    orphans.clear(runner._supervisor._folder, print)
    assert not is_alive(pid)
    assert os.listdir(runner._supervisor._folder.path) == []
