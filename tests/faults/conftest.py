from multiprocessing import forkserver

import pytest


@pytest.fixture(scope="session", autouse=True)
def _server():
    """Have the server that forks processes before the first test, not from it on."""
    forkserver.ensure_running()
