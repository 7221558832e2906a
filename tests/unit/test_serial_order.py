import os
from functools import partial
from itertools import permutations

import pytest
from dvc.fs import localfs
from dvc.utils.serialize import load_yaml, modify_yaml
from scmrepo.git import Git

from dvc_parallel.lockfile import Lockfiles
from dvc_parallel.serial_order import SerialOrder

NAMES = ["d", "a", "c", "b"]


def record(path, name, modify=modify_yaml, value="x"):
    with modify(path) as data:
        if not data:
            data.update({"schema": "2.0"})
        data["stages"] = data.get("stages", {})
        data["stages"].update({name: {"cmd": value}})


@pytest.fixture
def lock(tmp_path):
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    return str(tmp_path / "dvc.lock")


def read(path):
    with open(path) as fobj:
        return fobj.read()


@pytest.mark.parametrize("known", [[], ["c"], ["a", "z"]])
@pytest.mark.parametrize("finished", list(permutations(range(4))))
def test_lockfile_in_serial_order(tmp_path, lock, known, finished):
    for name in known:
        record(lock, name, value="old")
    before = read(lock) if known else None
    for name in NAMES:
        record(lock, name)
    expected = read(lock)

    if before is None:
        os.unlink(lock)
    else:
        (tmp_path / "dvc.lock").write_text(before)
    order = SerialOrder(str(tmp_path), Lockfiles(str(tmp_path)))
    for rank in finished:
        modify = partial(order.modify_lockfile, fs=None, rank=rank)
        record(lock, NAMES[rank], modify)
    assert read(lock) == expected


def test_entries_of_other_processes_stay(tmp_path, lock):
    order = SerialOrder(str(tmp_path), Lockfiles(str(tmp_path)))
    record(lock, "z", partial(order.modify_lockfile, fs=None, rank=5))
    record(lock, "other")
    record(lock, "a", partial(order.modify_lockfile, fs=None, rank=1))
    assert list(load_yaml(lock)["stages"]) == ["a", "z", "other"]


def test_any_path_and_what_takes_a_round_trip(tmp_path, lock):
    order = SerialOrder(str(tmp_path), Lockfiles(str(tmp_path)))
    with order.modify_lockfile(tmp_path / "dvc.lock", localfs, 0) as data:
        data.update({"schema": "2.0", "datasets": [], "stages": {}})
    assert load_yaml(lock)["datasets"] == []


def test_lockfile_is_untouched_after_an_error(tmp_path, lock):
    record(lock, "a")
    before = read(lock)
    order = SerialOrder(str(tmp_path), Lockfiles(str(tmp_path)))
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        with order.modify_lockfile(lock, None, 0) as data:
            data["stages"]["b"] = 1
            raise ZeroDivisionError
    assert read(lock) == before


@pytest.mark.parametrize(
    "before", [None, b"", b"/z\n", b"# a comment\n/z", b"/z\r\n", b"# caf\xe9\n/z\n"]
)
@pytest.mark.parametrize("finished", list(permutations(range(4))))
def test_gitignore_in_serial_order(tmp_path, before, finished):
    append = Git(str(make_repo(tmp_path)))._add_entry_to_gitignore
    path = tmp_path / ".gitignore"

    def start():
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)

    start()
    entries = [f"/{name}{i}" for name in NAMES for i in (1, 0)]
    for entry in entries:
        append(entry, str(path))
    expected = path.read_bytes()

    start()
    order = SerialOrder(str(tmp_path), Lockfiles(str(tmp_path)))
    for rank in finished:
        for entry in entries[2 * rank : 2 * rank + 2]:
            order.ignore(partial(append, entry, str(path)), str(path), rank)
    assert path.read_bytes() == expected


def make_repo(path):
    Git.init(str(path)).close()
    return path
