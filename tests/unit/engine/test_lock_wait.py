import errno
import fcntl
import os
import re
import subprocess
import sys
from unittest.mock import Mock

import pytest
import zc.lockfile
from dvc.exceptions import DvcException
from dvc.lock import HardlinkLock, Lock, LockError

from dvc_parallel.engine import lock_wait, repo_lock
from dvc_parallel.engine.lock_wait import TRY_EVERY, PatientLock, wait_for


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


@pytest.fixture
def at_once(monkeypatch):
    """Have waits look at once who holds a lock."""
    monkeypatch.setattr(lock_wait, "LOOK_EVERY", 0.0)


def test_a_patient_lock_says_so_and_waits(tmp_path, monkeypatch, caplog, at_once):
    holder = Lock(str(tmp_path / "lock"))
    holder.lock()
    inner = Lock(str(tmp_path / "lock"))
    repo = Mock(lock=inner)
    repo.lock = lock = PatientLock(repo)
    original = inner._do_lock
    tries = []

    def try_to_lock():
        tries.append(1)
        if len(tries) == 3:
            holder.unlock()
        original()

    monkeypatch.setattr(inner, "_do_lock", try_to_lock)
    with caplog.at_level("INFO", logger="dvc.parallel"), lock:
        assert lock.is_locked
        # NOTE: a run that waits for it once more says so in its own way
        assert repo.lock is inner
    assert not lock.is_locked
    assert caplog.text.count("Waiting for the repo") == 1


class Clock:
    now = 0.0
    sleeps = 0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.sleeps += 1
        self.now += seconds


class BusyLock(Lock):
    """A lock that another process gives up after some seconds of a clock."""

    def __init__(self, path, clock, until):
        super().__init__(path)
        self.tries = 0
        self._clock = clock
        self._until = until

    def _do_lock(self):
        self.tries += 1
        self._clock.now += 0.5
        if self._clock.now < self._until:
            raise LockError("locked")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def said(monkeypatch):
    said = []
    monkeypatch.setattr(lock_wait, "say", said.append)
    return said


def test_a_wait_says_so_soon_after_ten_seconds_and_each_minute(
    tmp_path, clock, said, monkeypatch
):
    path = tmp_path / "lock"
    path.write_text(f" {os.getpid()}\n")
    lock = BusyLock(str(path), clock, 140)
    monkeypatch.setattr(lock_wait, "say", lambda text: said.append((clock.now, text)))
    wait_for(lock, "the repo", clock=clock, sleep=clock.sleep)
    times, lines = zip(*said)
    assert all(a <= b < a + 2 for a, b in zip((1, 11, 71, 131), times))
    assert lines[0].startswith("Waiting for the repo: ")
    again = [
        re.match(r"Still waiting for the repo \((.*)\): ", line)[1]
        for line in lines[1:]
    ]
    assert again == ["for 11 s", "for 1 min", "for 2 min"]
    for line in lines:
        assert f": process {os.getpid()} (" in line
        assert f"'{path}'" in line
    assert clock.sleeps == lock.tries - 1


def test_a_wait_that_does_not_go_on(tmp_path, clock, said):
    lock = BusyLock(str(tmp_path / "lock"), clock, 1e9)
    with pytest.raises(LockError):
        wait_for(
            lock, "it", goes_on=lambda: clock.now < 20, clock=clock, sleep=clock.sleep
        )
    assert len(said) == 2
    assert clock.now < 20 + 2 * 0.5


def test_ctrl_c_ends_a_wait(tmp_path, clock, said):
    def interrupt(_):
        raise KeyboardInterrupt

    lock = BusyLock(str(tmp_path / "lock"), clock, 1e9)
    with pytest.raises(KeyboardInterrupt):
        wait_for(lock, "it", clock=clock, sleep=interrupt)
    assert lock.tries == 1


LEAVE_A_LOCK = """\
import os, sys
from dvc.lock import HardlinkLock
from dvc_parallel.engine.lock_wait import wait_for
wait_for(HardlinkLock(sys.argv[1], tmp_dir=sys.argv[2]), "it")
print(os.getpid(), flush=True)
os._exit(0)
"""


@pytest.fixture
def left_behind(tmp_path):
    """A hard link of a process that has ended with it."""
    path = str(tmp_path / "lock")
    command = [sys.executable, "-c", LEAVE_A_LOCK, path, str(tmp_path)]
    pid = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return path, pid.strip()


def test_nobody_waits_for_the_dead(tmp_path, left_behind, at_once, said):
    path, pid = left_behind
    lock = HardlinkLock(path, tmp_dir=str(tmp_path))
    with pytest.raises(DvcException, match="cannot lock") as caught:
        wait_for(lock, "the repo")
    assert str(caught.value) == (
        f"cannot lock the repo: process {pid} has ended and left '{path}' behind; "
        "remove that file"
    )
    assert not isinstance(caught.value, LockError)
    assert said == []


def test_who_must_not_give_up_is_helped_on(tmp_path, left_behind, at_once, monkeypatch):
    path, pid = left_behind
    said = []

    def remove(text):
        said.append(text)
        os.unlink(path)

    monkeypatch.setattr(lock_wait, "say", remove)
    lock = HardlinkLock(path, tmp_dir=str(tmp_path))
    wait_for(lock, "the repo", gives_up=False)
    assert len(said) == 1
    assert f"process {pid} has ended and left '{path}' behind" in said[0]
    lock.unlock()


def test_a_hard_link_of_somebody_unknown(tmp_path, clock, said, at_once):
    path = str(tmp_path / "lock")
    holder = HardlinkLock(path, tmp_dir=str(tmp_path))
    holder.lock()
    lock = HardlinkLock(path, tmp_dir=str(tmp_path))

    def sleep(_):
        holder.unlock()

    wait_for(lock, "it", clock=clock, sleep=sleep)
    assert len(said) == 1
    assert "if no DVC process uses the repo, on any host, remove that file" in said[0]
    lock.unlock()


def test_files_that_cannot_be_locked(tmp_path, monkeypatch, at_once, said):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DvcException, match=r"No locks available.*core\.hardlink_lock"):
        wait_for(Lock(str(tmp_path / "lock")), "the repo")
    assert said == []


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_who_locks_a_file_without_writing_to_it(tmp_path, clock, said):
    path = str(tmp_path / "lock")
    with open(path, "w") as fobj:
        fcntl.flock(fobj, fcntl.LOCK_EX)
        lock = BusyLock(path, clock, 10)
        wait_for(lock, "it", clock=clock, sleep=clock.sleep)
    assert f": process {os.getpid()} (" in said[0]


def test_a_folder_that_is_missing_is_not_waited_for(tmp_path):
    folder = str(tmp_path / "missing")
    for kind in (Lock, HardlinkLock):
        with pytest.raises(FileNotFoundError, match="missing"):
            wait_for(kind(os.path.join(folder, "lock"), tmp_dir=folder), "it")


def test_it_can_be_imported_before_dvc_is():
    """DVC has it imported with `dvc.lock`, and it imports that."""
    code = (
        "import dvc_parallel.engine.lock_wait, dvc.lock;"
        "print(dvc.lock.Lock.lock.__wrapped__.__module__)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("dvc.lock\n", "")
