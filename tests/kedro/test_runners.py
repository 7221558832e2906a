"""Stages of Kedro as forks, on Dask workers, with and without the workspace;
experiments."""

import re
import sys

import pytest

from tests.kedro.shop import STAGES
from tests.support.dask_cluster import Cluster, can_unshare, in_another_workspace
from tests.support.project import assert_same

pytest.importorskip("kedro", reason="needs the extra dvc-parallel[kedro]")

FORK = "DVC_PARALLEL_KEDRO_FORK"
for_linux = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")


def tell_parents(shop):
    """Have each node print the ID of the process that has started it."""
    for old in ("    # a comment", "    return [Round()", "    plugin ="):
        new = f"    print('parent', __import__('os').getppid())\n{old}"
        shop.edit("src/shop/nodes.py", old, new)


def count_parents(result):
    told = re.findall(r"parent (\d+)", result.stdout)
    assert len(told) == len(STAGES)
    return len(set(told))


@for_linux
def test_forks(make_shop, monkeypatch):
    started, forked = make_shop("started"), make_shop("forked")
    for shop, value in ((started, ""), (forked, "1")):
        monkeypatch.setenv(FORK, value)
        tell_parents(shop)
        shop.update()
        parents = count_parents(shop.dvc("repro", "-j", 2))
        assert parents == (1 if value else len(STAGES))
        assert shop.read("data/total.json") == "[26.0]"
    assert_same(started, forked)


@for_linux
@pytest.mark.parametrize("value", ["", "1"])
def test_an_edit_between_two_nodes_is_seen(shop, monkeypatch, value):
    monkeypatch.setenv(FORK, value)
    shop.edit(
        "src/shop/nodes.py",
        "    # a comment",
        "    with open('src/shop/base.py', 'a') as file:\n"
        "        file.write('    def limit(self, value): return 7\\n')",
    )
    shop.update()
    result = shop.dvc("repro", "-j", 2, check=False)
    assert result.returncode
    assert "stage 'double' is stale: shop.base" in result.stdout + result.stderr


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("distributed", reason="needs the extra dvc-parallel[dask]")
    cluster = Cluster(tmp_path / "cluster")
    yield cluster
    cluster.close()


@pytest.mark.parametrize("far, value", [(False, ""), (True, "1")])
def test_on_workers(make_shop, tmp_path, cluster, monkeypatch, far, value):
    if far and not can_unshare(tmp_path):
        pytest.skip("may not mount anything here")
    # NOTE: serial runs fork nothing, and commands in clones have the worker's variables
    monkeypatch.setenv(FORK, value)
    folder = tmp_path / "projects"
    folder.mkdir()
    wrapper = in_another_workspace(folder) if far else ()
    cluster.start_worker("one", wrapper=wrapper)
    cluster.wait_for_workers(1)
    serial, parallel = (make_shop(f"projects/{name}") for name in ("s", "p"))
    for shop, options in ((serial, []), (parallel, ["--runner", cluster.runner])):
        shop.dvc("remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
        tell_parents(shop)
        shop.update()
        shop.commit()
        result = shop.dvc("repro", *options)
        assert shop.read("data/total.json") == "[26.0]"
    assert (count_parents(result) < len(STAGES)) == bool(value)
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
