"""The lock of the repo and the locks of paths: held while they are needed."""

import errno
import json
import sys
from pathlib import Path

from dvc.lock import Lock

from dvc_parallel.engine.path_locks import LocksFile
from tests import wait_until
from tests.support.project import SCRIPTS, finish

PYTHON = sys.executable


def test_the_repo_is_usable_while_commands_run(make_project):
    project = make_project(
        "usable",
        f"""
        stages:
          a: {{cmd: "{PYTHON} hold.py a && echo a > a.txt", outs: [a.txt]}}
          b: {{cmd: "{PYTHON} -m dvc status c > b.txt && touch b.runs", outs: [b.txt]}}
          c: {{cmd: echo c > c.txt, outs: [c.txt]}}
        """,
        SCRIPTS,
    )
    process = project.start("repro", "-j", 2)
    project.wait_for("a.runs", "b.runs", "dvc.lock")
    # NOTE: the run comes to it when 'b' has ended
    wait_until(lambda: "\n  c:" in project.read("dvc.lock"))
    wait_until(lambda: "c.txt" not in project.path_locks())
    assert "up to date" in project.dvc("status", "c").stdout
    assert "Running stage 'c'" in project.dvc("repro", "-f", "c").stdout
    project.dvc("data", "status")
    locks = json.loads(project.path_locks())
    assert str(project.path / "a.txt") in locks["write"]
    blocked = project.dvc("repro", "a", check=False)
    assert "busy" in blocked.stderr
    project.write({"a.go": ""})
    output = finish(process)
    assert process.returncode == 0, output


def test_a_result_waits_for_a_neighbour_that_has_the_repo_lock(make_project):
    project = make_project(
        "neighbour",
        f"""
        stages:
          a: {{cmd: "{PYTHON} hold.py a && echo a > a.txt", outs: [a.txt]}}
        """,
        SCRIPTS,
    )
    process = project.start("repro", "-j", 2)
    project.wait_for("a.runs")
    lock = Lock(str(project.path / ".dvc" / "tmp" / "lock"))
    lock.lock()
    project.write({"a.go": ""})
    told = []
    for line in process.stdout:
        told.append(line)
        if "no result is lost" in line:
            break
    assert not project.exists("dvc.lock")
    lock.unlock()
    output = finish(process)
    assert process.returncode == 0, [*told, output]
    assert "a:" in project.read("dvc.lock")


def test_hardlink_lock(make_project):
    project = make_project(
        "hardlink",
        "stages: {a: {cmd: echo a > a, outs: [a]}, b: {cmd: echo b > b, outs: [b]}}",
        {".dvc/config": "[core]\n    hardlink_lock = true\n"},
    )
    assert project.reproduce(jobs=2) == ["a", "b"]
    assert not list(Path(project.path / ".dvc" / "tmp").glob("lock"))


def test_a_stage_waits_for_a_path_that_its_sibling_reads(make_project):
    """A path stays locked for as long as any stage of the run needs it."""
    project = make_project(
        "readers",
        f"""
        stages:
          quick: {{cmd: echo 1, deps: [data.txt]}}
          slow: {{cmd: "{PYTHON} hold.py slow", deps: [data.txt]}}
        """,
        {**SCRIPTS, "data.txt": "data"},
    )
    process = project.start("repro", "-j", 2)
    project.wait_for("slow.runs", "dvc.lock")
    locks = json.loads(project.path_locks())
    assert list(locks["read"]) == [str(project.path / "data.txt")]
    project.write({"slow.go": ""})
    finish(process)
    assert process.returncode == 0
    assert not any(json.loads(project.path_locks()).values())


def test_paths_of_a_stage_that_has_ended_are_free(make_project):
    project = make_project(
        "free",
        """
        stages:
          a: {cmd: echo a > a, outs: [a]}
          b: {cmd: cp .dvc/tmp/rwlock seen}
        """,
    )
    assert project.reproduce(jobs=1) == ["a", "b"]
    assert not any(json.loads(project.read("seen")).values())


def test_a_disk_that_is_full_when_path_locks_are_released(make_project, mocker):
    project = make_project(
        "full",
        """
        stages:
          a: {cmd: echo a > a, outs: [a]}
          b: {cmd: echo b > b, outs: [b]}
        """,
    )
    write = LocksFile.write

    def write_if_held(self, held):
        if not held:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, held)

    mocker.patch.object(LocksFile, "write", write_if_held)
    assert project.reproduce(jobs=2) == ["a", "b"]
    assert "a:" in project.read("dvc.lock")
