"""``dvc repro --push``: what stages make is uploaded as they are recorded."""

import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dvc_parallel.run import transfers, uploads
from tests import wait_until
from tests.support.capabilities import OBJECTS
from tests.support.project import finish

TWO = """
    stages:
      one: {cmd: "mkdir -p one; cp in one/; echo 1 > one/x", deps: [in], outs: [one]}
      two: {cmd: "cat one/* > two", deps: [one], outs: [two]}
"""


@pytest.fixture
def make(make_project, tmp_path):
    def make(dvc_yaml=TWO, url=None, **files):
        project = make_project(dvc_yaml=dvc_yaml, files={"in": "in", **files})
        url = url or tmp_path / "remote"
        project.dvc("remote", "add", "-q", "-d", "storage", url)
        return project

    return make


def clone(project):
    """A clone with nothing in its cache, that pulls all it needs."""
    run = project.path.with_name("clone")
    for args in (["add", "-A"], ["commit", "-qm", "all"], ["clone", "-q", ".", run]):
        subprocess.run(["git", *args], cwd=project.path, check=True)
    other = type(project).__new__(type(project))
    other.path, other._started = run, []
    return other


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_clone_pulls_what_was_pushed(make, jobs):
    project = make()
    result = project.dvc("repro", "-j", jobs, "--push")
    assert "Pushed what 2 stages made." in result.stdout

    other = clone(project)
    other.dvc("pull", "--run-cache")
    assert other.read("two") == "in1\n"
    entries = (project.path.parent / "remote/runs").rglob("*")
    assert sum(path.is_file() for path in entries) == 2


def test_by_config(make):
    project = make()
    project.dvc("config", "core.parallel_push", "true")
    assert "Pushed what 2 stages made." in project.dvc("repro", "-j", 2).stdout
    assert "Pushed" not in project.dvc("repro", "-j", 2).stdout


def test_next_stage_does_not_wait_for_an_upload(make, monkeypatch):
    project = make()
    pushed = []
    transfer = transfers.transfer

    def slow(src, dest, oids, **kwargs):
        # NOTE: that of the first stage ends when the second one has run
        wait_until(lambda: project.exists("two"))
        pushed.append(len(oids))
        return transfer(src, dest, oids, **kwargs)

    monkeypatch.setattr(transfers, "transfer", slow)
    assert project.reproduce(jobs=2, push=True) == ["one", "two"]
    assert pushed == [3, 1]


def test_flags_of_outputs(make, tmp_path):
    project = make("""
        stages:
          one:
            cmd: for n in a b c d; do echo $n > $n; done
            outs: [a, b: {push: false}, c: {remote: other}, d: {cache: false}]
    """)
    project.dvc("remote", "add", "-q", "other", tmp_path / "other")
    project.dvc("repro", "-j", 2, "--push")

    def contents(folder):
        return sorted(path.read_text() for path in (tmp_path / folder).glob(OBJECTS))

    assert contents("remote") == ["a\n"]
    assert contents("other") == ["c\n"]


def test_failed_upload_is_tried_again(make, monkeypatch, caplog):
    project = make()
    transfer, failures = transfers.transfer, [OSError("gone"), None, OSError("again")]

    def flaky(*args, **kwargs):
        error = failures.pop() if failures else None
        if error:
            raise error
        return transfer(*args, **kwargs)

    monkeypatch.setattr(transfers, "transfer", flaky)
    monkeypatch.setattr(uploads, "PAUSES", (0, 0))
    project.reproduce(jobs=2, push=True)
    assert not failures
    assert "Pushed what 2 stages made." in caplog.text
    assert "not pushed" not in caplog.text


def test_failed_upload_costs_no_result(make, monkeypatch, caplog):
    project = make()
    monkeypatch.setattr(uploads, "PAUSES", (0, 0))
    (project.path.parent / "remote").write_text("no folder")
    assert project.reproduce(jobs=2, push=True) == ["one", "two"]
    assert "not pushed: what 'one', 'two' made ([Errno 20] Not a" in caplog.text
    assert project.reproduce(jobs=2) == []


def test_one_that_lacks_a_file(make, monkeypatch, caplog):
    """The others are pushed, and what it has of the folder is not its list."""
    project = make()
    transfer = transfers.transfer

    def lacking(cache, *args, **kwargs):
        for path in (project.path / ".dvc/cache").glob(OBJECTS):
            if path.read_text() == "1\n":
                path.unlink()
        return transfer(cache, *args, **kwargs)

    monkeypatch.setattr(transfers, "transfer", lacking)
    monkeypatch.setattr(uploads, "PAUSES", (0, 0))
    project.reproduce(jobs=2, push=True)
    assert "not pushed: what 'one' made (some files" in caplog.text
    assert "Pushed what 1 stage made." in caplog.text


@pytest.mark.parametrize(
    "remote, said",
    [
        (None, "no remote specified"),
        ({"url": "s3://bucket/x", "version_aware": "true"}, "cloud versioned"),
    ],
)
def test_what_cannot_be_pushed_to_is_told_before(make_project, remote, said):
    project = make_project(dvc_yaml=TWO, files={"in": "in"})
    if remote:
        lines = [f"    {key} = {value}\n" for key, value in remote.items()]
        config = "[core]\n    remote = r\n['remote \"r\"']\n" + "".join(lines)
        project.write({".dvc/config": config})
    result = project.dvc("repro", "-j", 2, "--push", check=False)
    if remote and "No module named" in result.stderr + result.stdout:
        pytest.skip("needs dvc-s3")
    assert result.returncode != 0
    assert said in result.stderr
    assert not project.exists("one")


class Server(ThreadingHTTPServer):
    """A remote that takes a while: files get there when it is told so."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.go_on = threading.Event(), threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(404)

    do_GET = do_HEAD  # noqa: N815

    def do_POST(self):
        self.server.asked.set()
        self.server.go_on.wait()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_interrupt_ends_uploads(make):
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            project = make(url=f"http://127.0.0.1:{server.server_port}/")
            process = project.start("repro", "-j", 2, "--push", "one")
            wait_until(server.asked.is_set)
            process.send_signal(signal.SIGINT)
            said = ""
            while "not pushed" not in said and (line := process.stdout.readline()):
                said += line
            # NOTE: nothing ends a thread that waits for the network
            server.go_on.set()
            said += finish(process)
        finally:
            server.go_on.set()
            server.shutdown()
            thread.join()
    assert "not pushed: what 'one' made (interrupted)" in said, said
    assert process.returncode == -signal.SIGINT or process.returncode > 0
