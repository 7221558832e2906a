"""The upstream series applies to its DVC, which then has `repro --jobs`."""

import compileall
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import dvc
import pytest

from patches import (
    BASE,
    MOST_LINES,
    MOST_LINES_OF_ALL,
    PATCHES,
    am,
    git,
    lines_added,
    make,
    start,
)

# The release is installed without them.
WITHOUT_TESTS = "--exclude=tests/*"

pytestmark = pytest.mark.skipif(version("dvc") != BASE, reason=f"is for DVC {BASE}")


@pytest.fixture
def released(tmp_path):
    """A repository with the package of released DVC, as it is installed here."""
    folder = tmp_path / "patched"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(dvc.__file__).parent, folder / "dvc", ignore=ignore)
    start(folder)
    return folder


@pytest.fixture
def patched(released):
    """The same with the series, each patch of which can be compiled."""
    for patch in PATCHES:
        am(released, [patch], WITHOUT_TESTS)
        assert compileall.compile_dir(released, quiet=1)
    return released


def test_stages_run_beside_each_other(patched, make_project):
    dvc_yaml = """
        stages:
          one: {cmd: "echo a > fifo; echo 1 > 1", outs: ["1"]}
          two: {cmd: "cat fifo; echo 2 > 2", outs: ["2"]}
          three: {cmd: cat 1 2 > 3, deps: ["1", "2"], outs: ["3"]}
    """
    project = make_project(dvc_yaml=dvc_yaml)
    os.mkfifo(project.path / "fifo")
    # NOTE: without the files that would install the plugin's hook
    python = [sys.executable, "-S", "-m", "dvc"]
    site = Path(dvc.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": f"{patched}{os.pathsep}{site}"}
    result = project.run([*python, "repro", "--jobs", "2"], env=env)
    (line,) = [line for line in result.stdout.splitlines() if line.endswith(" a")]
    assert "two" in line
    assert project.read("3") == "1\n2\n"
    lock = project.read("dvc.lock")
    assert lock.index("  one:") < lock.index("  two:") < lock.index("  three:")
    status = project.run([*python, "status"], env=env)
    assert "up to date" in status.stdout


def test_size():
    sizes = [lines_added(patch) for patch in PATCHES]
    codes = [code for code, _ in sizes]
    assert max(codes) <= MOST_LINES
    assert sum(codes) <= MOST_LINES_OF_ALL
    assert all(code and tests for code, tests in sizes)


def test_patches_are_those_of_the_user_who_applies_them(
    released, tmp_path, monkeypatch
):
    assert not [p for p in PATCHES if "\nFrom: " in p.read_text()]
    config = tmp_path / "config"
    config.write_text("[user]\nname = Zoë\nemail = zoe@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    am(released, PATCHES, WITHOUT_TESTS)
    authors = git(released, "log", "--format=%an <%ae>", f"{BASE}..").split("\n")
    assert authors == [*["Zoë <zoe@example.org>"] * len(PATCHES), ""]
    to = tmp_path / "to"
    to.mkdir()
    make(released, to)
    for patch in PATCHES:
        made = (to / patch.name).read_text()
        assert "Zoë" not in made
        # NOTE: what follows are the numbers of lines, with those of tests
        assert made.partition("---")[0] == patch.read_text().partition("---")[0]
