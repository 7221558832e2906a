"""What a clone can bring along in `.dvc/tmp`: nothing of ours is opened through it."""

import os
import sys

import pytest

from dvc_parallel.records import Runs

PYTHON = sys.executable
if os.name != "posix":
    pytest.skip("needs links and pipes", allow_module_level=True)

DVC_YAML = """
    stages:
      one: {cmd: "echo said", outs: []}
      two: {cmd: "echo words; exit 3"}
"""
OWN = ".dvc/tmp/parallel"


@pytest.fixture
def project(make_project):
    project = make_project("clone", DVC_YAML)
    project.dvc("repro", "-j", 2, check=False)
    return project


@pytest.fixture
def home(tmp_path):
    """What nobody may touch, nor show."""
    home = tmp_path / "home"
    for name in ("20200101-000000-abcd", "123", "a" * 22, "folder"):
        (home / name / "logs").mkdir(parents=True)
        (home / name / "logs" / "file").write_text("SECRET\n")
    for name in ("file", "b" * 22, "journal.jsonl", "durations.json"):
        (home / name).write_text("SECRET\n")
    return home


def state(folder):
    return {
        path: (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def own(project, *args, **kwargs):
    return project.run([PYTHON, "-m", "dvc_parallel", *args], check=False, **kwargs)


def put(path, kind, home):
    """Put something else in the place of a file or folder."""
    is_folder = path.is_dir()
    if is_folder:
        path.rename(path.with_name("before"))
    elif path.exists():
        path.unlink()
    if kind == "link":
        path.symlink_to(home if is_folder else home / "file")
    elif kind == "dangling":
        path.symlink_to(home / "new")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as fobj:
            fobj.truncate(2**40)


def test_the_user_is_told(project, home):
    (path,) = project.path.glob(f"{OWN}/runs/*/journal.jsonl")
    put(path, "link", home)
    name = path.parent.name
    result = own(project, "logs", "--run", name)
    assert (result.returncode, result.stderr) == (
        255,
        f"ERROR: cannot read '{path}': a link, which is not followed\n",
    )
    (project.path / OWN).rename(project.path / "moved")
    put(project.path / OWN, "dangling", home)
    result = project.dvc("repro", "-j", 2, check=False)
    assert "the record of this run cannot be kept: " in result.stderr
    assert not (home / "new").exists()


def test_old_runs_of_others_are_no_runs_of_ours(project, home):
    """A run removes old records: not what a link leads to."""
    runs = project.path / OWN / "runs"
    runs.rename(runs.with_name("moved"))
    many = home / "many"
    for number in range(30):
        (many / f"2020010{number % 10}-0000{number:02}-abcd").mkdir(parents=True)
    runs.symlink_to(many)
    before = state(home)
    project.dvc("repro", "-j", 2, check=False)
    assert state(home) == before
    runs.unlink()
    runs.mkdir()
    for number in range(30):
        (runs / f"mine-{number:02}").mkdir()
    project.dvc("repro", "-j", 2, check=False)
    assert sum(path.name.startswith("mine") for path in runs.iterdir()) == 30
    assert len(Runs(str(project.path / ".dvc" / "tmp")).ids()) == 1
