"""Workers, schedulers and DVC itself that die, are stopped, or do not reach each other.

These take minutes: ``DVC_PARALLEL_DASK=1`` runs them.
"""

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from textwrap import dedent

import dask
import psutil
import pytest
from dvc.exceptions import ReproductionError

from tests import HANGS, is_alive
from tests.support.dask_cluster import (
    CLUSTER,
    can_unshare,
    in_another_workspace,
    phases,
    processes_in,
    worker_of,
)
from tests.support.pipeline import write_pipeline
from tests.support.project import Project, assert_same
from tests.support.project import finish as finish_process

if not os.environ.get("DVC_PARALLEL_DASK"):
    pytest.skip("takes minutes; set DVC_PARALLEL_DASK=1", allow_module_level=True)

ROUNDS = int(os.environ.get("DVC_PARALLEL_DASK_ROUNDS", "10"))

# Stages that wait for a file, and write little by little.
WAITING = """
    stages:
      one:
        cmd: >-
          echo $$ > one.new; mv one.new one.pid;
          echo begun >> one.txt;
          until test -e go; do sleep 0.05; done;
          echo ended >> one.txt
        outs: [one.txt]
      two: {cmd: cp one.txt two.txt, deps: [one.txt], outs: [two.txt]}
"""
RIGHT = "begun\nended\n"


@pytest.fixture(autouse=True)
def _short_leases(monkeypatch):
    # NOTE: for runs in processes of their own, and for those in this one
    monkeypatch.setenv("DASK_DVC_PARALLEL__LEASE", "4s")
    with dask.config.set({"dvc-parallel.lease": "4s"}):
        yield


class Run(threading.Thread):
    """A run in this process."""

    def __init__(self, project, **kwargs):
        super().__init__()
        self.project = project
        self.kwargs = kwargs
        self.result = None

    def run(self):
        try:
            self.result = self.project.reproduce(**self.kwargs)
        except Exception as exc:  # noqa: BLE001
            self.result = exc


@pytest.fixture
def start(make_project):
    """Start a run, and return it once its first command runs."""

    def start(cluster, dvc_yaml=WAITING):
        project = make_project(dvc_yaml=dvc_yaml)
        run = Run(project, jobs=2, runner=cluster.runner)
        run.start()
        project.wait_for("one.pid")
        return run

    return start


def wait_for_attempt(project, number):
    """Wait until a stage is tried again, and return the worker."""
    end = time.monotonic() + HANGS
    while True:
        commands = [e for phase, e in phases(project)["one"] if phase == "command"]
        if len(commands) == number:
            project.wait_for("one.pid")
            return commands[-1]["worker"]
        assert time.monotonic() < end, phases(project)
        time.sleep(0.1)


def finish(run):
    run.join(HANGS)
    assert not run.is_alive()
    return run.result


def the_worker(run):
    return wait_for_attempt(run.project, 1)


@pytest.mark.parametrize("nanny", [False, True])
def test_a_killed_worker(make_cluster, start, nanny):
    cluster = make_cluster("a", "b", nanny=nanny)
    run = start(cluster)
    worker = the_worker(run)
    first = psutil.Process(int(run.project.read("one.pid")))
    (run.project.path / "one.pid").unlink()
    if nanny:
        nanny_process = psutil.Process(cluster.processes[worker].pid)
        workers = [p for p in nanny_process.children() if "spawn" in str(p.cmdline())]
        workers[0].kill()
    else:
        cluster.kill(worker)
    wait_for_attempt(run.project, 2)
    assert not is_alive(first)
    run.project.write({"go": ""})
    assert finish(run) == ["one", "two"]
    assert run.project.read("one.txt") == run.project.read("two.txt") == RIGHT
    assert worker_of(run.project, "two") in "ab"


