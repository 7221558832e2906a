"""What goes wrong on workers, with their clones and their caches, and with a remote."""

import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from dvc.exceptions import ReproductionError

from dvc_parallel.engine import lock_wait
from dvc_parallel.remote.clones.coordinator import Coordinator
from dvc_parallel.remote.clones.exchange import Exchange
from dvc_parallel.remote.clones.pool import locked
from dvc_parallel.remote.clones.requests import Leaf
from tests import HANGS
from tests.support.clone_workers import Carrier, Workers, reproduce


def error_of(project, workers, **kwargs):
    with pytest.raises(ReproductionError) as info:
        reproduce(project, workers, **kwargs)
    return str(info.value.__cause__)


def test_a_clone_has_nothing_of_earlier_stages(make_project, here, with_remote):
    project = make_project(
        "p",
        """\
        stages:
          a:
            cmd: echo junk > junk; mkdir -p one/junk .hidden; echo x > code.py;
              git add junk; git checkout -q -b other; echo x > .git/index.lock;
              cat in > a
            deps: [in]
            outs: [a]
          b: {cmd: 'ls -A . one > b; cat code.py >> b', deps: [in], outs: [b]}
        """,
        {"in": "1\n", "code.py": "good\n", "one/file": ""},
    )
    with_remote(project)
    reproduce(project, Carrier(here), targets=["a"])
    reproduce(project, Carrier(here), targets=["b"])
    top = sorted({*os.listdir(project.path), ".git"} - {"a"}, key=os.fsencode)
    found = project.read("b").split()
    assert sorted(found[1 : found.index("one:")], key=os.fsencode) == top
    assert found[found.index("one:") + 1 :] == ["file", "good"]


def test_a_damaged_clone_is_made_anew(make_project, here, with_remote, tmp_path):
    project = make_project("p", "stages: {a: {cmd: cat in > a, deps: [in], outs: [a]}}")
    with_remote(project)
    for number in range(2):
        project.write({"in": f"{number}\n"})
        reproduce(project, Carrier(here))
        for path in (tmp_path / "host").glob("*/0/.git/HEAD"):
            path.write_bytes(b"\0")
    assert project.read("a") == "1\n"


CHAIN = """\
    stages:
      a: {cmd: cat in > a && echo a >> a, deps: [in], outs: [a]}
      b: {cmd: cat a > b, deps: [a], outs: [b]}
    """


USE = """\
    stages:
      b: {cmd: 'cat a/* > b', deps: [a], outs: [b]}
      c: {cmd: 'echo more >> a/1 && cat a/* > c', deps: [a], outs: [c]}
    """


@pytest.fixture
def with_data(make_project, with_remote):
    """A project with data that DVC tracks, and stages that use it."""

    def make(**kwargs):
        project = make_project("p", USE, {"a/1": "1\n"})
        with_remote(project, **kwargs)
        with project.repo() as repo:
            repo.add("a")
        return project

    return make


def test_an_object_that_is_damaged_in_the_cache_of_a_worker(with_data, here, tmp_path):
    project = with_data()
    reproduce(project, Carrier(here), targets=["b"])
    cache = tmp_path / "host" / "cache"
    damaged = [path for path in cache.rglob("*") if path.is_file()]
    assert damaged
    for path in damaged:
        path.chmod(0o644)
        path.write_bytes(b"damaged")
        path.chmod(0o444)
    for clone in (tmp_path / "host").glob("*/0"):
        shutil.rmtree(clone)
    reproduce(project, Carrier(here), targets=["b"], force=True)
    assert project.read("b") == "1\n"


