"""The example, and the page about it."""

import os
import shutil
import sys

import pytest

from tests.support.docs import ROOT, run_page
from tests.support.project import Project, assert_same

pytest.importorskip("kedro", reason="needs the extra dvc-parallel[kedro]")
pytest.importorskip("kedro_datasets", reason="the example needs kedro-datasets")
pytest.importorskip("pandas", reason="the example needs pandas")
datasets = pytest.importorskip(
    "sklearn.datasets", reason="the example needs scikit-learn"
)

EXAMPLE = ROOT / "examples/kedro"


@pytest.mark.slow
def test_page(tmp_path):
    def without_installing(command):
        return "true" if command.startswith("pip ") else command

    run_page("docs/kedro.md", tmp_path, without_installing, "Kedro")


@pytest.mark.slow
def test_serially_and_in_parallel(tmp_path):
    serial, parallel = (Project(tmp_path / role) for role in ("serial", "parallel"))
    for project, options in ((serial, []), (parallel, ["-j", 4])):
        shutil.copytree(EXAMPLE, project.path, dirs_exist_ok=True)
        command = [os.path.join(os.path.dirname(sys.executable), "kedro")]
        project.run([*command, "dvc", "update"])
        project.dvc("repro", *options)
    assert_same(serial, parallel)
    assert "up to date" in parallel.dvc("status").stdout


def test_the_committed_data_is_that_of_scikit_learn():
    import pandas as pd

    data = datasets.load_diabetes(as_frame=True, scaled=False).frame
    data = data.rename(columns={"target": "progression"})
    patients, serum = (
        pd.read_csv(EXAMPLE / f"data/01_raw/{name}.csv").set_index("patient")
        for name in ("patients", "serum")
    )
    assert [*patients.index] == list(range(1, 443))
    committed = patients.join(serum)[[*data.columns]].reset_index(drop=True)
    pd.testing.assert_frame_equal(committed, data, check_dtype=False)