def test_a_stage_that_loses_all_its_workers(make_cluster, start):
    cluster = make_cluster("a")
    run = start(cluster)
    for number in range(1, 5):
        worker = wait_for_attempt(run.project, number)
        (run.project.path / "one.pid").unlink()
        cluster.kill(worker)
        if number < 4:
            cluster.start_worker(f"a{number}")
    error = finish(run)
    assert isinstance(error, ReproductionError)
    assert "worker 'a3' was lost" in str(error.__cause__)
    assert not processes_in(run.project.path)


def test_a_worker_that_is_stopped_and_goes_on(make_cluster, start):
    cluster = make_cluster("a", "b")
    run = start(cluster)
    worker = the_worker(run)
    first = psutil.Process(int(run.project.read("one.pid")))
    (run.project.path / "one.pid").unlink()
    cluster.signal(worker, signal.SIGSTOP)
    # NOTE: its command is no child of the scheduler's, and goes on for a while
    other = wait_for_attempt(run.project, 2)
    assert other != worker
    assert not is_alive(first)
    cluster.signal(worker, signal.SIGCONT)
    run.project.write({"go": ""})
    assert finish(run) == ["one", "two"]
    assert run.project.read("one.txt") == RIGHT


def test_a_worker_that_is_stopped_for_a_moment(make_cluster, start):
    cluster = make_cluster("a", "b")
    run = start(cluster)
    worker = the_worker(run)
    cluster.signal(worker, signal.SIGSTOP)
    time.sleep(1.0)
    cluster.signal(worker, signal.SIGCONT)
    run.project.write({"go": ""})
    assert finish(run) == ["one", "two"]
    phase_names = [phase for phase, _ in phases(run.project)["one"]]
    assert "retry" not in phase_names


class Network:
    """A network of its own for a worker, with a wire to here."""

    def __init__(self):
        self.name = f"dvc{os.getpid()}"
        self.host, self.far = (f"10.213.{os.getpid() % 250}.{n}" for n in (1, 2))
        inside = ("-n", self.name)
        self.ip("netns", "add", self.name)
        self.ip("link", "add", self.name, "type", "veth", "peer", "name", "far")
        self.ip("link", "set", "far", "netns", self.name)
        self.ip("addr", "add", f"{self.host}/30", "dev", self.name)
        self.ip(*inside, "addr", "add", f"{self.far}/30", "dev", "far")
        self.ip("link", "set", self.name, "up")
        self.ip(*inside, "link", "set", "far", "up")
        self.ip(*inside, "link", "set", "lo", "up")

    @staticmethod
    def ip(*args):
        subprocess.run(["ip", *args], check=True, capture_output=True)

    def cut(self):
        self.ip("link", "set", self.name, "down")

    def heal(self):
        self.ip("link", "set", self.name, "up")

    def close(self):
        for args in (("link", "del", self.name), ("netns", "del", self.name)):
            subprocess.run(["ip", *args], check=False, capture_output=True)


@pytest.fixture
def network():
    network = None
    try:
        network = Network()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not make network namespaces here")
    yield network
    network.close()


@pytest.fixture
def far_and_near(network, make_cluster, start):
    """A run whose command is on a worker that can be cut off, and another worker."""
    cluster = make_cluster(host=network.host)
    cluster.start_worker("far", wrapper=["ip", "netns", "exec", network.name])
    cluster.wait_for_workers(1)
    run = start(cluster)
    assert the_worker(run) == "far"
    cluster.start_worker("near")
    cluster.wait_for_workers(2)
    return run


def test_a_worker_that_is_cut_off(network, far_and_near):
    run = far_and_near
    first = psutil.Process(int(run.project.read("one.pid")))
    (run.project.path / "one.pid").unlink()
    network.cut()
    assert wait_for_attempt(run.project, 2) == "near"
    assert not is_alive(first)
    network.heal()
    run.project.write({"go": ""})
    assert finish(run) == ["one", "two"]
    assert run.project.read("one.txt") == RIGHT


def test_a_worker_that_is_cut_off_for_a_moment(network, far_and_near):
    run = far_and_near
    network.cut()
    time.sleep(1.0)
    network.heal()
    run.project.write({"go": ""})
    assert finish(run) == ["one", "two"]
    assert "retry" not in [phase for phase, _ in phases(run.project)["one"]]


