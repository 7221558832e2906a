import errno
import os
import shutil
import subprocess
import tempfile
import threading
from functools import partial
from unittest.mock import Mock

import pytest
from dvc.exceptions import DvcException

from dvc_parallel.scheduling.admission import PoolAdmission
from tests.support.jobserver_tokens import free

pytest.importorskip("fcntl")

from dvc_parallel.engine.plan import (
    Begun,
    CommandEnded,
    Failed,
    Finished,
    LookAgain,
    Plan,
    Start,
)
from dvc_parallel.scheduling.jobserver import (
    Jobserver,
    JobserverError,
    Server,
    connect,
    make_knows_fifo,
)
from dvc_parallel.scheduling.ready_queue import AdmissionQueue
from dvc_parallel.scheduling.tokens import SharedSlots
from tests import HANGS


@pytest.fixture(params=["fifo", "pipe"])
def style(request, monkeypatch):
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    return request.param


@pytest.fixture
def server(style):
    server = Server(3, fifo=style == "fifo")
    yield server
    server.close()


def client_of(server):
    for fd in server.inherited:
        os.set_inheritable(fd, True)
    return connect(server.environment()["MAKEFLAGS"])


def test_makeflags(server, style):
    flags = server.environment()["MAKEFLAGS"].split()
    assert flags[0] == "-j3"
    auth = flags[1].removeprefix("--jobserver-auth=")
    if style == "fifo":
        assert os.path.exists(auth.removeprefix("fifo:"))
        assert not server.inherited
    else:
        assert auth == ",".join(map(str, server.inherited))


@pytest.mark.parametrize(
    "before, options, variables",
    [
        ("k", "k", ""),
        ("ks -j7 --jobserver-auth=3,4 -- X=a\\ -j1", "ks", "-- X=a\\ -j1"),
        ("-- X=1", "", "-- X=1"),
        (" -j --jobserver-fds=3,4 --jobserver-auth=fifo:/x -Oline", "-Oline", ""),
        ("-j 8 --jobs 8 --jobs=8 -k", "-k", ""),
        ("-j", "", ""),
    ],
)
def test_other_flags_are_kept(server, monkeypatch, before, options, variables):
    monkeypatch.setenv("MAKEFLAGS", before)
    flags = server.environment()["MAKEFLAGS"].split()
    ours = flags.index("-j3")
    assert flags[:ours] == options.split()
    assert flags[ours + 1].startswith("--jobserver-auth=")
    # NOTE: make takes nothing behind "--" for an option
    assert flags[ours + 2 :] == variables.split()


def test_a_path_that_make_would_cut_in_two_is_not_named(tmp_path, monkeypatch):
    folder = tmp_path / "my folder"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    server = Server(3, fifo=True)
    assert "fifo" not in server.environment()["MAKEFLAGS"]
    client = client_of(server)
    assert free(client) == 3
    client.close()
    server.close()


def test_server_and_client_share(server):
    client = client_of(server)
    tokens = [client.take(), server.take(), client.take()]
    assert all(tokens)
    assert client.take() is server.take() is None
    assert not server.has_tokens()
    server.give_back(tokens.pop())
    assert client.has_tokens()
    assert free(client) == 1
    client.close()


def test_descriptors_that_select_does_not_know(server):
    resource = pytest.importorskip("resource")
    fcntl = pytest.importorskip("fcntl")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 2048:
        pytest.skip("this process may not have as many")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limits[1]))
    jobserver = Jobserver(fcntl.fcntl(server.fd, fcntl.F_DUPFD, 1024))
    try:
        assert jobserver.has_tokens()
    finally:
        jobserver.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_is_lost_comes_back(server):
    for _ in range(2):
        server.take()
    server.refill()
    assert free(server) == 3


def test_nothing_is_left(style):
    server = Server(2, fifo=style == "fifo")
    folder = os.path.dirname(server._path)
    fds = [server.fd, *server.inherited]
    server.close()
    assert not os.path.exists(folder)
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize(
    "flags", ["", "k", "-j8", "-- X=--jobserver", "k -- X=--jobserver-auth=3,4"]
)
def test_no_jobserver(flags):
    assert connect(flags) is None


@pytest.mark.parametrize(
    "auth", ["fifo:/does/not/exist", "fifo:/dev/null", "990,991", "0,1", "-2,-2"]
)
def test_a_jobserver_that_is_not_there(auth, monkeypatch):
    with open(os.devnull, "rb") as no_pipe:
        auth = auth.replace("0,1", f"{no_pipe.fileno()},{no_pipe.fileno()}")
        with pytest.raises(JobserverError, match=f"^--jobserver-auth={auth}: "):
            connect(f" -j8 --jobserver-auth={auth}")


def test_make_tells_that_its_jobs_are_not_shared(server):
    """As make 4.4 does behind what it tells other commands."""
    flags = server.environment()["MAKEFLAGS"] + " --jobserver-auth=-2,-2 -- X=1"
    with pytest.raises(JobserverError, match="before commands that share its jobs"):
        connect(flags)


