import os
from functools import partial
from types import SimpleNamespace

import pytest
from voluptuous import Invalid

from dvc_parallel.caches.bookkeeping import Bookkeeping
from dvc_parallel.caches.run_cache import check_entry, save


@pytest.fixture
def cache(tmp_path):
    cache_dir = str(tmp_path / "runs")
    return SimpleNamespace(cache_dir=cache_dir, _load_cache=lambda *_: None)


def save_as_dvc(cache, entry):
    """Make the folder first, then the file in it."""
    folder, name = os.path.split(os.path.join(cache.cache_dir, entry))
    os.makedirs(folder)
    if name == "killed":
        raise SystemExit
    with open(os.path.join(folder, name), "w") as fobj:
        fobj.write(entry)


@pytest.fixture
def save_entry(cache):
    def save_entry(entry):
        with Bookkeeping(os.curdir).in_this_thread():
            save(save_as_dvc, cache, entry)

    return save_entry


def files(tmp_path):
    return {
        path.relative_to(tmp_path).as_posix(): path.read_text()
        if path.is_file()
        else ""
        for path in tmp_path.rglob("*")
    }


def test_entries_are_where_dvc_looks_for_them(tmp_path, save_entry):
    for entry in ("ab/abc/1", "ab/abc/2", "ab/abd/3", "cd/cde/4"):
        save_entry(entry)
    found = files(tmp_path / "runs")
    assert {name for name in found if found[name]} == {
        "ab/abc/1",
        "ab/abc/2",
        "ab/abd/3",
        "cd/cde/4",
    }
    assert os.listdir(tmp_path) == ["runs"]


def test_no_folder_without_its_entry(tmp_path, save_entry):
    save_entry("ab/abc/1")
    before = files(tmp_path)
    with pytest.raises(SystemExit):
        save_entry("ab/abd/killed")
    assert files(tmp_path) == before


def test_an_entry_that_is_there_stays(tmp_path, cache, save_entry):
    save_entry("ab/abc/1")
    path = tmp_path / "runs" / "ab" / "abc" / "1"
    path.write_text("of another repo")
    save_entry("ab/abc/1")
    assert path.read_text() == "of another repo"


def test_a_folder_that_was_left_without_an_entry_gets_it(tmp_path, save_entry):
    (tmp_path / "runs" / "ab" / "abc").mkdir(parents=True)
    save_entry("ab/abc/1")
    assert files(tmp_path)["runs/ab/abc/1"] == "ab/abc/1"


def test_nothing_to_save(tmp_path, cache):
    with Bookkeeping(os.curdir).in_this_thread():
        save(lambda *_args: None, cache, "stage")
    assert not os.listdir(tmp_path)


RIGHT = {"path": "a", "hash": "md5", "md5": "0" * 32, "size": 1}


@pytest.mark.parametrize(
    "dep",
    [
        RIGHT,
        {**RIGHT, "isexec": True},
        {**RIGHT, "md5": "0" * 32 + ".dir", "nfiles": 1},
        {**RIGHT, "md5": "A" * 32},
        {**RIGHT, "md5": "a"},
        {**RIGHT, "md5": None},
        {**RIGHT, "md5": 12345},
        {**RIGHT, "size": "1"},
        {**RIGHT, "size": True},
        {**RIGHT, "hash": 1},
        {**RIGHT, "path": 1},
        {**RIGHT, "other": 1},
        {"path": "a"},
        {"md5": "0" * 32},
        "a",
    ],
)
@pytest.mark.parametrize("more", [{}, {"cmd": 1}, {"outs": [{"path": 1}]}, {"x": 1}])
def test_entries_are_as_the_schema_has_them(dep, more):
    from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA as SCHEMA

    def outcome(check):
        try:
            return check({"cmd": "s", "deps": [RIGHT, dep], **more})
        except Invalid as exc:
            return type(exc)

    assert outcome(partial(check_entry, SCHEMA)) == outcome(SCHEMA)
    for deps in (None, {}, "a"):
        more = {**more, "deps": deps}
        assert outcome(partial(check_entry, SCHEMA)) == outcome(SCHEMA)