def test_dvc_is_killed(make_cluster, make_project):
    cluster = make_cluster("a", "b")
    project = make_project(dvc_yaml=WAITING)
    dvc = project.start("repro", "--runner", cluster.runner)
    project.wait_for("one.pid")
    command = psutil.Process(int(project.read("one.pid")))
    dvc.send_signal(signal.SIGKILL)
    dvc.communicate()
    psutil.wait_procs([command], timeout=30)  # less than a lease
    assert not processes_in(project.path)
    # NOTE: the workers are there for the next run
    project.write({"go": ""})
    assert project.reproduce(jobs=2, runner=cluster.runner) == ["one", "two"]
    assert project.read("one.txt") == RIGHT


def test_the_scheduler_is_started_anew(make_cluster, start):
    cluster = make_cluster("a", "b", nanny=True)
    run = start(cluster)
    the_worker(run)
    (run.project.path / "one.pid").unlink()
    cluster.kill("scheduler")
    cluster.start_scheduler()
    # NOTE: workers end with their scheduler, and so do those who keep them
    for name in ("c", "d"):
        cluster.start_worker(name)
    wait_for_attempt(run.project, 2)
    run.project.write({"go": ""})
    assert finish(run) == ["one", "two"]
    assert run.project.read("one.txt") == RIGHT


def test_dvc_sleeps(make_cluster, make_project, monkeypatch):
    """For longer than a lease."""
    monkeypatch.setenv("DASK_DVC_PARALLEL__LEASE", "2s")
    cluster = make_cluster("a", "b")
    project = make_project(dvc_yaml=WAITING)
    run = project.start("repro", "-j", 2, "--runner", cluster.runner)
    project.wait_for("one.pid")
    command = psutil.Process(int(project.read("one.pid")))
    run.send_signal(signal.SIGSTOP)
    with pytest.raises(psutil.TimeoutExpired):
        command.wait(6.0)
    run.send_signal(signal.SIGCONT)
    project.write({"go": ""})
    output = finish_process(run)
    assert run.returncode == 0, output
    assert "retry" not in [phase for phase, _ in phases(project)["one"]]
    assert project.read("one.txt") == project.read("two.txt") == RIGHT


def test_dvc_is_killed_while_it_sleeps(make_cluster, make_project, monkeypatch):
    monkeypatch.setenv("DASK_DVC_PARALLEL__LEASE", "2s")
    cluster = make_cluster("a", "b")
    project = make_project(dvc_yaml=WAITING)
    run = project.start("repro", "-j", 2, "--runner", cluster.runner)
    project.wait_for("one.pid")
    command = psutil.Process(int(project.read("one.pid")))
    run.send_signal(signal.SIGSTOP)
    with pytest.raises(psutil.TimeoutExpired):
        command.wait(6.0)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    psutil.wait_procs([command], timeout=30)
    assert not processes_in(project.path)


@pytest.mark.parametrize("comes_back", [False, True], ids=["never", "without workers"])
def test_the_scheduler_is_killed(make_cluster, make_project, monkeypatch, comes_back):
    """A run says what it waits for, and gives up."""
    monkeypatch.setenv("DASK_DVC_PARALLEL__PATIENCE", "3s")
    cluster = make_cluster("a")
    project = make_project(dvc_yaml=WAITING)
    run = project.start("repro", "-j", 2, "--runner", cluster.runner)
    project.wait_for("one.pid")
    # NOTE: a scheduler may take longer than that to start
    run.send_signal(signal.SIGSTOP)
    cluster.kill("scheduler")
    if comes_back:
        cluster.start_scheduler()
    run.send_signal(signal.SIGCONT)
    address = cluster.address
    lines = []
    for line in run.stdout:
        lines.append(line)
        if "Waiting for the scheduler" in line:
            assert f"at {address} to come back, for at most 3 s" in line
            break
    if comes_back:
        for line in run.stdout:
            lines.append(line)
            if "Waiting for a worker" in line:
                break
    output = finish_process(run)
    assert run.returncode == 255, "".join(lines) + output
    if comes_back:
        assert f"at {address} has had no worker for 3 s; start workers" in output
    else:
        assert f"cannot reach the Dask scheduler at {address}" in output
        assert "start it again at this address" in output
    assert not processes_in(project.path)


