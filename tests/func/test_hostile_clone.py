"""What a clone can bring along in `.dvc/tmp`: nothing of ours is opened through it."""

import os
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import pytest
import shortuuid
from dvc.exceptions import DvcException

from dvc_parallel.commands.logs_command import CmdLogs
from dvc_parallel.commands.report_command import CmdReport
from dvc_parallel.commands.workspace_copy import WorkspaceCopy
from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.reporter_events import Phase, RunInfo, StageInfo, Summary
from dvc_parallel.processes import orphans
from dvc_parallel.remote.clones.snapshot import FOLDERS, remove_stale
from dvc_parallel.reporting.records import Runs, writer
from dvc_parallel.reporting.records.writer import Recorder
from dvc_parallel.scheduling.durations import Durations

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
    return project.own(*args, check=False, **kwargs)


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


PLACES = [
    ("parallel", ("link", "dangling", "pipe", "huge")),
    ("parallel/runs", ("link", "dangling", "pipe", "huge")),
    ("parallel/commands", ("link", "dangling", "pipe", "huge")),
    ("parallel/snapshots", ("link", "dangling", "pipe", "huge")),
    ("validate", ("link", "dangling", "pipe", "huge")),
    ("parallel/runs/*", ("link", "dangling", "pipe")),
    ("parallel/runs/*/logs", ("link", "dangling", "pipe")),
    ("parallel/runs/*/journal.jsonl", ("link", "dangling", "pipe", "folder", "huge")),
    ("parallel/runs/*/logs/0000-a.log", ("link", "dangling", "pipe", "folder")),
    ("parallel/runs/*/report.html", ("link", "dangling", "pipe", "folder", "huge")),
    ("parallel/durations.json", ("link", "dangling", "pipe", "folder", "huge")),
]


def run(tmp_dir):
    """What a run does there, apart from stages."""
    orphans.clear(orphans.folder_of(tmp_dir), lambda _: None)
    durations = Durations(tmp_dir)
    durations.load()
    recorder = Recorder(tmp_dir)
    recorder.begun(RunInfo([StageInfo("a")], 2, "fail"))
    file = orphans.announce(orphans.folder_of(tmp_dir), shortuuid.uuid())
    recorder.phase(0, Phase.COMMAND, cmd="echo")
    recorder.output(0, "stdout", b"line\n")
    recorder.phase(0, Phase.FAILED, error="why")
    recorder.ended(Summary("failed", 1.0, 1.0, {Phase.FAILED: 1}, [0]))
    recorder.close()
    if file:
        file.remove()
    durations.save({"a": 1.0})
    remove_stale(OwnFolder(tmp_dir, *FOLDERS))


def show(command, **kwargs):
    names = ["run", "stage", "out", "json", "list", "follow", "failed"]
    names += ["compare", "format"]
    with suppress(DvcException):
        command(Namespace(cd=".", **{**dict.fromkeys(names), **kwargs})).run()


@pytest.mark.parametrize(
    "place, kind", [(place, kind) for place, kinds in PLACES for kind in kinds]
)
def test_nothing_is_followed(
    make_project, home, place, kind, monkeypatch, capfdbinary, mocker
):
    project = make_project()
    monkeypatch.chdir(project.path)
    tmp_dir = str(project.path / ".dvc" / "tmp")
    run(tmp_dir)
    for folder in ("parallel/snapshots", "validate"):
        (Path(tmp_dir) / folder).mkdir()
    next(project.path.glob(f"{OWN}/runs/*/")).joinpath("report.html").touch()
    (path,) = Path(tmp_dir).glob(place)
    put(path, kind, home)
    before = state(home)

    show(CmdReport)
    show(CmdReport, format="json")
    show(CmdReport, format="markdown")
    show(CmdLogs)
    show(CmdLogs, stage="a")
    show(CmdLogs, stage="a", follow=True)
    show(CmdLogs, list=True)
    mocker.patch.object(writer, "KEEP", 1)
    run(tmp_dir)
    with project.repo() as repo:
        WorkspaceCopy(repo)._remove_stale()

    assert state(home) == before
    pages = project.path.glob(f"{OWN}/runs/*/report.html")
    shown = [page.read_bytes() for page in pages if kind != "huge" and page.is_file()]
    for text in (*shown, *capfdbinary.readouterr()):
        assert b"SECRET" not in text


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
    assert "cannot record this run: " in result.stderr
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
