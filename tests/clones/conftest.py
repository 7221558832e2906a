import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from dvc_parallel.backport.clone_carrier import perform
from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.processes.supervisor import RunSupervisor
from tests.support.clone_workers import Workers


@pytest.fixture(scope="session")
def workers(tmp_path_factory):
    """Two hosts with a worker each, whose clones stay from test to test."""
    workers = Workers(tmp_path_factory.mktemp("workers"), hosts=2, slots=1)
    yield workers
    workers.close()


@pytest.fixture
def here(tmp_path):
    """Carries requests to a worker that has threads, and knows nothing yet."""
    folder = str(tmp_path / "host")
    runner = LocalRunner(RunSupervisor())
    with closing(runner), ThreadPoolExecutor(4) as worker:
        yield lambda request, show, _job: worker.submit(
            perform, request, folder, show, runner
        ).result()


@pytest.fixture
def with_remote(tmp_path):
    """Give projects a remote, which is a folder; return it."""
    url = tmp_path / "remote"
    config = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {url}\n"

    def add(*projects, more=""):
        for project in projects:
            project.write({".dvc/config": config + more})
        return url

    return add


@pytest.fixture
def commit():
    """Commit all there is in projects, to a branch."""

    def do(*projects):
        for project in projects:
            project.run(["git", "checkout", "-q", "-B", "topic"])
            project.run(["git", "add", "-A"])
            env = {
                f"GIT_{who}_DATE": "2020-01-01T00:00" for who in ("AUTHOR", "COMMITTER")
            }
            project.run(["git", "commit", "-qm", "all"], env={**os.environ, **env})

    return do
