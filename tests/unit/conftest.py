import pytest

from dvc_parallel import signature


@pytest.fixture
def time_passes(monkeypatch):
    """Have files look as if they had been left alone for a while."""
    monkeypatch.setattr(signature, "SETTLED", -(10**18))
