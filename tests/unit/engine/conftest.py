import pytest

from dvc_parallel.engine import lockfile_text


@pytest.fixture(scope="module", autouse=True)
def small_parts():
    """Have the text of a dvc.lock with a few entries consist of several parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lockfile_text, "PART", 2)
        yield