def test_ctrl_c_while_the_scheduler_is_away(make_cluster, make_project):
    cluster = make_cluster("a")
    project = make_project(dvc_yaml=WAITING)
    run = project.start("repro", "-j", 2, "--runner", cluster.runner)
    project.wait_for("one.pid")
    cluster.kill("scheduler")
    for line in run.stdout:
        if "Waiting for the scheduler" in line:
            break
    run.send_signal(signal.SIGINT)
    output = finish_process(run)
    assert run.returncode == 252, output
    assert not processes_in(project.path)


@pytest.fixture
def start_without_workers(make_cluster, make_project):
    """Start a run, and return it and its cluster once it waits for a worker."""

    def start(dvc_yaml, files):
        cluster = make_cluster()
        project = make_project(dvc_yaml=dvc_yaml, files=files)
        code = dedent(CLUSTER).format(address=cluster.runner.replace("dask", "tcp"))
        project.write({"my_cluster.py": code})
        options = ("-j", 2, "--no-run-cache", "--runner", "dask:my_cluster.address")
        run = project.start("repro", *options)
        for line in run.stdout:
            if "Waiting for the first worker" in line:
                return project, run, cluster
        raise AssertionError(f"ended with {run.wait()}")

    return start


def test_others_use_the_repo_before_there_is_a_worker(start_without_workers):
    project, run, cluster = start_without_workers(
        """
        stages:
          one: {cmd: echo one >> ran; echo 1 > one, deps: [in], outs: [one]}
          two: {cmd: echo two >> ran; cat one > two, deps: [one], outs: [two]}
        """,
        {"in": "1\n"},
    )
    project.dvc("repro", "one")
    cluster.start_worker("a")
    output = finish_process(run)
    assert run.returncode == 0, output
    assert project.read("ran") == "one\ntwo\n"


def test_ctrl_c_before_there_is_a_worker(start_without_workers):
    project, run, _ = start_without_workers("stages: {one: {cmd: touch one}}", {})
    with project.repo() as repo, repo.lock:  # by then, another process has it
        run.send_signal(signal.SIGINT)
        output = finish_process(run)
    assert run.returncode == 252, output
    assert "Traceback" not in output
    assert not project.exists("one")


def test_a_worker_that_joins_later(make_cluster, start):
    cluster = make_cluster("a", threads=1)
    run = start(
        cluster,
        """
        stages:
          one: {cmd: "echo $$ > one.pid; until test -e go; do sleep 0.05; done"}
          two: {cmd: touch go}
        """,
    )
    cluster.start_worker("b")
    assert sorted(finish(run)) == ["one", "two"]
    assert worker_of(run.project, "two") == "b"


def test_a_timeout_does_not_count_the_wait_for_a_worker(make_cluster, make_project):
    cluster = make_cluster("a", threads=1)
    project = make_project(
        dvc_yaml="""
        stages:
          one:
            cmd: [touch one.1, touch one.2, touch one.3]
            meta: {parallel: {timeout: 2s, priority: 1}}
          two: {cmd: sleep 3}
        """
    )
    result = project.reproduce(jobs=2, runner=cluster.runner)
    assert sorted(result) == ["one", "two"]


