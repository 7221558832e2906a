import json
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest
from dvc import rwlock as dvc_rwlock
from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc.lock import LockError
from dvc.rwlock import rwlock

from dvc_parallel import path_locks
from dvc_parallel.path_locks import PathLocks


@pytest.fixture
def locks():
    return PathLocks()


@pytest.fixture
def hold(tmp_path, locks):
    def hold(read=(), write=(), cmd="cmd"):
        return locks.hold(str(tmp_path), localfs, cmd, [*read], [*write], False)

    return hold


@pytest.fixture
def in_file(tmp_path, locks):
    def in_file():
        locks.flush()
        data = json.loads((tmp_path / "rwlock").read_text())
        return {mode: sorted(paths) for mode, paths in data.items() if paths}

    return in_file


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


def test_one_edit_from_stage_to_stage(hold, locks, tmp_path, mocker):
    edit = mocker.spy(path_locks, "make_lock")
    for i in range(5):
        with hold(read=["/in"], write=[f"/out/{i}"]):
            with hold(read=["/in"]):
                pass
    assert edit.call_count == 5
    locks.flush()
    assert edit.call_count == 6
    locks.flush()
    assert edit.call_count == 6
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


def test_a_path_that_is_held_again_stays(hold, locks, in_file):
    with hold(write=["/a"]):
        pass
    with hold(read=["/a"]):
        assert in_file() == {"read": ["/a"]}
    with hold(write=["/a"]):
        assert in_file() == {"write": ["/a"]}
    assert in_file() == {}


def test_flush_waits_for_the_guard(hold, locks, in_file, mocker):
    with hold(write=["/a"]):
        pass
    make_lock = path_locks.make_lock
    errors = iter([LockError("busy")])

    def guard(*args, **kwargs):
        for error in errors:
            raise error
        return make_lock(*args, **kwargs)

    mocker.patch.object(path_locks, "make_lock", guard)
    locks.flush()
    assert in_file() == {}


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
