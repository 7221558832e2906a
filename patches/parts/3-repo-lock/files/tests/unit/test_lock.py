import pytest

from dvc.lock import RETRY_DELAY, Lock, LockError
from dvc.repo.shared_lock import PAUSE


def test_pause_is_long_enough_for_those_who_try():
    assert RETRY_DELAY < PAUSE / 2


def test_tries_for_as_long_as_before(tmp_path, mocker):
    sleep = mocker.patch("time.sleep")
    lock, other = (Lock(tmp_path / "lock") for _ in range(2))

    with lock, pytest.raises(LockError, match="Unable to acquire lock"):
        other.lock()

    slept = sum(call.args[0] for call in sleep.call_args_list)
    assert slept == pytest.approx(3)
    other.lock()
    assert other.is_locked
    other.unlock()
