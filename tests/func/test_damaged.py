"""Objects in the cache that a power cut has damaged are not taken for good."""

import os

import pytest

from tests.support.project import assert_same

DVC_YAML = """
    stages:
      file: {cmd: cp in file, deps: [in], outs: [file]}
      folder: {cmd: mkdir folder && cp in folder/a && echo b > folder/b, deps: [in],
               outs: [folder]}
      last: {cmd: cat file folder/a > last, deps: [file, folder], outs: [last]}
"""


def objects(project):
    return [
        path
        for path in (project.path / ".dvc/cache/files").rglob("*")
        if path.is_file()
    ]


def damage(path, size=0):
    """As after a power cut: nobody may write to it, and it has lost its end."""
    path.chmod(0o644)
    os.truncate(path, size)
    path.chmod(0o444)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("size", [0, 2])
def test_unchanged_stages_with_damaged_objects(twins, caplog, jobs, size):
    serial, project = twins(DVC_YAML, {"in": "data\n"})
    serial.reproduce()
    project.reproduce(jobs=2)
    whole = {path: path.read_bytes() for path in objects(project)}
    for path in whole:
        damage(path, min(size, path.stat().st_size - 1))
    project.reproduce(jobs=jobs)
    assert {path: path.read_bytes() for path in objects(project)} == whole
    assert_same(serial, project)
    for path in whole:
        assert f"'{path}' in the cache" in caplog.text
    caplog.clear()
    assert project.reproduce(jobs=jobs) == []
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("jobs", [1, 2])
def test_objects_whose_entry_has_been_lost(twins, jobs):
    """The stage runs, and what it would put into the cache seems to be there."""
    serial, project = twins(DVC_YAML, {"in": "data\n"})
    serial.reproduce()
    project.reproduce(jobs=2)
    (project.path / "dvc.lock").unlink()
    whole = {path: path.read_bytes() for path in objects(project)}
    for path in whole:
        damage(path)
    project.reproduce(jobs=jobs)
    assert {path: path.read_bytes() for path in objects(project)} == whole
    assert_same(serial, project)


def test_restored_from_the_run_cache(twins):
    serial, project = twins(DVC_YAML, {"in": "data\n"})
    serial.reproduce()
    project.reproduce(jobs=2)
    for name in ("dvc.lock", "file", "last"):
        (project.path / name).unlink()
    for path in objects(project):
        damage(path)
    project.reproduce(jobs=2)
    assert_same(serial, project)


def test_a_dry_run_removes_nothing(make_project):
    project = make_project("project", DVC_YAML, {"in": "data\n"})
    project.reproduce(jobs=2)
    for path in objects(project):
        damage(path)
    before = objects(project)
    project.reproduce(jobs=2, dry=True)
    project.run(["dvc-parallel", "plan"])
    assert objects(project) == before


def test_an_object_of_another_size_with_the_right_hash_stays(make_project, caplog):
    """As with the hashes of DVC 2, which do not count line breaks."""
    project = make_project("project", DVC_YAML, {"in": "data\n"})
    project.reproduce(jobs=2)
    text = project.read("dvc.lock").replace("size: 5", "size: 6")
    project.write({"dvc.lock": text})
    assert project.reproduce(jobs=2) == []
    assert "damaged" not in caplog.text