@pytest.mark.parametrize("damage", ["missing", "other"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_object_that_is_not_in_the_remote_as_it_should_be(
    with_data, here, tmp_path, when, damage
):
    """Neither the worker nor the coordinator go on without it."""
    project = with_data()
    url = tmp_path / "remote"
    # NOTE: what comes back must not be in the cache of the coordinator
    project.write({"dvc.yaml": USE.replace("a/* > b", "a/* a/* > b")})

    def carry(request, *args):
        if when == "before":
            do_damage(url, damage)
        result = here(request, *args)
        if when == "after":
            do_damage(url, damage)
        return result

    message = error_of(project, Carrier(carry), targets=["b"])
    assert re.search(
        r"remote(/files/md5)?' does not have '[\w.]+', or has it damaged", message
    )
    assert not project.exists("b")


def do_damage(folder, damage):
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_text("other") if damage == "other" else path.unlink()
            if damage == "other":
                path.chmod(0o444)  # DVC takes it for whole then


def test_a_dependency_that_the_command_changes(with_data, here):
    project = with_data(more="[cache]\n    type = hardlink\n")
    message = error_of(project, Carrier(here), targets=["c"])
    assert "stage 'c' has changed its dependency 'a/1'" in message
    # through a link, it has changed the cache of the worker as well
    reproduce(project, Carrier(here), targets=["b"])
    assert project.read("b") == project.read("a/1") == "1\n"


def test_stages_at_a_time_on_one_host(make_project, tmp_path, with_remote):
    """Each waits for the other one, so both have to have a clone."""
    wait = "touch {0}/{1}; until test -e {0}/{2}; do sleep 0.05; done; pwd > {1}"
    cmds = [wait.format(tmp_path, *names) for names in ("xy", "yx")]
    project = make_project(
        "p",
        f"""\
        stages:
          x: {{cmd: {cmds[0]}, outs: [x]}}
          y: {{cmd: {cmds[1]}, outs: [y]}}
        """,
    )
    with_remote(project)
    workers = Workers(tmp_path / "workers", hosts=1, slots=2)
    try:
        reproduce(project, workers)
    finally:
        workers.close()
    assert project.read("x") != project.read("y")


def test_a_worker_that_is_killed(make_project, tmp_path, with_remote):
    """What it has begun is lost, and no other worker gets what it leaves."""
    project = make_project(
        "p",
        f"""\
        stages:
          a:
            cmd: echo half > a; echo $$ > {tmp_path}/pid; [ -e {tmp_path}/go ] ||
              sleep 600; cat in >> a
            deps: [in]
            outs: [a]
        """,
        {"in": "1\n"},
    )
    with_remote(project)
    workers = Workers(tmp_path / "workers", hosts=1, slots=2)
    lost = []

    def carry(request, show, job, carry=workers.carry):
        try:
            return carry(request, show, job)
        except EOFError as exc:
            lost.append(exc)
            return workers.all[0].perform(request, show)

    workers.carry = carry
    killer = threading.Thread(target=kill, args=(project, workers, tmp_path))
    killer.start()
    try:
        assert reproduce(project, workers) == ["a"]
    finally:
        killer.join()
        workers.close()
    assert len(lost) == 1
    assert project.read("a") == "half\n1\n"


def kill(project, workers, folder):
    project.wait_for("../pid")
    (folder / "go").touch()
    workers.all[1].kill()


def test_a_lock_is_inherited(tmp_path):
    """A clone is not free while something that was started in it is alive."""
    path = str(tmp_path / "folder" / "lock")
    with locked(path) as fd:
        process = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[fd]
        )
    with locked(path, wait=False) as fd:
        assert fd is None
    process.communicate(b"\n")
    with locked(path, wait=False) as fd:
        assert fd is not None


def test_commands_inherit_the_lock_of_their_clone(
    make_project, here, with_remote, tmp_path
):
    cmd = "for fd in /proc/$$/fd/*; do readlink $fd; done > a; true"
    project = make_project("p", f"stages: {{a: {{cmd: '{cmd}', outs: [a]}}}}")
    with_remote(project)
    reproduce(project, Carrier(here))
    lock = tmp_path / "host" / "without-commits" / "0.lock"
    assert os.fspath(lock) in project.read("a").splitlines()


def test_a_wait_for_a_lock_is_told(tmp_path, monkeypatch):
    path = str(tmp_path / "cache.lock")
    lines = queue.SimpleQueue()
    monkeypatch.setattr(lock_wait, "say", lines.put)

    def wait():
        with locked(path) as fd:
            lines.put(fd is not None)

    with locked(path):
        waiting = threading.Thread(target=wait)
        waiting.start()
        line = lines.get(timeout=HANGS)
    other = f"another stage on this host, which has locked '{path}'"
    assert line == f"Waiting for {other}"
    assert lines.get(timeout=HANGS) is True
    waiting.join()


def test_a_time_limit_is_that_of_commands(make_project, here, with_remote, monkeypatch):
    """It does not run while a worker gets data."""
    get = Exchange.get

    def get_slowly(*args):
        time.sleep(1.1)
        get(*args)

    monkeypatch.setattr(Exchange, "get", get_slowly)
    project = make_project(
        "p",
        """
        stages:
          a: {cmd: 'true', meta: {parallel: {timeout: 1s}}}
          b: {cmd: sleep 60, meta: {parallel: {timeout: 1s}}}
        """,
    )
    with_remote(project)
    assert reproduce(project, Carrier(here), targets=["a"]) == ["a"]
    message = error_of(project, Carrier(here), targets=["b"])
    assert "timed out after 1 s" in message


@pytest.mark.parametrize(
    "lie, complaint",
    [
        (
            {"m": b"{}"},
            "output 'm' is not what the worker made: its hash is 99914b",
        ),
        ({"n": b"", "m": b"1"}, "a worker has sent 'n', which is not an output"),
        ({"../n": b""}, "a worker has sent '../n', which is not an output"),
    ],
)
def test_a_worker_that_sends_something_else(
    make_project, here, with_remote, lie, complaint
):
    project = make_project(
        "p", "stages: {a: {cmd: echo 1 > m, metrics: [{m: {cache: false}}]}}"
    )
    with_remote(project)

    def carry(*args):
        leaves = tuple(Leaf(name, 0o100644, data) for name, data in lie.items())
        return replace(here(*args), leaves=leaves)

    assert complaint in error_of(project, Carrier(carry))
    assert not project.exists("n")


LINK = 0o120777
FILE = 0o100644


@pytest.mark.parametrize(
    "leaves, complaint",
    [
        (
            [Leaf("out/x", LINK, b"../kept"), Leaf("out/x/n", FILE, b"evil")],
            "'out/x/n' behind a link",
        ),
        (
            [Leaf("out/x", LINK, b"../kept/old"), Leaf("out/x", FILE)],
            "'{root}/out/x' is a link",
        ),
        ([Leaf("out/y/../../n", FILE, b"evil")], "which is not an output"),
        ([Leaf("out/y/../z", FILE, b"evil")], "which is not an output"),
        ([Leaf("out/n", FILE, md5="../../kept/old")], "which is not a hash"),
    ],
)
def test_a_worker_that_wants_to_write_elsewhere(
    make_project, here, with_remote, leaves, complaint
):
    project = make_project(
        "p",
        "stages: {a: {cmd: mkdir out; echo 1 > out/f, outs: [out: {cache: false}]}}",
        {"kept/old": "old\n"},
    )
    with_remote(project)
    before = (project.path / "kept/old").stat().st_mode

    def carry(*args):
        return replace(here(*args), leaves=tuple(leaves))

    message = error_of(project, Carrier(carry))
    assert complaint.format(root=os.path.realpath(project.path)) in message
    assert os.listdir(project.path / "kept") == ["old"]
    assert project.read("kept/old") == "old\n"
    assert (project.path / "kept/old").stat().st_mode == before
    assert not project.exists("n")


@pytest.mark.parametrize(
    "entry, complaint",
    [
        ({"outs": [{"path": "a", "md5": "../../../../p/dvc.yaml"}]}, "is not a hash"),
        ({"outs": [{"path": "a", "md5": 3}]}, "makes no sense"),
        ({"outs": [3]}, "makes no sense"),
        ({"outs": 3}, "makes no sense"),
        ({"outs": [{"md5": "x" * 32}]}, "makes no sense"),
    ],
)
def test_a_worker_whose_entry_makes_no_sense(
    make_project, here, with_remote, entry, complaint
):
    project = make_project("p", "stages: {a: {cmd: echo 1 > a, outs: [a]}}")
    with_remote(project)

    def carry(*args):
        return replace(here(*args), entry=entry)

    assert complaint in error_of(project, Carrier(carry))
    assert not project.exists("a")


def test_a_dependency_that_is_not_the_same_in_a_clone(make_project, here, with_remote):
    project = make_project("p", CHAIN, {"in": "1\n"})
    with_remote(project)

    def carry(request, *args):
        leaf = Leaf("in", 0o100644, b"2\n")
        return here(replace(request, leaves=(*request.leaves, leaf)), *args)

    message = error_of(project, Carrier(carry))
    assert "'in' differs between the workspace" in message


def test_what_was_fetched_is_removed_by_another_process(
    twins, here, with_remote, monkeypatch
):
    """The repo is free while data is fetched, so `dvc gc` can run then."""
    serial, parallel = twins(CHAIN, {"in": "1\n"})
    with_remote(serial, parallel)
    get = Coordinator.get

    def get_and_lose(coordinator, stage, result):
        get(coordinator, stage, result)
        for path in (parallel.path / ".dvc" / "cache").rglob("*"):
            path.is_file() and path.unlink()

    monkeypatch.setattr(Coordinator, "get", get_and_lose)
    serial.reproduce()
    assert reproduce(parallel, Carrier(here), targets=["a"]) == ["a"]
    assert parallel.read("a") == serial.read("a")
