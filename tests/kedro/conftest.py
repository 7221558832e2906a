import pytest

from tests.kedro.shop import Shop


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    # NOTE: it has the time of its source in seconds, and would be among what runs leave
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for name in ("KEDRO_ENV", "KEDRO_LOGGING_CONFIG", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_shop(tmp_path):
    """Make a small Kedro project: ``make_shop(name, files)``."""

    def make(name="shop", files=None):
        return Shop(tmp_path / name, files or {})

    return make


@pytest.fixture
def shop(make_shop):
    return make_shop()