def test_a_worker_that_does_not_see_the_workspace(make_cluster, make_project, tmp_path):
    if not can_unshare(tmp_path):
        pytest.skip("may not mount anything here")
    project = make_project(dvc_yaml="stages: {one: {cmd: touch one.txt}}")
    cluster = make_cluster("a")
    cluster.start_worker("b", wrapper=in_another_workspace(project.path))
    cluster.wait_for_workers(2)
    result = project.dvc("repro", "--runner", cluster.runner, check=False)
    assert result.returncode == 255
    assert "worker 'b' does not see the workspace" in result.stderr
    assert "worker 'a'" not in result.stderr
    assert not project.exists("one.txt")


def test_one_that_joins_later_and_does_not_see_it(make_cluster, start, tmp_path):
    if not can_unshare(tmp_path):
        pytest.skip("may not mount anything here")
    cluster = make_cluster("a", threads=1)
    run = start(
        cluster,
        """
        stages:
          one: {cmd: "echo $$ > one.pid; until test -e go; do sleep 0.05; done"}
          two: {cmd: touch two.txt, outs: [two.txt]}
        """,
    )
    cluster.start_worker("b", wrapper=in_another_workspace(run.project.path))
    cluster.wait_for_workers(2)
    run.project.write({"go": ""})
    assert sorted(finish(run)) == ["one", "two"]
    assert worker_of(run.project, "two") == "a"


# NOTE: Dask loads it twice
SKEWED = """
import importlib.metadata
if importlib.metadata.version.__name__ == "version":
    version = importlib.metadata.version
    def skewed(name):
        return "0.0.1" if name == "{name}" else version(name)
    importlib.metadata.version = skewed
"""


@pytest.mark.parametrize("name", ["dvc", "dvc-parallel"])
def test_another_version(make_cluster, make_project, tmp_path, name):
    preload = tmp_path / "skewed.py"
    preload.write_text(SKEWED.format(name=name))
    project = make_project(dvc_yaml="stages: {one: {cmd: touch one.txt}}")
    cluster = make_cluster("a")
    cluster.start_worker("b", "--preload", str(preload))
    cluster.wait_for_workers(2)
    result = project.dvc("repro", "--runner", cluster.runner, check=False)
    assert result.returncode == 255
    assert f"worker 'b' has {name} 0.0.1, but this machine has" in result.stderr
    assert not project.exists("one.txt")


def test_a_gigabyte_of_output_fills_no_memory(make_cluster, make_project, monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_LOG_SIZE", "unlimited")
    cluster = make_cluster("a")
    count = 10**9 // 100
    project = make_project(
        dvc_yaml=f"""
        stages:
          long: {{cmd: "yes {"x" * 98}y | head -n {count}"}}
          other: {{cmd: "true"}}
        """
    )
    dvc = project.start("repro", "--runner", cluster.runner, "--output", "none")
    watched = {"dvc": psutil.Process(dvc.pid)}
    for name, process in cluster.processes.items():
        watched[name] = psutil.Process(process.pid)
    most = dict.fromkeys(watched, 0)
    while dvc.poll() is None:
        for name, process in watched.items():
            try:
                most[name] = max(most[name], process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.2)
    assert dvc.returncode == 0, dvc.stdout.read()
    (log,) = project.path.glob(".dvc/tmp/parallel/runs/*/logs/*long.log")
    with open(log, "rb") as fobj:
        first = len(fobj.readline())
    assert log.stat().st_size == first + count * 100
    assert max(most.values()) < 400 * 2**20, most


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_workers_killed_at_random(make_cluster, tmp_path, seed):
    rng = random.Random(seed)
    serial, parallel = Project(tmp_path / "s"), Project(tmp_path / "p")
    write_pipeline(serial, rng, rng.randint(10, 25))
    shutil.copytree(serial.path, parallel.path, dirs_exist_ok=True)
    serial.reproduce()
    cluster = make_cluster("w0", "w1")
    run = Run(parallel, jobs=4, runner=cluster.runner)
    run.start()
    for number in range(2, 4):
        run.join(rng.uniform(1, 4))
        cluster.start_worker(f"w{number}")
        cluster.kill(f"w{number - 2}")
    result = finish(run)
    assert isinstance(result, list), result
    assert_same(serial, parallel)
