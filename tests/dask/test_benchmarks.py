"""The benchmark finds the Dask cluster that it makes."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.harness import measure
from benchmarks.installs import install
from benchmarks.tools import OURS_ON_DASK, tools
from benchmarks.workloads import cp_fan
from tests.support.dask_cluster import phases

if not os.environ.get("DVC_PARALLEL_DASK"):
    pytest.skip("takes long; set DVC_PARALLEL_DASK=1", allow_module_level=True)


def test_ours_on_workers(tmp_path, monkeypatch):
    ran_on = []

    def check(root, *args):
        for events in phases(SimpleNamespace(path=root)).values():
            ran_on.extend(e["worker"] for phase, e in events if phase == "command")

    monkeypatch.setattr("benchmarks.project.check", check)
    tool = install(tools("")[OURS_ON_DASK], Path(sys.executable).parent / "dvc")
    (row,) = measure(cp_fan(5), [tool], [2], 1, 120.0, tmp_path, print).rows
    assert row.errors == []
    assert len(ran_on) == 6
    assert set(ran_on) <= {"worker-0", "worker-1"}
