import pytest

from .workers import Workers


@pytest.fixture
def make_workers(tmp_path):
    made = []

    def make(name="workers", **kwargs):
        workers = Workers(tmp_path / name, **kwargs)
        made.append(workers)
        return workers

    yield make
    for workers in made:
        workers.close()


@pytest.fixture
def with_remote(tmp_path):
    """Give projects a remote, which is a folder; return it."""
    url = tmp_path / "remote"
    config = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {url}\n"

    def add(*projects):
        for project in projects:
            project.write({".dvc/config": config})
        return url

    return add
