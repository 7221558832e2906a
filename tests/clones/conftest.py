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
    """Give projects a remote, which is a folder."""

    def add(*projects):
        for project in projects:
            url = tmp_path / f"remote of {project.path.name}"
            project.write(
                {
                    ".dvc/config": "[core]\n    remote = store\n"
                    f"['remote \"store\"']\n    url = {url}\n"
                }
            )

    return add
