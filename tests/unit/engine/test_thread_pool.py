import threading
import time

import pytest
from dvc.exceptions import DvcException

from dvc_parallel.engine.thread_pool import Workers
from tests import HANGS


def test_calls_run_side_by_side_and_all_threads_end():
    together = threading.Barrier(3)
    ended = []
    with Workers(3, at_end=lambda: ended.append(threading.get_ident())) as workers:
        for _ in range(6):
            workers.submit(together.wait, 30)
    assert len(set(ended)) == 3
    assert not together.broken


def test_a_thread_that_is_free_is_used_again():
    names = []
    done = threading.Semaphore(0)

    def work():
        names.append(threading.current_thread().name)
        done.release()

    with Workers(8, at_end=lambda: None) as workers:
        workers.submit(work)
        assert done.acquire(timeout=HANGS)
        # NOTE: the thread says that it is free right after the call
        while not workers._idle:
            time.sleep(0.01)
        workers.submit(work)
        assert done.acquire(timeout=HANGS)
    assert names == ["dvc-stage-0"] * 2


def test_a_system_that_starts_no_more_threads(monkeypatch):
    done = []
    start = threading.Thread.start

    def fail(thread):
        raise RuntimeError("can't start new thread")

    with Workers(4, at_end=lambda: None) as workers:
        monkeypatch.setattr(threading.Thread, "start", fail)
        with pytest.raises(DvcException, match="no stage can be run"):
            workers.submit(done.append, 0)
        monkeypatch.setattr(threading.Thread, "start", start)
        workers.submit(done.append, 1)
        monkeypatch.setattr(threading.Thread, "start", fail)
        for number in range(2, 10):
            workers.submit(done.append, number)
    assert done == list(range(1, 10))


def test_a_call_knows_whether_a_thread_is_free_for_it(monkeypatch):
    free = []
    go = threading.Event()

    def fail(thread):
        raise RuntimeError("can't start new thread")

    with Workers(4, at_end=lambda: None) as workers:
        workers.submit(go.wait, 30, if_free=lambda: free.append(0))
        monkeypatch.setattr(threading.Thread, "start", fail)
        for _ in range(2):
            workers.submit(lambda: None, if_free=lambda: free.append(1))
        go.set()
        while not workers._idle:
            time.sleep(0.01)
        workers.submit(lambda: None, if_free=lambda: free.append(2))
        assert workers._late == 0
    assert free == [0, 2]


def test_more_calls_than_threads_are_queued():
    done = []
    with Workers(2, at_end=lambda: None) as workers:
        for number in range(50):
            workers.submit(done.append, number)
    assert sorted(done) == list(range(50))
