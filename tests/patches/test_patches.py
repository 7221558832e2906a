"""The upstream series applies to its DVC, which then has `repro --jobs`."""

import compileall
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import dvc
import pytest

from patches import BASE, PATCHES, git, start

pytestmark = pytest.mark.skipif(version("dvc") != BASE, reason=f"is for DVC {BASE}")


@pytest.fixture
def patched(tmp_path):
    """The package of released DVC, as it is installed here, with the series."""
    folder = tmp_path / "patched"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(dvc.__file__).parent, folder / "dvc", ignore=ignore)
    start(folder)
    for patch in PATCHES:
        git(folder, "am", "--quiet", str(patch))
        assert compileall.compile_dir(folder, quiet=1)
    return folder


def test_stages_run_beside_each_other(patched, make_project):
    assert len(PATCHES) == 4
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
    assert "two | a\n" in result.stdout
    assert project.read("3") == "1\n2\n"
    lock = project.read("dvc.lock")
    assert lock.index("  one:") < lock.index("  two:") < lock.index("  three:")
    status = project.run([*python, "status"], env=env)
    assert "up to date" in status.stdout
