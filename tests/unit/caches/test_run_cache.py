import errno
import os
from types import SimpleNamespace

import dvc.utils
import pytest
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_objects.fs import localfs
from hypothesis import given
from hypothesis import strategies as st

from dvc_parallel.caches.bookkeeping import Bookkeeping
from dvc_parallel.caches.run_cache import dict_filter, move, save


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


DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from("abc"),
    lambda it: st.lists(it) | st.dictionaries(st.sampled_from(["size", "a", "b"]), it),
)


@given(DATA, st.sampled_from([(), [], ["size"], ["size", "a"]]))
def test_keys_are_left_out_as_by_dvc(data, exclude):
    original = dvc.utils.dict_filter
    assert repr(dict_filter(original, data, exclude)) == repr(original(data, exclude))


@pytest.mark.parametrize("shared", [None, "group"])
@pytest.mark.parametrize("problem", [None, "there", "no rename"])
def test_an_entry_is_moved_as_by_dvc(tmp_path, monkeypatch, shared, problem):
    odb, found = LocalHashFileDB(localfs, str(tmp_path), shared=shared), []
    real = os.rename

    def rename(src, dst):
        if src.endswith("from"):
            raise OSError(errno.EXDEV, "no")
        real(src, dst)

    if problem == "no rename":
        monkeypatch.setattr(os, "rename", rename)
    for name in ("ours", "dvcs"):
        src, dst = tmp_path / name / "from", tmp_path / name / "to"
        src.parent.mkdir()
        src.write_text("new")
        src.chmod(0o600)
        if problem == "there":
            dst.write_text("old")
        if name == "dvcs":
            odb.move(str(src), str(dst))
        else:
            move(LocalHashFileDB.move, odb, str(src), str(dst))
        found.append((os.listdir(src.parent), dst.read_text(), dst.stat().st_mode))
    assert found[0] == found[1]
