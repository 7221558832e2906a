import errno
from unittest.mock import Mock

import pytest
import zc.lockfile
from dvc.lock import Lock, LockError

from dvc_parallel import repo_lock
from dvc_parallel.patience import TRY_EVERY, PatientLock


def test_a_pause_is_long_enough_for_those_who_try():
    assert TRY_EVERY < repo_lock.PAUSE / 2


def test_tries_often_and_then_as_dvc_does(tmp_path, monkeypatch):
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.12)
    holder, other = (Lock(str(tmp_path / "lock")) for _ in range(2))
    holder.lock()
    tries = []
    monkeypatch.setattr(other, "_do_lock", lambda: tries.append(1) or fail())
    with pytest.raises(LockError):
        other.lock()
    # NOTE: seven are DVC's own
    assert len(tries) > 7
    monkeypatch.undo()
    holder.unlock()
    other.lock()
    assert other.is_locked


def fail():
    raise LockError("locked")


def test_a_lock_that_cannot_be_written(tmp_path, monkeypatch):
    def fail(lock):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = str(tmp_path / "lock")
    monkeypatch.setattr(zc.lockfile.LockFile, "_on_lock", fail)
    lock = Lock(path)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'") as info:
        lock.lock()
    assert info.value.errno == errno.ENOSPC
    lock.unlock()  # says nothing

    monkeypatch.undo()
    Lock(path)._do_lock()


def test_a_lock_file_that_cannot_be_closed(tmp_path, monkeypatch):
    path = str(tmp_path / "lock")
    lock = Lock(path)
    lock.lock()
    close = lock._lock.close

    def close_and_fail():
        close()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock._lock, "close", close_and_fail)
    with pytest.raises(OSError, match=f"Input/output error: '{path}'") as info:
        lock.unlock()
    assert info.value.errno == errno.EIO
    assert not lock.is_locked
    lock.unlock()  # says nothing
    lock.lock()
    assert lock.is_locked


def test_a_patient_lock_says_so_and_waits(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.06)
    holder = Lock(str(tmp_path / "lock"))
    holder.lock()
    inner = Lock(str(tmp_path / "lock"))
    repo = Mock(lock=inner)
    repo.lock = lock = PatientLock(repo)
    original = inner.lock
    tries = []

    def try_to_lock():
        tries.append(1)
        if len(tries) == 3:
            holder.unlock()
        original()

    monkeypatch.setattr(inner, "lock", try_to_lock)
    with caplog.at_level("INFO", logger="dvc.parallel"), lock:
        assert lock.is_locked
        # NOTE: a run that waits for it once more says so in its own way
        assert repo.lock is inner
    assert not lock.is_locked
    assert caplog.text.count("waiting for it") == 1
