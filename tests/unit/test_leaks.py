import os
import subprocess
import sys
import threading

import pytest

from tests.support import leaks

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(leaks, "PATIENCE", 0.0)


def test_a_descriptor():
    before = leaks.held()
    fd = os.open(os.devnull, os.O_RDONLY)
    assert leaks.leaked(before) == {"descriptors": {(fd, os.devnull)}}
    os.close(fd)
    assert not leaks.leaked(before)


def test_a_thread():
    before = leaks.held()
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    assert leaks.leaked(before) == {"threads": {thread}}
    end.set()
    thread.join()
    assert not leaks.leaked(before)


def test_a_child():
    before = leaks.held()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        (process,) = leaks.leaked(before)["child processes"]
        assert process.pid == child.pid
    assert not leaks.leaked(before)
