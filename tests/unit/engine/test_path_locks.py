import json
import os
import subprocess
import sys
from contextlib import ExitStack
from unittest.mock import ANY

import pytest
from dvc import rwlock as dvc_rwlock
from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc.lock import Lock, LockError
from dvc.rwlock import rwlock

from dvc_parallel.engine import lock_wait, path_locks
from dvc_parallel.engine.path_locks import PathLocks


@pytest.fixture
def hold(tmp_path, locks):
    def hold(read=(), write=(), cmd="cmd"):
        return locks.hold(str(tmp_path), localfs, cmd, [*read], [*write], False)

    return hold


class RunLocks(PathLocks):
    """Those of a parallel run."""

    def __init__(self):
        super().__init__(lambda: not self.is_over)
        self.is_over = False

    def stop(self):
        self.is_over = True


@pytest.fixture
def run_locks():
    return RunLocks()


@pytest.fixture
def hold_in_a_run(tmp_path, run_locks):
    def hold(read=(), write=()):
        return run_locks.hold(str(tmp_path), localfs, "cmd", [*read], [*write], False)

    return hold


@pytest.fixture
def neighbour(tmp_path):
    """Lock a path as another process that lives."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    info = {"pid": process.pid, "cmd": "neighbour"}

    def lock(**paths):
        (tmp_path / "rwlock").write_text(json.dumps(paths))

    lock.info = info
    yield lock
    process.communicate()


def test_held_until_the_last_stage_leaves(hold, in_file):
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(hold(read=["/a", "/b"], write=["/c"]))
        second.enter_context(hold(read=["/a"]))
        assert in_file() == {"read": ["/a", "/b"], "write": ["/c"]}
        first.close()
        assert in_file() == {"read": ["/a"]}
    assert in_file() == {}


def test_nested_holds_of_one_stage(hold, in_file):
    with hold(read=["/a"], write=["/b"]):
        with hold(read=["/a", "/b"]):
            # NOTE: what is locked for writing, is locked for reading
            assert in_file() == {"read": ["/a"], "write": ["/b"]}
        assert in_file() == {"read": ["/a"], "write": ["/b"]}


def test_a_writer_that_leaves_while_others_read(hold, in_file):
    with ExitStack() as writer, ExitStack() as reader:
        reader.enter_context(hold(read=["/a"]))
        writer.enter_context(hold(write=["/a"]))
        assert in_file() == {"write": ["/a"]}
        writer.close()
        assert in_file() == {"read": ["/a"]}
    assert in_file() == {}


def test_released_after_an_error(hold, in_file):
    with pytest.raises(ZeroDivisionError):
        with hold(write=["/a"]):
            raise ZeroDivisionError
    assert in_file() == {}


def test_the_file_is_in_dvcs_format(hold, tmp_path):
    with hold(read=["/a"], write=["/b"]):
        info = {"pid": os.getpid(), "cmd": "cmd"}
        data = json.loads((tmp_path / "rwlock").read_text())
        assert data == {"read": {"/a": [info]}, "write": {"/b": info}}


def test_the_file_names_a_stage_that_still_needs_the_path(hold, locks, tmp_path):
    def holders():
        locks.flush()
        data = json.loads((tmp_path / "rwlock").read_text())
        return {path: [info["cmd"] for info in data["read"][path]] for path in "ab"}

    with ExitStack() as first, hold(read=["b"], cmd="second"):
        first.enter_context(hold(read=["a", "b"], cmd="first"))
        with hold(read=["a"], cmd="third"):
            assert holders() == {"a": ["first"], "b": ["second"]}
            first.close()
            assert holders() == {"a": ["third"], "b": ["second"]}
    locks.flush()
    assert json.loads((tmp_path / "rwlock").read_text()) == {"write": {}, "read": {}}


def test_another_process_is_kept_out(hold, tmp_path):
    with hold(write=["/a/b"]):
        with pytest.raises(LockError, match="busy"):
            with rwlock(str(tmp_path), localfs, "other", ["/a"], [], False):
                pass


def test_another_process_is_heeded_and_nothing_stays_locked(hold, neighbour, in_file):
    neighbour(write={"/a": neighbour.info}, read={})
    with pytest.raises(LockError, match="busy"):
        with hold(read=["/a"], write=["/b"]):
            pass
    assert in_file() == {"write": ["/a"]}
    with hold(write=["/b"]):
        assert in_file() == {"write": ["/a", "/b"]}


def test_a_file_that_was_removed_by_hand(hold, neighbour, tmp_path):
    neighbour(write={"/a": neighbour.info}, read={})
    with pytest.raises(LockError, match="busy"):
        with hold(read=["/a"]):
            pass
    (tmp_path / "rwlock").unlink()
    with hold(read=["/a"]):
        pass


def test_readers_share(hold, neighbour, in_file):
    neighbour(read={"/a": [neighbour.info]}, write={})
    with hold(read=["/a"]):
        pass
    assert in_file() == {"read": ["/a"]}
    with pytest.raises(LockError, match="busy"):
        with hold(write=["/a"]):
            pass


def test_one_edit_while_the_repo_is_locked(hold, locks, tmp_path, mocker):
    edit = mocker.spy(path_locks, "make_lock")
    for i in range(5):
        with hold(read=["/in"], write=[f"/out/{i}"]):
            with hold(read=["/in"]):
                pass
    assert edit.call_count == 1
    locks.flush()
    assert edit.call_count == 2
    locks.flush()
    assert edit.call_count == 2
    data = json.loads((tmp_path / "rwlock").read_text())
    assert data == {"read": {}, "write": {}}


def test_what_is_refused_loses_nothing(hold, locks, neighbour, in_file):
    with hold(write=["/b"]):
        pass
    locks.flush()
    neighbour(write={"/a": neighbour.info}, read={})
    with hold(write=["/b"]):
        pass
    # what was held before is released, with the next change of the file
    with pytest.raises(LockError, match="busy"):
        with hold(read=["/a"], write=["/c"]):
            pass
    assert in_file() == {"write": ["/a"]}


def test_what_others_hold_is_heeded_while_the_repo_is_locked(hold, neighbour, in_file):
    neighbour(write={}, read={"/a": [neighbour.info]})
    with hold(read=["/a"]):
        with pytest.raises(LockError, match="busy"):
            with hold(write=["/a", "/b"]):
                pass
        with hold(write=["/c"]):
            assert in_file() == {"read": ["/a"], "write": ["/c"]}


def test_what_others_hold_is_read_again_with_the_next_lock_of_the_repo(
    hold, locks, neighbour
):
    with hold(write=["/b"]):
        pass
    locks.flush()
    neighbour(write={"/a": neighbour.info}, read={})
    with pytest.raises(LockError, match="busy"):
        with hold(read=["/a"]):
            pass


def test_a_path_that_is_held_again_stays(hold, locks, in_file):
    with hold(write=["/a"]):
        pass
    with hold(read=["/a"]):
        assert in_file() == {"read": ["/a"]}
    with hold(write=["/a"]):
        assert in_file() == {"write": ["/a"]}
    assert in_file() == {}


@pytest.fixture
def guard(tmp_path, monkeypatch):
    """The guard of the file, as another process locks it."""
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.05)
    guard = Lock(str(tmp_path / "rwlock.lock"))
    yield guard
    if guard.is_locked:
        guard.unlock()


def test_flush_waits_for_the_guard_and_says_so(hold, locks, in_file, guard, mocker):
    with hold(write=["/a"]):
        pass
    guard.lock()
    say = mocker.patch.object(lock_wait, "say", side_effect=lambda _: guard.unlock())
    locks.flush()
    assert in_file() == {}
    (text,) = say.call_args[0]
    assert text.startswith(f"Waiting for the path locks: process {os.getpid()} (")


def test_flush_ends_when_the_run_does(hold_in_a_run, run_locks, guard, mocker, caplog):
    with hold_in_a_run(write=["/a"]):
        pass
    guard.lock()
    mocker.patch.object(lock_wait, "say", side_effect=lambda _: run_locks.stop())
    run_locks.flush()
    assert "cannot release path locks" in caplog.text


def test_a_stage_of_a_run_waits_for_the_guard(hold, hold_in_a_run, guard, mocker):
    guard.lock()
    with pytest.raises(LockError), hold(write=["/a"]):
        pass
    mocker.patch.object(lock_wait, "say", side_effect=lambda _: guard.unlock())
    with hold_in_a_run(write=["/a"]):
        assert not guard.is_locked


def test_flush_leaves_what_others_have_taken_to_them(
    hold, locks, neighbour, tmp_path, caplog
):
    """After the file was removed by hand, as DVC's message says it can be."""
    with hold(read=["/a"], write=["/b"]):
        with hold(write=["/a"]):
            locks.flush()
            neighbour(read={}, write={"/a": neighbour.info})
        locks.flush()
        data = json.loads((tmp_path / "rwlock").read_text())
        assert data == {"read": {}, "write": {"/a": neighbour.info, "/b": ANY}}
        with hold(read=["/a"]):
            pass
        locks.flush()
    locks.flush()
    data = json.loads((tmp_path / "rwlock").read_text())
    assert data == {"read": {}, "write": {"/a": neighbour.info}}
    assert caplog.text.count("was removed or changed") == 1
    assert str(neighbour.info["pid"]) in caplog.text


