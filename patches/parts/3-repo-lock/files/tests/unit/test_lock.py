import errno

import pytest
import zc.lockfile

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


# NOTE: zc.lockfile leaves the file to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_file_that_cannot_be_written(tmp_path, mocker):
    fail = OSError(errno.ENOSPC, "No space left on device")
    on_lock = mocker.patch.object(zc.lockfile.LockFile, "_on_lock", side_effect=fail)
    lock, other = (Lock(tmp_path / "lock") for _ in range(2))

    with pytest.raises(OSError, match="No space left on device") as exc_info:
        lock.lock()

    lock.unlock()  # says nothing
    mocker.stop(on_lock)
    other.lock()
    other.unlock()
    assert exc_info.value is fail
