"""The example, whose page runs here as it is written."""

import shutil

from tests.support.docs import ROOT, run_page
from tests.support.project import Project, assert_same

EXAMPLE = ROOT / "examples/slurm"


def test_page(tmp_path, slurm):
    before = len(slurm.jobs())
    run_page("examples/slurm/README.md", tmp_path, there="Slurm")
    jobs = [line.split() for line in slurm.jobs("%j %P %C %m")[: -before or None]]
    asked = {name.rpartition(".")[0]: asked for name, *asked in jobs}
    assert asked.pop("mean") == ["main", "1", "64M"]
    assert sorted(asked) == [f"simulate@{number}" for number in (1, 2, 3, 4)]
    assert all(it == ["main", "2", "200M"] for it in asked.values())


def test_serially_and_as_jobs(tmp_path, slurm, monkeypatch):
    serial, parallel = (Project(tmp_path / role) for role in ("serial", "parallel"))
    monkeypatch.setenv("DVC_PARALLEL_SLURM", "partition=main time=60")
    for project, options in ((serial, []), (parallel, ["--runner", "slurm", "-j", 4])):
        shutil.copytree(EXAMPLE, project.path, dirs_exist_ok=True)
        project.dvc("repro", *options)
    assert_same(serial, parallel)