@pytest.mark.parametrize("text", ["{", '{"read": 1}'])
def test_flush_leaves_a_broken_file_to_the_next_stage(hold, locks, tmp_path, text):
    with hold(write=["/a"]):
        pass
    (tmp_path / "rwlock").write_text(text)
    locks.flush()
    with pytest.raises(DvcException, match="RWLock"):
        with hold(read=["/b"]):
            pass
    (tmp_path / "rwlock").unlink()
    locks.flush()
    with hold(read=["/b"]):
        pass


def test_the_mode_of_the_file_stays(hold, tmp_path):
    (tmp_path / "rwlock").write_text("{}")
    (tmp_path / "rwlock").chmod(0o664)
    with hold(write=["/a"]):
        assert (tmp_path / "rwlock").stat().st_mode & 0o777 == 0o664


def test_what_others_change_meanwhile_stays(hold, neighbour, tmp_path, in_file):
    with hold(read=["/a"]):
        data = json.loads((tmp_path / "rwlock").read_text())
        data["read"]["/a"].append(neighbour.info)
        data["write"]["/n"] = neighbour.info
        neighbour(**data)
        with hold(write=["/b"]):
            assert in_file() == {"read": ["/a"], "write": ["/b", "/n"]}
    assert in_file() == {"read": ["/a"], "write": ["/n"]}
    found = json.loads((tmp_path / "rwlock").read_text())
    assert found == {"read": {"/a": [neighbour.info]}, "write": {"/n": neighbour.info}}


