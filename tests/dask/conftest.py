import pytest

pytest.importorskip("distributed", reason="needs the extra dvc-parallel[dask]")

from tests.slurm.conftest import slurm, slurm_server  # noqa: F401
from tests.support.dask_cluster import Cluster


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory):
    """Two workers that no test harms."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start_worker("lab-a", "--resources", "gpu=1")
    cluster.start_worker("lab-b")
    cluster.wait_for_workers(2)
    yield cluster
    cluster.close()


@pytest.fixture
def make_cluster(tmp_path):
    """A cluster of its own for a test."""
    clusters = []

    def make(*workers, host="127.0.0.1", protocol="tcp", **kwargs):
        cluster = Cluster(tmp_path / f"cluster{len(clusters)}", host, protocol)
        clusters.append(cluster)
        for name in workers:
            cluster.start_worker(name, **kwargs)
        if workers:
            cluster.wait_for_workers(len(workers))
        return cluster

    yield make
    for cluster in clusters:
        cluster.close()
