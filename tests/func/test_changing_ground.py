"""Files that somebody edits while stages run: what serial DVC makes of that."""

import os
import shutil
import subprocess
import textwrap

import pytest

from dvc_parallel.engine.lockfile import Lockfiles, at_the_end
from tests.support.project import Project, assert_same

PIPELINE = """
stages:
  a: {cmd: sh edit.sh && echo a > a.txt, deps: [edit.sh, own.txt], outs: [a.txt]}
  b: {cmd: cat a.txt in.txt > b.txt, deps: [a.txt, in.txt], params: [p], outs: [b.txt]}
  c: {cmd: cat b.txt > c.txt, deps: [b.txt], outs: [c.txt]}
  d: {cmd: cat c.txt > d.txt, deps: [c.txt], outs: [d.txt]}
"""
# Edits as an editor does them: a file beside, renamed over.
EDIT = 'edit() { file=$1; shift; "$@" < $file > new.tmp; mv new.tmp $file; }\n'
GHOST = """\
cat >> dvc.lock <<END
  ghost:
    cmd: echo
    outs:
    - path: ghost.txt
      hash: md5
      md5: 900150983cd24fb0d6963f7d28e17f72
      size: 3
END
"""
EDITS = {
    "its own dependency": "edit own.txt sed s/own/new/",
    "a dependency": "edit in.txt sed s/in/new/",
    "in place": "echo longer > in.txt",
    "same size and time": (
        "touch -r in.txt when; echo ni > in.txt; touch -r when in.txt; rm when"
    ),
    "replaced with the same size and time": (
        "cp -p in.txt new; echo ni > new; touch -r in.txt new; mv new in.txt"
    ),
    "params": "edit params.yaml sed s/1/2/",
    "params of the same size and time": (
        "touch -r params.yaml when; echo 'p: 3' > params.yaml;"
        "touch -r when params.yaml; rm when"
    ),
    "no params": "rm params.yaml",
    "the command of a later stage": "edit dvc.yaml sed 's/cat b.txt/cat b.txt b.txt/'",
    "a stage less": "edit dvc.yaml grep -v d.txt",
    "no dvc.yaml": "rm dvc.yaml",
    "a broken dvc.yaml": "echo '{' > dvc.yaml",
    "an entry more": GHOST,
    "an entry less": "edit dvc.lock sed '/^  b:/,/^  c:/{/^  c:/!d}'",
    "no dvc.lock": "rm dvc.lock",
    "a broken dvc.lock": "echo '{' > dvc.lock",
    "outputs": "rm b.txt d.txt",
    "an output of a later stage": "rm -f c.txt && echo mine > c.txt",
    "no .gitignore": "rm .gitignore",
    "a line less": "edit .gitignore grep -v c.txt",
    "a line of the same size": (
        "touch -r .gitignore w; edit .gitignore sed s/b.txt/x.txt/;"
        "touch -r w .gitignore; rm w"
    ),
    "a line more": "echo '*.tmp' >> .gitignore",
    "no cache": "rm -rf .dvc/cache/files",
    "another branch": "git checkout -q other",
}


def reproduce(project, jobs):
    try:
        return project.reproduce(jobs)
    except Exception as exc:  # noqa: BLE001
        causes = [exc]
        while causes[-1].__cause__:
            causes.append(causes[-1].__cause__)
        return [str(cause).replace(str(project.path), "") for cause in causes]


def git(project, *args):
    author = ("-c", "user.name=tester", "-c", "user.email=tester@example.com")
    subprocess.run(
        ["git", *author, *args], cwd=project.path, check=True, capture_output=True
    )


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A project whose stages have run, with another branch."""
    project = Project(tmp_path_factory.mktemp("changing") / "project")
    project.write({"dvc.yaml": PIPELINE, "edit.sh": "true\n", "own.txt": "own\n"})
    project.write({"in.txt": "in\n", "params.yaml": "p: 1\n"})
    project.reproduce()
    for branch, text in (("one", "in\n"), ("other", "in the other branch\n")):
        git(project, "checkout", "-q", "-b", branch)
        project.write({"in.txt": text})
        git(project, "add", "-A")
        git(project, "commit", "-q", "-m", branch)
    git(project, "checkout", "-q", "one")
    return project


@pytest.mark.parametrize("edit", EDITS)
def test_as_in_serial(make_project, reproduced, edit):
    serial, parallel = projects = [make_project(name) for name in ("s", "p")]
    for project in projects:
        shutil.copytree(reproduced.path, project.path, dirs_exist_ok=True)
        project.write({"edit.sh": EDIT + textwrap.dedent(EDITS[edit])})

    assert reproduce(parallel, 4) == reproduce(serial, None)
    assert_same(serial, parallel)
    for project in projects:
        project.write({"edit.sh": "true\n"})
    assert reproduce(parallel, 4) == reproduce(serial, None)
    assert_same(serial, parallel)


def test_a_dvc_lock_of_the_same_size_and_time(make_project):
    project = make_project("lock", "stages: {a: {cmd: echo 1}, b: {cmd: echo 2}}")
    project.reproduce()
    path = str(project.path / "dvc.lock")
    lockfiles = Lockfiles(str(project.path / ".dvc" / "tmp"))
    with lockfiles.modify(path, None, at_the_end) as data:
        data["stages"]["a"] = {"cmd": "echo 3"}
    before = os.stat(path)
    with open(path, "r+") as fobj:
        text = fobj.read().replace("echo 2", "echo 4")
        fobj.seek(0)
        fobj.write(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with lockfiles.modify(path, None, at_the_end) as data:
        data["stages"]["a"] = {"cmd": "echo 5"}
    assert lockfiles.entry(path, "a") == {"cmd": "echo 5"}
    assert lockfiles.entry(path, "b") == {"cmd": "echo 4"}
    assert lockfiles.entry(path, "c") is None
