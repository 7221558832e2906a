import pytest
from dvc.lock import Lock, LockError

from dvc_parallel import repo_lock
from dvc_parallel.patience import TRY_EVERY


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
