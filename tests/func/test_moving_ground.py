"""Files that commands of other stages add, replace and remove while DVC reads them."""

import os
import threading

import dvc.output
import pytest
from dvc.exceptions import ReproductionError
from dvc.stage import Stage

from dvc_parallel.engine.job import Job
from dvc_parallel.engine.repo_lock import SharedRepoLock
from dvc_parallel.run.stage_run import current_stage_run
from tests import HANGS

DVC_YAML = """
    stages:
      other: {cmd: touch started; timeout 20 cat fifo > other, outs: [other]}
      use: {cmd: cat src/a > use; echo > fifo, deps: [src], outs: [use]}
"""


class Vanishing:
    """Ignore rules with which a file vanishes as soon as it was found."""

    def __init__(self, ignore, path):
        self._ignore = ignore
        self._path = path

    def walk(self, *args, **kwargs):
        found = list(self._ignore.walk(*args, **kwargs))
        self._path.unlink(missing_ok=True)
        return found


def test_a_file_of_a_dependency_vanishes(make_project, monkeypatch):
    project = make_project("p", DVC_YAML, {"src/a": "a", "src/tmp-1": ""})
    os.mkfifo(project.path / "fifo")
    original = dvc.output.build
    failed = []

    def build(odb, path, fs, *args, **kwargs):
        if path.endswith("src"):
            project.wait_for("started")
            vanishing = project.path / "src" / "tmp-1"
            kwargs["ignore"] = Vanishing(kwargs["ignore"], vanishing)
        try:
            return original(odb, path, fs, *args, **kwargs)
        except FileNotFoundError as exc:
            failed.append(exc.filename)
            raise

    monkeypatch.setattr(dvc.output, "build", build)
    assert project.reproduce(jobs=2) == ["other", "use"]
    assert failed
    assert "nfiles: 1\n" in project.read("dvc.lock")


def test_an_output_that_is_another_one_when_it_is_copied(make_project, monkeypatch):
    dvc_yaml = "stages: {make: {cmd: mkdir out; echo 1 > out/a, outs: [out]}}"
    project = make_project("p", dvc_yaml)
    original = dvc.output.Output.commit

    def commit(out, *args, **kwargs):
        project.write({"out/b": "more"})
        return original(out, *args, **kwargs)

    monkeypatch.setattr(dvc.output.Output, "commit", commit)
    with pytest.raises(ReproductionError) as excinfo:
        project.reproduce(jobs=2)
    assert "is not in the cache as recorded" in str(excinfo.value.__cause__)
    assert not project.exists("dvc.lock")


def test_ignore_rules_that_a_command_writes(make_project, monkeypatch):
    dvc_yaml = """
        stages:
          rules:
            cmd: mkdir out; touch out/a out/b; cat fifo; echo /out/b > .dvcignore
            outs: [out]
          other: {cmd: touch other, outs: [other]}
    """
    project = make_project("p", dvc_yaml)
    os.mkfifo(project.path / "fifo")
    save, reserve = Stage.save, SharedRepoLock.reserve
    waits = threading.Event()

    def save_while_the_command_ends(stage, *args, **kwargs):
        if stage.addressing == "other":
            assert stage.repo.dvcignore
            project.write({"fifo": ""})
            assert waits.wait(HANGS)
        return save(stage, *args, **kwargs)

    def reserve_and_tell(lock, *args):
        turn = reserve(lock, *args)
        stage_run = current_stage_run()
        if stage_run and stage_run.name == "rules":
            waits.set()
        return turn

    monkeypatch.setattr(Stage, "save", save_while_the_command_ends)
    monkeypatch.setattr(SharedRepoLock, "reserve", reserve_and_tell)
    assert project.reproduce(jobs=2) == ["rules", "other"]
    assert "nfiles: 1\n" in project.read("dvc.lock")


@pytest.mark.parametrize("rank", [0, 2], ids=["first", "second"])
def test_an_error_of_our_own_where_a_stage_starts_ends_the_run(
    make_project, monkeypatch, rank
):
    dvc_yaml = """
        stages:
          first: {cmd: touch first, outs: [first]}
          beside: {cmd: touch beside, outs: [beside]}
          second: {cmd: touch second, deps: [first], outs: [second]}
    """
    queue = Job.queue

    def fail(job, *args):
        if job.rank == rank:
            raise RuntimeError("of our own")
        queue(job, *args)

    monkeypatch.setattr(Job, "queue", fail)
    project = make_project("p", dvc_yaml)
    with pytest.raises(RuntimeError, match="of our own"):
        project.reproduce(jobs=2)
    assert not project.exists("second")
