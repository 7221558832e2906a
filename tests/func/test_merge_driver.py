"""Git merges dvc.lock by its entries."""

import os
import subprocess

import pytest

from dvc_parallel.commands.merge_driver import ATTRIBUTE
from dvc_parallel.engine.lockfile_text import LockfileText

DVC_YAML = """
    stages:
      all:
        foreach: [a, b, c, d]
        do:
          cmd: cp ${item}.in ${item}.out
          deps: ["${item}.in"]
          outs: ["${item}.out": {cache: false}]
"""


class Clone:
    """A project in git that uses the driver."""

    def __init__(self, project):
        self.project = project
        self.path = project.path

    def git(self, *args, check=True, cwd=""):
        command = ["git", *args]
        return self.project.run(command, check, cwd=self.path / cwd)

    def install(self, cwd=""):
        command = ["dvc-parallel", "merge-driver", "--install"]
        return self.project.run(command, cwd=self.path / cwd).stdout

    def commit(self, *, on, **values):
        """Run stages on a branch with other inputs, and commit what that gives."""
        branches = self.git("branch", "--format=%(refname:short)").stdout.split()
        self.git("checkout", "-q", *([] if on in branches else ["-b"]), on)
        self.project.write({f"{name}.in": value for name, value in values.items()})
        self.project.reproduce(jobs=2, targets=[f"all@{name}" for name in values])
        self.git("add", ".")
        self.git("commit", "-qm", f"{on}: {values}")

    def entries(self):
        return LockfileText.parse(self.project.read("dvc.lock"))

    def reproduce(self):
        return self.project.reproduce(jobs=2, targets=list(self.entries()))


@pytest.fixture
def clone(make_project):
    clone = Clone(make_project(dvc_yaml=DVC_YAML))
    clone.install()
    clone.commit(on="main", a="0", b="0")
    return clone


def test_install(make_project):
    clone = Clone(make_project(files={".gitattributes": "*.png binary"}))
    attributes = clone.path / ".gitattributes"

    assert ATTRIBUTE in clone.install()
    config = clone.git("config", "--local", "--list").stdout
    clone.project.write({"sub/dvc.yaml": ""})
    clone.install(cwd="sub")
    clone.git("add", ".")
    clone.git("commit", "-qm", "all")
    clone.git("worktree", "add", "-q", "../other")
    clone.install(cwd="../other")

    assert attributes.read_text() == f"*.png binary\n{ATTRIBUTE}\n"
    assert clone.git("config", "--local", "--list").stdout == config
    assert clone.git("status", "--porcelain", cwd="../other").stdout == ""
    for name in ("dvc.lock", "sub/deep/dvc.lock"):
        found = clone.git("check-attr", "merge", name).stdout
        assert found.strip().endswith(": dvc-lock")


def test_install_says_what_keeps_it(tmp_path, make_project):
    command = ["dvc-parallel", "merge-driver", "--install"]
    nowhere = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert nowhere.returncode == 1
    assert "not a git repository" in nowhere.stderr

    project = make_project()
    os.symlink(tmp_path / "elsewhere", project.path / ".gitattributes")
    linked = project.run(command, check=False)
    assert linked.returncode == 1
    assert "is a link" in linked.stderr
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("way", ["merge", "rebase", "cherry-pick"])
def test_branches_that_ran_different_stages(clone, way):
    clone.commit(on="other", a="11", d="1111")
    clone.git("checkout", "-q", "main")
    clone.commit(on="main", b="222", c="22222")

    clone.git(way, *(["-q"] if way == "rebase" else []), "other")

    assert sorted(clone.entries()) == ["all@a", "all@b", "all@c", "all@d"]
    assert clone.reproduce() == []


def test_stage_that_both_ran(clone):
    clone.commit(on="other", a="1", b="1")
    theirs = clone.entries()
    clone.git("checkout", "-q", "main")
    clone.commit(on="main", a="2")
    ours = clone.entries()

    result = clone.git("merge", "other", check=False)

    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert "dvc.lock: stage 'all@a' has changed on both sides" in said
    assert "`dvc repro all@a`" in said
    text = clone.project.read("dvc.lock")
    head, _, rest = text.partition("<<<<<<< ours\n")
    one, _, rest = rest.partition("=======\n")
    other, _, tail = rest.partition(">>>>>>> theirs\n")
    assert LockfileText.parse(head + one + tail).get("all@a") == ours.get("all@a")
    assert LockfileText.parse(head + other + tail).get("all@a") == theirs.get("all@a")
    assert LockfileText.parse(head + tail).get("all@b") == theirs.get("all@b")

    # whichever is kept, DVC runs the stage if it is not the right one
    clone.project.write({"dvc.lock": head + other + tail, "a.in": "2"})
    clone.git("checkout", "--ours", "a.out")
    assert clone.reproduce() == ["all@a"]
    assert clone.entries().get("all@a") == ours.get("all@a")


def test_branches_that_were_merged_crosswise(clone):
    """The common ancestor of two merges is one of its own, with no marks in it."""
    clone.commit(on="other", a="1")
    clone.git("checkout", "-q", "main")
    clone.commit(on="main", a="2", b="2")
    clone.git("tag", "before")
    for branch, merged in (("main", "other"), ("other", "before")):
        clone.git("checkout", "-q", branch)
        clone.git("merge", "-q", "--no-commit", merged, check=False)
        clone.git("checkout", "-q", "before", "--", ".")
        clone.git("commit", "-qm", "both")
    clone.commit(on="other", d="3")
    clone.git("checkout", "-q", "main")
    clone.commit(on="main", c="3")

    clone.git("merge", "-q", "other")

    assert list(clone.entries()) == ["all@a", "all@b", "all@c", "all@d"]
    assert clone.reproduce() == []


@pytest.mark.parametrize("theirs", [b"\xff\0", b"- a\n- c\n", b"stages: [\n"])
def test_what_is_no_lockfile_is_merged_as_git_does(tmp_path, theirs):
    files = {"base": b"- a\n", "ours": b"- a\n- b\n", "theirs": theirs}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = ["dvc-parallel", "merge-driver", *files, "dvc.lock"]
    result = subprocess.run(command, cwd=tmp_path, check=False)

    assert result.returncode == 1
    found = (tmp_path / "ours").read_bytes()
    assert (b"<<<<<<< ours\n" in found) == (b"\0" not in theirs)


def test_line_ends_and_help(tmp_path):
    text = "schema: '2.0'\nstages:\n"
    a, b, c = (f"  {name}:\n    cmd: {name}\n" for name in "abc")
    for name, content in (("o", text + a), ("x", text + a + b), ("y", text + a + c)):
        (tmp_path / name).write_bytes(content.replace("\n", "\r\n").encode())
    command = ["dvc-parallel", "merge-driver"]
    subprocess.run([*command, "o", "x", "y"], cwd=tmp_path, check=True)
    merged = (text + a + b + c).replace("\n", "\r\n")
    assert (tmp_path / "x").read_bytes() == merged.encode()

    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 254
    assert result.stderr.startswith("ERROR: expected BASE, OURS and THEIRS")
