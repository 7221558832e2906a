import pytest

from dvc_parallel.engine import file_stamp


@pytest.fixture
def time_passes(monkeypatch):
    """Have files look as if they had been left alone for a while."""
    monkeypatch.setattr(file_stamp, "SETTLED", -(10**18))