def test_locks_of_a_process_that_has_died_are_removed(hold, tmp_path, in_file):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = {"pid": process.pid, "cmd": "dead"}
    text = json.dumps({"write": {"/a": dead, "/b": dead}, "read": {"/c": [dead]}})
    (tmp_path / "rwlock").write_text(text)
    with hold(read=["/a"], write=["/c"]):
        assert in_file() == {"read": ["/a"], "write": ["/b", "/c"]}
    assert in_file() == {"write": ["/b"]}


@pytest.mark.parametrize(
    "text, error",
    [
        ("{", dvc_rwlock.RWLockFileCorruptedError),
        ("", dvc_rwlock.RWLockFileCorruptedError),
        ('{"read": 1}', dvc_rwlock.RWLockFileFormatError),
    ],
)
def test_a_file_that_cannot_be_read(hold, tmp_path, text, error):
    (tmp_path / "rwlock").write_text(text)
    with pytest.raises(error):
        with hold(read=["/a"]):
            pass


def entry(pid):
    return f'{{"write": {{"/a": {{"pid": {pid}, "cmd": "x"'


@pytest.mark.parametrize("text", [b"", b"{", b"\0" * 80, b'{"\xff', entry(0).encode()])
def test_what_a_power_cut_has_left_is_replaced(
    hold, hold_in_a_run, tmp_path, caplog, text
):
    path = tmp_path / "rwlock"
    path.write_bytes(text)
    with hold_in_a_run(read=["/a"], write=["/b"]):
        data = json.loads(path.read_text())
        assert sorted([*data["read"], *data["write"]]) == ["/a", "/b"]
    run = caplog.text
    assert run.count(f"'{path}' is damaged") == len(caplog.records) == 1

    # NOTE: one job is today's DVC
    path.write_bytes(text)
    with pytest.raises(dvc_rwlock.RWLockFileCorruptedError) as caught:
        with hold(read=["/a"]):
            pass
    assert str(caught.value) == str(dvc_rwlock.RWLockFileCorruptedError(str(path)))
    assert path.read_bytes() == text


