"""Stages of Kedro on Dask workers, with and without the workspace; experiments."""

import pytest

from tests.support.dask_cluster import Cluster, can_unshare, in_another_workspace
from tests.support.project import assert_same

pytest.importorskip("kedro", reason="needs the extra dvc-parallel[kedro]")
pytest.importorskip("distributed", reason="needs the extra dvc-parallel[dask]")


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path / "cluster")
    yield cluster
    cluster.close()


@pytest.mark.parametrize("far", [False, True])
def test_on_workers(make_shop, tmp_path, cluster, far):
    if far and not can_unshare(tmp_path):
        pytest.skip("may not mount anything here")
    folder = tmp_path / "projects"
    folder.mkdir()
    wrapper = in_another_workspace(folder) if far else ()
    cluster.start_worker("one", wrapper=wrapper)
    cluster.wait_for_workers(1)
    serial, parallel = (make_shop(f"projects/{name}") for name in ("s", "p"))
    for shop, options in ((serial, []), (parallel, ["--runner", cluster.runner])):
        shop.dvc("remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
        shop.update()
        shop.commit()
        shop.dvc("repro", *options)
        assert shop.read("data/total.json") == "[26.0]"
    assert_same(serial, parallel)


def test_queued_experiments(shop):
    shop.update()
    shop.dvc("repro", "-q")
    shop.commit()
    name = "conf/base/parameters.yml:factor"
    shop.dvc("exp", "run", "--queue", "-n", "three", "-S", f"{name}=3")
    shop.dvc("exp", "run", "--run-all")
    shop.dvc("exp", "apply", "three")
    assert shop.read("data/total.json") == "[39.0]"
    assert "up to date" in shop.dvc("status").stdout
