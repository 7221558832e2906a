"""When ``dvc-parallel repro --watch`` takes a change for whole."""

import pytest

from dvc_parallel.commands import repro_watch

watchfiles = pytest.importorskip("watchfiles", reason="needs the extra 'watch'")

BEFORE = {"a": b"1", "b": b"1"}
GOES_ON = {"a": b"12", "b": b"1"}
DONE = {"a": b"123", "c": b"1"}
# What the watcher tells.
CHANGE, NOTHING = {("modified", "a")}, set()


@pytest.fixture
def wait(monkeypatch):
    """Wait for a change, by what a look finds each time, and what the watcher tells."""

    def start(looks, *told):
        looks, told = iter(looks), iter(told)

        class Files:
            def look(self):
                return next(looks), {"folder"}

        def watch(*_args, **_kwargs):
            for it in next(told):
                if isinstance(it, Exception):
                    raise it
                yield it

        monkeypatch.setattr(watchfiles, "watch", watch)
        changed = repro_watch._wait_for_change(Files(), BEFORE)
        assert not [*looks]
        return changed

    return start


def test_a_change_goes_on_until_two_looks_find_the_same(wait):
    looks = [BEFORE, BEFORE, GOES_ON, DONE, DONE]
    told = [NOTHING, NOTHING, CHANGE, CHANGE, NOTHING]
    assert wait(looks, told) == ["a", "b", "c"]


def test_a_change_before_there_was_the_watcher(wait):
    assert wait([GOES_ON, GOES_ON], [NOTHING]) == ["a"]


def test_what_is_taken_back_is_no_change(wait):
    looks = [BEFORE, BEFORE, GOES_ON, BEFORE, DONE, DONE]
    told = [NOTHING, CHANGE, CHANGE, NOTHING, CHANGE, NOTHING]
    assert wait(looks, told) == ["a", "b", "c"]


def test_a_folder_that_has_just_been_removed(wait):
    gone = FileNotFoundError("no folder")
    assert wait([BEFORE, DONE, DONE], [gone], [CHANGE]) == ["a", "b", "c"]
