import json
import os
import subprocess
import sys

import pytest
from dvc.fs import localfs
from dvc.lock import LockError

from dvc_parallel.engine.stage_paths import PathsBusyError, StagePaths
from dvc_parallel.scheduling.path_waits import LOOK, PathWaits


@pytest.fixture
def holder():
    """Another process that lives, until it is told to end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    yield process
    process.communicate()


@pytest.fixture
def locked(tmp_path):
    """Lock paths as some process, which is another one that lives by default."""

    def locked(pid, **paths):
        info = {"pid": pid, "cmd": "neighbour"}
        forms = {"read": [info], "write": info}
        data = {mode: dict.fromkeys(p, forms[mode]) for mode, p in paths.items()}
        (tmp_path / "rwlock").write_text(json.dumps(data))

    return locked


@pytest.fixture
def hold(tmp_path, locks):
    def make(looks_first=True):
        job = StagePaths(locks, looks_first)

        def hold(read=(), write=()):
            return job.hold(str(tmp_path), localfs, "cmd", [*read], [*write], False)

        return hold

    return make


def test_looks_first_and_writes_then(hold, in_file, locks):
    job = hold()
    with job(["/in"], ["/out"]):
        assert in_file() == {"read": ["/in", "/out"]}
        with job(["/in", "/out"]):
            assert in_file() == {"read": ["/in", "/out"]}
        with job(write=["/out"]):
            assert in_file() == {"read": ["/in"], "write": ["/out"]}
        locks.flush()
        # what it has written is not done yet
        assert in_file() == {"read": ["/in"], "write": ["/out"]}
    locks.flush()
    assert in_file() == {}
    with job(["/in"], ["/out"]):  # another attempt
        assert in_file() == {"read": ["/in", "/out"]}


def test_paths_are_locked_by_all_names(tmp_path, locks, in_file):
    job = StagePaths(locks, True, {"/link/out": ["/out"], "/link/in": ["/in"]})

    def hold(read=(), write=()):
        return job.hold(str(tmp_path), localfs, "cmd", [*read], [*write], False)

    with hold(["/link/in"], ["/link/out"]), hold(write=["/link/out"]):
        assert in_file() == {
            "read": ["/in", "/link/in"],
            "write": ["/link/out", "/out"],
        }


def test_writes_at_once(hold, in_file):
    with hold(looks_first=False)(["/in"], ["/out"]):
        assert in_file() == {"read": ["/in"], "write": ["/out"]}


def test_who_only_looks_is_not_kept_by_readers(hold, locked, holder):
    locked(holder.pid, read=["/out"])
    with hold()(["/in"], ["/out"]):
        pass


@pytest.mark.parametrize("looks_first", [True, False])
def test_who_writes_gives_up_all_where_others_read(
    hold, locks, locked, holder, in_file, looks_first
):
    locked(holder.pid, read=["/out"])
    job = hold(looks_first)

    def write():
        with job(["/in"], ["/out"]), job(write=["/out"]):
            pytest.fail("it is in use")

    with pytest.raises(PathsBusyError, match="'/out' is busy") as caught:
        write()
    assert (caught.value.read, caught.value.write) == (["/in"], ["/out"])
    locks.flush()
    assert in_file() == {"read": ["/out"]}


def test_who_looks_waits_for_those_who_write(hold, locked, holder):
    locked(holder.pid, write=["/in"])
    with pytest.raises(PathsBusyError) as caught:
        with hold()(["/in"], ["/out"]):
            pytest.fail("it is in use")
    assert (caught.value.read, caught.value.write) == (["/in", "/out"], [])


def test_an_error_once_something_was_written(hold, locks, locked, holder):
    job = hold()

    def write():
        with job([], ["/out"]), job([], ["/out"]):
            locks.flush()
            locked(holder.pid, write=["/else"])
            with job(["/else"]):
                pytest.fail("it is in use")

    with pytest.raises(LockError) as caught:
        write()
    assert not isinstance(caught.value, PathsBusyError)


def test_an_error_where_an_ancestor_has_it(hold, locked):
    locked(os.getppid(), write=["/in"])
    with pytest.raises(LockError) as caught:
        with hold()(["/in"], ["/out"]):
            pytest.fail("it is in use")
    assert not isinstance(caught.value, PathsBusyError)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now

    def tick(self, seconds=LOOK):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


class Waits(PathWaits):
    """Path waits that keep what the user is told."""

    def __init__(self, *args):
        self.told = []
        super().__init__(*args[:2], lambda *text: self.told.append(text), *args[2:])

    def free(self):
        return [event.stage for event in self.events()]


@pytest.fixture
def waits(tmp_path, clock):
    return Waits(str(tmp_path), localfs, clock)


def busy(read=(), write=()):
    return PathsBusyError("who\n\nwhat to do", [*read], [*write])


def test_waits_until_the_path_is_free(waits, clock, locked, holder):
    assert waits.due() is None
    locked(holder.pid, read=["/a"], write=["/b"])
    waits.add(1, busy(write=["/a"]))
    waits.add(2, busy(read=["/b"]))
    assert waits.told == [(1, "who\n\nwhat to do"), (2, "who")]
    assert waits.due() == LOOK
    assert waits.free() == []
    clock.tick()
    assert waits.due() == 0
    assert waits.free() == []
    assert waits.due() == LOOK
    locked(holder.pid, read=["/a"])
    assert waits.free() == []  # not yet
    clock.tick()
    assert waits.free() == [2]
    waits.add(2, busy())
    assert len(waits.told) == 2  # it was told before
    os.unlink(os.path.join(waits._tmp_dir, "rwlock"))
    clock.tick()
    assert waits.free() == [1, 2]
    assert waits.due() is None


def test_who_has_died_is_not_waited_for(waits, clock, locked, holder):
    locked(holder.pid, write=["/a"])
    waits.add(1, busy(read=["/a"]))
    clock.tick()
    assert waits.free() == []
    holder.communicate()
    clock.tick()
    assert waits.free() == [1]


def test_what_has_not_changed_is_not_looked_through_again(
    waits, clock, locked, holder, mocker
):
    locked(holder.pid, write=["/a"])
    check = mocker.spy(waits._file, "check")
    waits.add(1, busy(read=["/a"]))
    for _ in range(5):
        clock.tick()
        assert waits.free() == []
    assert check.call_count == 1
    waits.add(2, busy(read=["/b"]))
    clock.tick()
    assert waits.free() == [2]


def test_who_cannot_be_told_tries_again(waits, clock, tmp_path):
    (tmp_path / "rwlock").write_text("{")
    waits.add(1, busy(read=["/a"]))
    clock.tick()
    assert waits.free() == [1]


def test_says_again_what_it_waits_for(waits, clock, locked, holder):
    locked(holder.pid, write=["/a", "/b"])
    for stage in (1, 2, 3):
        waits.add(stage, busy(read=["/a"]))
    told = []
    for second in range(1, 200):
        waits.told.clear()
        clock.tick(1)
        assert waits.free() == []
        told += [(second, *reminder) for reminder in waits.told]
    assert told == [
        (10, 1, "for 10 s now, with 2 more: who"),
        (70, 1, "for 1 min now, with 2 more: who"),
        (130, 1, "for 2 min now, with 2 more: who"),
        (190, 1, "for 3 min now, with 2 more: who"),
    ]


def test_what_the_outermost_call_has_is_not_locked_again(hold, locks, in_file, mocker):
    spy = mocker.spy(locks, "hold")
    held = hold(looks_first=False)
    with held(["/dep"], ["/out"]):
        assert spy.call_count == 1
        with held(["/dep", "/out"]), held(write=["/out"]):
            assert spy.call_count == 1
        with held(write=["/dep"]):  # what it had for reading only
            assert spy.call_count == 2
            assert in_file() == {"write": ["/dep", "/out"]}
        assert spy.call_count == 2
    with held(["/dep"]):
        assert spy.call_count == 3


def test_a_stage_that_cannot_wait_gets_the_error_of_dvc(tmp_path, locks, locked):
    locked(1, write=["/out"])
    paths = StagePaths(locks, looks_first=False, goes_back=False)
    with pytest.raises(LockError) as caught:
        with paths.hold(str(tmp_path), localfs, "cmd", [], ["/out"], False):
            pass
    assert not isinstance(caught.value, PathsBusyError)
