import pytest

from tests.slurm import cluster


@pytest.fixture(scope="session")
def slurm_server():
    if cluster.WHY_NOT:
        pytest.skip(f"Slurm cannot be run here: {cluster.WHY_NOT}")
    server = cluster.Cluster()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def slurm(slurm_server, monkeypatch):
    """A running cluster, and an environment in which it is found."""
    for name, value in slurm_server.env.items():
        monkeypatch.setenv(name, value)
    slurm_server.settle()
    return slurm_server
