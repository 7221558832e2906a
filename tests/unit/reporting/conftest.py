import pytest


class Clock:
    """Tells the time that a test has set."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()
