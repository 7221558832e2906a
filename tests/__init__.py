"""Tests.  They wait for what happens, not for time to pass."""

import time

import psutil
import pytest

pytest.register_assert_rewrite("tests.support")

# Seconds after which what has not happened never will: more than the slowest machine
# takes for anything that a test waits for.
HANGS = 1200.0


def wait_until(condition, what="") -> None:
    """Wait until something holds; it fails where that hangs."""
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def is_alive(process) -> bool:
    """Whether a process, or the one with that ID, has not ended.

    One that nobody has waited for yet has ended.
    """
    try:
        if isinstance(process, int):
            process = psutil.Process(process)
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
