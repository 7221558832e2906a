"""The workflows of ``examples/ci``, whose commands run as in the services."""

import os
import shutil
import subprocess

import pytest

from tests.support.ci import OF_THE_SERVICE, log_commands, run_job, steps_of
from tests.support.docs import ROOT
from tests.support.processes import quick_commands
from tests.support.project import Project

EXAMPLE = ROOT / "examples" / "ci"
GITHUB = EXAMPLE / ".github/workflows/pipeline.yml"
GITLAB = EXAMPLE / ".gitlab-ci.yml"
# Stands in for pip, which would need the network.
PIP = '#!/bin/sh\n[ "$*" = "install dvc[s3] a clone" ] && echo installed\n'


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the job in a new clone of one repo, with one remote, after an edit."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("-j auto is one job")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "pip").write_text(PIP)
    (folder / "pip").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    project = Project(tmp_path / "repo")
    shutil.copytree(EXAMPLE, project.path, dirs_exist_ok=True)
    project.dvc("remote", "add", "-d", "storage", str(tmp_path / "remote"))
    clones = iter(range(9))

    def run_in_clone(path, *edit):
        if edit:
            project.write({"dvc.yaml": project.read("dvc.yaml").replace(*edit)})
        git = ["git", "-C", str(project.path)]
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
        clone = tmp_path / f"clone{next(clones)}"
        subprocess.run(["git", "clone", "-q", project.path, clone], check=True)
        is_good, logs = run_job(path, clone, {"DVC_PARALLEL": "a clone"})
        return clone, is_good, logs

    with quick_commands(folder):
        yield run_in_clone


def test_github_actions(run):
    clone, is_good, logs = run(GITHUB)
    assert is_good, logs
    summary = (clone / ".git/summary.md").read_text()
    assert summary.startswith("### Plan: 5 to run, 0 may run, 0 up to date.\n")
    assert "### dvc repro \\-j auto \\-\\-pull succeeded\n\n5 stages: 5 ran" in summary
    assert [*log_commands(logs["Run"])] == 5 * ["group", "endgroup"]
    assert (clone / "report.html").exists()

    # what others have computed is restored, though another stage fails
    clone, is_good, logs = run(GITHUB, "cat svm.txt", "cat svm.txt none.txt")
    assert not is_good
    assert [*logs] == ["Install", "Plan", "Run", "Push", "Report"]
    assert b"1 ran, 3 restored, 1 failed; " in logs["Run"]
    error = b"\n::error title=evaluate failed,file=dvc.yaml,line=11::`cat "
    assert error in logs["Run"]
    summary = (clone / ".git/summary.md").read_text()
    assert "<summary><b>evaluate</b> after " in summary
    assert "No such file or directory" in summary


def test_gitlab(run):
    clone, is_good, logs = run(GITLAB, "tee", "tee none/")
    assert not is_good
    assert [*logs] == ["script", "after_script"]
    assert [*log_commands(logs["script"])] == ["start", "end"]
    assert b"5 to run, 0 may run, 0 up to date." in logs["script"]
    assert b"file pushed" in logs["after_script"]
    assert (clone / "report.md").read_text().count("<details>") >= 1
    assert (clone / "report.html").exists()


@pytest.mark.parametrize("path", [GITHUB, GITLAB])
def test_what_is_not_run_is_for_the_service(path):
    _, steps = steps_of(path)
    skipped = {step.name for step in steps if not step.script}
    assert all(it.startswith("actions/") or it in OF_THE_SERVICE for it in skipped)
    assert len(skipped) == (5 if path == GITHUB else 3)
