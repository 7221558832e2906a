import errno
import os
import threading

import pytest
from dvc.exceptions import DvcException
from dvc.lock import Lock

from dvc_parallel.engine import lock_wait, repo_lock
from dvc_parallel.engine.repo_lock import SharedRepoLock, Turn
from tests import HANGS


class FakeRepo:
    def __init__(self, lock):
        self.lock = lock
        self.resets = 0

    def _reset(self):
        self.resets += 1


@pytest.fixture
def lock_file(tmp_path):
    return str(tmp_path / "lock")


@pytest.fixture
def repo(lock_file):
    repo = FakeRepo(Lock(lock_file))
    lock = repo.lock
    lock.lock()
    yield repo
    if lock.is_locked:
        lock.unlock()


@pytest.fixture
def shared(repo):
    return SharedRepoLock(repo)


def other_process(lock_file):
    """Another DVC process: same lock file, another object."""
    return Lock(lock_file)


def locked_by_another(lock_file):
    other = other_process(lock_file)
    try:
        other._do_lock()
    except DvcException:
        return True
    other.unlock()
    return False


def test_its_maker_owns_the_repo(shared, lock_file):
    assert shared.is_locked
    assert locked_by_another(lock_file)


def test_is_locked_only_for_the_owner(shared):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(shared.is_locked))
    thread.start()
    thread.join()
    assert seen == [False]


def test_the_file_is_free_when_nobody_wants_the_repo(shared, repo, lock_file):
    shared.unlock()
    assert not shared.is_locked
    assert not locked_by_another(lock_file)
    # NOTE: what was loaded may be outdated from now on
    assert repo.resets == 1


def test_first_come_first_served_and_the_file_stays_locked(shared, lock_file):
    order = []
    turns = [shared.reserve() for _ in range(5)]

    def work(number):
        shared.lock(turns[number])
        order.append((number, locked_by_another(lock_file)))
        shared.release(turns[number])

    threads = [threading.Thread(target=work, args=(i,)) for i in reversed(range(5))]
    for thread in threads:
        thread.start()
    shared.unlock()
    for thread in threads:
        thread.join()
    assert order == [(i, True) for i in range(5)]
    assert not locked_by_another(lock_file)


def test_a_file_that_cannot_be_closed_holds_up_nobody(shared, monkeypatch, caplog):
    unlock = shared._lock.unlock

    def unlock_and_fail():
        unlock()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shared._lock, "unlock", unlock_and_fail)
    shared.unlock()
    assert "cannot close the lock file of the repo: " in caplog.text
    shared.lock()
    monkeypatch.setattr(repo_lock, "MAX_HOLD", 0)
    turn = shared.reserve()
    shared.unlock()
    shared.lock(turn)
    assert shared.is_locked
    monkeypatch.undo()


def test_another_thread_can_release_on_behalf_of_the_owner(shared):
    turn = shared.reserve()
    shared.unlock()
    thread = threading.Thread(target=shared.lock, args=(turn,))
    thread.start()
    thread.join()
    shared.release(turn)
    shared.lock()
    assert shared.is_locked


def test_a_turn_begins_what_it_is_for_when_it_is_granted(shared, lock_file):
    begun = []
    turn = shared.reserve(Turn(lambda: begun.append(1)))
    assert not begun
    shared.unlock()
    assert begun
    shared.lock(turn)
    assert shared.is_locked
    assert locked_by_another(lock_file)
    shared.unlock()
    shared.reserve(Turn(lambda: begun.append(2)))
    assert begun == [1, 2]


def test_who_has_the_repo_takes_the_next_turn_if_nobody_waits_for_it(shared):
    own, *turns = (shared.reserve(turn) for turn in [None, Turn(pytest.fail), None])
    shared.unlock()
    shared.lock(own)
    assert shared.exchange(own) is turns[0]
    shared.lock(turns[0])
    assert shared.is_locked
    assert shared.exchange(turns[0]) is None
    assert not shared.is_locked
    shared.lock(turns[1])
    assert shared.is_locked


def test_unlock_by_somebody_else_is_an_error(shared):
    shared.unlock()
    with pytest.raises(DvcException, match="unlocked lock"):
        shared.unlock()


def test_waits_for_another_process_for_as_long_as_it_takes(
    repo, lock_file, monkeypatch
):
    waiting = threading.Event()
    shared = SharedRepoLock(repo)
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.06)
    monkeypatch.setattr(lock_wait, "say", lambda _: waiting.set())
    shared.unlock()
    other = other_process(lock_file)
    other.lock()

    thread = threading.Thread(target=shared.lock)
    thread.start()
    assert waiting.wait(HANGS)
    assert thread.is_alive()
    other.unlock()
    thread.join(HANGS)
    assert not thread.is_alive()
    assert locked_by_another(lock_file)


def test_does_not_hold_the_file_on_and_on(shared, repo, monkeypatch):
    monkeypatch.setattr(repo_lock, "MAX_HOLD", 0)
    turn = shared.reserve()
    resets = repo.resets
    shared.unlock()
    thread = threading.Thread(target=shared.lock, args=(turn,))
    thread.start()
    thread.join()
    assert repo.resets == resets + 2  # given up, and taken again


def test_stands_in_for_the_lock_of_the_repo(shared, repo, lock_file):
    original = shared._lock
    with shared.shared():
        assert repo.lock is shared
        shared.unlock()
    assert repo.lock is original
    assert original.is_locked
    original.unlock()
    assert not locked_by_another(lock_file)


def test_a_turn_that_could_not_lock_can_be_released(shared, monkeypatch):
    shared.unlock()
    monkeypatch.setattr(shared._lock, "_do_lock", lambda: 1 / 0)
    turn = shared.reserve()
    with pytest.raises(ZeroDivisionError):
        shared.lock(turn)
    shared.release(turn)
    monkeypatch.undo()
    shared.lock()
    assert shared.is_locked


def test_knows_whether_another_process_had_the_lock(repo, lock_file):
    told = []
    shared = SharedRepoLock(repo, before_unlock=lambda: told.append(1))
    with shared.shared():
        shared.unlock()
        shared.lock()
        assert shared.intrusions == 0

        shared.unlock()
        with open(lock_file, "w") as fobj:  # as another process leaves it
            fobj.write(f" {os.getppid()}\n")
        shared.lock()
        assert shared.intrusions == 1
        assert len(told) == 2
    assert len(told) == 3
