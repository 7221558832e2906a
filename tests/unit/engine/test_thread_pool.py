import threading
import time
from contextlib import contextmanager, nullcontext

import pytest
from dvc.exceptions import DvcException

from dvc_parallel.engine.thread_pool import Workers
from tests import HANGS


def submit(workers, func, *args):
    """As the executor does, for a call that nobody takes over."""
    if is_set_aside := workers.set_aside():
        workers.call(func, *args)
    else:
        workers.call_later(func, *args)
    return is_set_aside


def test_calls_run_side_by_side_and_all_threads_end():
    together = threading.Barrier(3)
    ended = []

    @contextmanager
    def in_thread():
        yield
        ended.append(threading.get_ident())

    with Workers(3, in_thread) as workers:
        for _ in range(6):
            submit(workers, together.wait, 30)
    assert len(set(ended)) == 3
    assert not together.broken


def test_a_thread_that_is_free_is_used_again():
    names = []
    done = threading.Semaphore(0)

    def work():
        names.append(threading.current_thread().name)
        done.release()

    with Workers(8, nullcontext) as workers:
        submit(workers, work)
        assert done.acquire(timeout=HANGS)
        # NOTE: the thread says that it is free right after the call
        while not workers._idle:
            time.sleep(0.01)
        submit(workers, work)
        assert done.acquire(timeout=HANGS)
    assert names == ["dvc-stage-0"] * 2


def test_a_system_that_starts_no_more_threads(monkeypatch):
    done = []
    start = threading.Thread.start

    def fail(thread):
        raise RuntimeError("can't start new thread")

    with Workers(4, nullcontext) as workers:
        monkeypatch.setattr(threading.Thread, "start", fail)
        with pytest.raises(DvcException, match="no stage can run"):
            submit(workers, done.append, 0)
        monkeypatch.setattr(threading.Thread, "start", start)
        submit(workers, done.append, 1)
        monkeypatch.setattr(threading.Thread, "start", fail)
        for number in range(2, 10):
            submit(workers, done.append, number)
    assert done == list(range(1, 10))


def test_a_call_knows_whether_a_thread_is_free_for_it(monkeypatch):
    go = threading.Event()

    def fail(thread):
        raise RuntimeError("can't start new thread")

    with Workers(4, nullcontext) as workers:
        assert submit(workers, go.wait, HANGS)
        monkeypatch.setattr(threading.Thread, "start", fail)
        for _ in range(2):
            assert not submit(workers, lambda: None)
        go.set()
        while not workers._idle:
            time.sleep(0.01)
        assert submit(workers, lambda: None)
        assert not workers._late


def test_a_thread_that_is_set_aside_is_there_for_its_call():
    """Others that wait for a thread do not get it, whatever they wait for."""
    called, late = threading.Event(), threading.Event()

    with Workers(1, nullcontext) as workers:
        assert workers.set_aside()
        workers.call_later(lambda: called.wait(HANGS) and late.set())
        assert not workers.set_aside()
        workers.call(called.set)
        assert late.wait(HANGS)


def test_a_thread_that_is_let_go_is_there_for_others():
    late = threading.Event()
    with Workers(1, nullcontext) as workers:
        assert workers.set_aside()
        workers.call_later(late.set)
        workers.let_go()
        assert late.wait(HANGS)


def test_more_calls_than_threads_are_queued():
    done = []
    with Workers(2, nullcontext) as workers:
        for number in range(50):
            submit(workers, done.append, number)
    assert sorted(done) == list(range(50))