def test_a_pipe_of_our_own_under_that_number_is_not_the_jobserver():
    reading, writing = os.pipe()
    with pytest.raises(JobserverError, match="this pipe is not open"):
        connect(f"-j8 --jobserver-auth={reading},{writing}")
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    "version, knows",
    [
        ("GNU Make 4.3\n", 0),
        ("GNU Make 4.4.1\n", 1),
        ("GNU Make 10.0", 1),
        ("bmake", 1),
    ],
)
def test_make_knows_fifo(tmp_path, monkeypatch, version, knows):
    make = tmp_path / "make"
    make.write_text(f"#!/bin/sh\necho '{version}'\n")
    make.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert make_knows_fifo() == bool(knows)
    make.unlink()
    assert make_knows_fifo()


MAKEFILE = """
all: a b c d e f
%:
\t@mkdir running.$@; echo running.* | wc -w; sleep 0.1; rmdir running.$@
"""


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
@pytest.mark.parametrize(
    "taken, flags", [(0, "-j 8"), (1, "k -- X=1"), (2, ""), (3, "")]
)
def test_make_takes_part(tmp_path, monkeypatch, taken, flags):
    """It runs one job by itself, and one for each slot that is free."""
    monkeypatch.setenv("MAKEFLAGS", flags)
    server = Server(3, fifo=make_knows_fifo())
    for _ in range(taken):
        server.take()
    (tmp_path / "Makefile").write_text(MAKEFILE)
    result = subprocess.run(
        ["make"],
        cwd=tmp_path,
        env={**os.environ, **server.environment()},
        pass_fds=server.inherited,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    assert max(map(int, result.stdout.split())) == 4 - taken
    assert free(server) == 3 - taken
    server.close()


class Run:
    """A plan whose stages take slots from a jobserver."""

    def __init__(self, jobserver, stages=6, jobs=6):
        self.woken = threading.Semaphore(0)
        self.slots = SharedSlots(
            lambda: jobserver, PoolAdmission({}, {}), self.woken.release
        )
        self.slots.__enter__()
        ready = AdmissionQueue(self.slots)
        self.plan = Plan(range(stages), {}, jobs=jobs, ready=ready)

    def tell(self, event):
        started = [i.stage for i in self.plan.handle(event) if isinstance(i, Start)]
        self.plan.validate()
        return started


def test_each_stage_takes_a_slot_until_its_command_has_ended(style):
    server = Server(3, fifo=style == "fifo")
    run = Run(server)
    assert run.tell(Begun()) == [0, 1, 2]
    assert free(server) == 0
    assert run.tell(CommandEnded(1)) == [3]
    assert run.tell(Failed(2)) == []
    assert free(server) == 1
    run.tell(Finished(0, True))
    run.tell(Finished(3, True))
    run.tell(Finished(1, True))
    assert run.plan.done
    assert free(server) == 3
    run.slots.__exit__()


def test_a_run_inside_another_one_has_a_slot_of_its_own(server):
    server.take()
    inner = Run(client_of(server))
    assert inner.tell(Begun()) == [0, 1, 2]
    assert inner.tell(Finished(0, True)) == [3]
    inner.tell(Failed(1))
    assert inner.tell(Finished(2, True)) == []
    inner.slots.__exit__()
    # NOTE: also what stage 3 had
    assert free(server) == 2


def test_it_starts_when_others_give_a_slot_back(server):
    tokens = [server.take() for _ in range(3)]
    inner = Run(client_of(server))
    assert inner.tell(Begun()) == [0]
    assert not inner.woken.acquire(blocking=False)
    server.give_back(tokens.pop())
    assert inner.woken.acquire(timeout=HANGS)
    assert inner.tell(LookAgain()) == [1]
    server.give_back(tokens.pop())
    assert inner.woken.acquire(timeout=HANGS)
    assert inner.tell(LookAgain()) == [2]
    assert inner.tell(Finished(0, True)) == [3]
    inner.slots.__exit__()
    assert free(server) == 2


def test_slots_that_were_lost_are_back_when_nothing_runs(style):
    server = Server(2, fifo=style == "fifo")
    run = Run(server, jobs=1)
    assert run.tell(Begun()) == [0]
    server.take()  # by something in it that gets killed
    assert run.tell(Finished(0, True)) == [1]
    assert free(server) == 1
    run.slots.__exit__()


@pytest.mark.parametrize("refusing", ["permits", "take"])
def test_an_admission_behind_it_that_refuses_costs_no_slot(
    server, monkeypatch, refusing
):
    behind = PoolAdmission({}, {})
    monkeypatch.setattr(behind, refusing, lambda _stage: False)
    with SharedSlots(lambda: client_of(server), behind, lambda: None) as slots:
        assert slots.permits("a") == (refusing == "take")
        assert not slots.take("a")
        assert free(server) == 3
        # NOTE: nor the one that the run has itself
        assert slots._own


def test_a_jobserver_that_cannot_be_made_leaves_nothing(monkeypatch, tmp_path):
    def fail(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "mkfifo", fail)
    slots = SharedSlots(partial(Server, 2, fifo=True), Mock(), print)
    with pytest.raises(DvcException, match="cannot share jobs with make"):
        slots.__enter__()
    assert not os.listdir(tmp_path)
