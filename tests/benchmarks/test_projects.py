import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.installs import install
from benchmarks.projects import clone, compare, prepare
from benchmarks.tools import OURS, tools

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None, reason="projects are git repos"
)
# Data that cannot be pulled.
DATA = """\
outs:
- md5: d41d8cd98f00b204e9800998ecf8427e
  size: 0
  hash: md5
  path: data.csv
"""
# A source that is not there, a folder with a file that another stage reads, a dvc.yaml
# in a folder, a metric, a value of params.yaml, and a stage that does not run.
DVC_YAML = """\
stages:
  split:
    cmd: no-such-command
    deps: [raw.csv]
    params: [parts]
    outs: [parts]
  train:
    cmd: no-such-command
    deps: [parts/a.csv]
    metrics:
      - score: {cache: false}
  fetch:
    cmd: no-such-command
    frozen: true
    outs: [old.csv]
"""
OTHER = """\
stages:
  plot:
    cmd: no-such-command
    deps: [../parts, ../old.csv, ../data.csv]
    outs: [plot.svg]
"""


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "plots").mkdir(parents=True)
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "plots/dvc.yaml").write_text(OTHER)
    (root / "params.yaml").write_text("parts: 2\n")
    (root / "data.csv.dvc").write_text(DATA)
    for command in (
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        ["git", "add", "."],
        ["git", "commit", "-qm", "A project"],
    ):
        subprocess.run(command, cwd=root, check=True)
    return root


def test_stages_sleep_and_write_what_others_read(project, tmp_path):
    root, steps = tmp_path / "clone", tmp_path / "steps"
    clone(str(project), "HEAD", root)
    prepare(root, steps)
    assert (root / "raw.csv").exists()
    assert (root / "old.csv").exists()

    def run(stage):
        command = ["sh", "-e", steps / f"{stage}.sh"]
        subprocess.run(command, cwd=root, check=True)

    run("split")
    before = (root / "parts/a.csv").read_text()
    (root / "raw.csv").write_text("other\n")
    run("split")
    assert (root / "parts/a.csv").read_text() != before
    run("train")
    run("plots/dvc.yaml:plot")
    assert (root / "score").is_file()
    assert (root / "plots/plot.svg").is_file()


def test_bound(project, tmp_path):
    root = tmp_path / "clone"
    clone(str(project), "HEAD", root)
    prepared = prepare(root, tmp_path / "steps")
    seconds = prepared.seconds
    split, train, plot = map(seconds.get, ("split", "train", "plots/dvc.yaml:plot"))
    names = {*seconds} - {"fetch"}
    assert len(names) == 3
    assert prepared.bound(names, 1) == pytest.approx(split + train + plot)
    assert prepared.bound(names, 3) == pytest.approx(split + max(train, plot))


def test_runs_are_compared(project):
    dvc = Path(sys.executable).parent / "dvc"
    if not dvc.exists():
        pytest.skip("no `dvc` next to this Python")
    found = install(tools("")[OURS], dvc)
    row = compare(found, found, f"{project}@HEAD", [], 2)
    assert f"| {project}@HEAD | 3 |" in row
    assert row.endswith("| yes |")