def test_what_the_living_may_have_written_is_not_replaced(
    hold_in_a_run, neighbour, tmp_path, caplog
):
    path = tmp_path / "rwlock"
    pid = neighbour.info["pid"]
    path.write_text(entry(pid))
    with pytest.raises(
        dvc_rwlock.RWLockFileCorruptedError, match=rf"process \({pid}\)"
    ):
        with hold_in_a_run(read=["/a"]):
            pass
    assert path.read_text() == entry(pid)

    # a process of that number that began when the file was there
    os.utime(path, (1e9, 1e9))
    with hold_in_a_run(read=["/a"]):
        pass
    assert "is damaged" in caplog.text


def test_what_is_of_another_format_is_an_error_that_says_what_to_do(
    hold_in_a_run, tmp_path
):
    path = tmp_path / "rwlock"
    path.write_text('{"read": 1}')
    with pytest.raises(
        dvc_rwlock.RWLockFileFormatError, match=r"format error\. .*, remove it and try"
    ):
        with hold_in_a_run(read=["/a"]):
            pass
    assert path.read_text() == '{"read": 1}'


def test_many_paths_do_not_make_others_slow(hold, mocker):
    localfs = dvc_rwlock.localfs
    if not hasattr(localfs, "overlaps"):  # in older dvc-objects, paths have it
        localfs = localfs.path
    check = mocker.spy(localfs, "overlaps")
    with hold(read=[f"/in/{i}" for i in range(1000)]):
        for i in range(10):
            with hold(read=["/in/1"], write=[f"/out/{i}"]):
                pass
    assert check.call_count == 0


def test_two_runs_of_one_process(hold, locks, tmp_path, in_file):
    other = PathLocks()
    with hold(read=["/a"], write=["/b"]):
        args = (str(tmp_path), localfs, "cmd", ["/a", "/c"], ["/d"], False)
        with other.hold(*args):
            with hold(read=["/c"]):
                pass
            locks.flush()
            assert in_file() == {"read": ["/a", "/c"], "write": ["/b", "/d"]}
        other.flush()
        assert in_file() == {"read": ["/a"], "write": ["/b"]}
        with other.hold(*args):
            pass
    locks.flush()
    assert in_file() == {"read": ["/a", "/c"], "write": ["/d"]}
    other.flush()
    assert in_file() == {}


def test_a_read_that_fails_leaves_nothing(hold, locks, neighbour, mocker):
    with hold(read=["/a"]):
        pass
    locks.flush()
    neighbour(write={"/b": neighbour.info})
    failing = mocker.patch.object(path_locks, "_read", side_effect=OSError("no"))
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            with hold(read=["/b"]):
                pass
    mocker.stop(failing)
    with pytest.raises(LockError):
        with hold(read=["/b"]):
            pass
