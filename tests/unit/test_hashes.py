import os
from functools import partial

import pytest
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_data.hashfile.state import State
from dvc_objects.fs import MemoryFileSystem, localfs

from dvc_parallel.hashes import ANSWERS_STAY, KnownHashes

pytestmark = pytest.mark.skipif(
    not ANSWERS_STAY, reason="dvc-data before 3.16 gives another answer each time"
)


@pytest.fixture
def original(tmp_path, mocker):
    return mocker.Mock(side_effect=build)


@pytest.fixture
def ask(tmp_path, original):
    state = State(str(tmp_path), str(tmp_path / ".state"))
    odb = LocalHashFileDB(localfs, str(tmp_path / ".cache"), state=state)
    known = KnownHashes()

    def ask(path, fs=localfs, name="md5", dry_run=True):
        _, meta, obj = known.build(original, odb, str(path), fs, name, dry_run=dry_run)
        _, real_meta, real_obj = build(odb, str(path), fs, name, dry_run=dry_run)
        assert (meta, obj.hash_info) == (real_meta, real_obj.hash_info)
        return obj

    yield ask
    state.close()


def test_a_file_is_hashed_once(tmp_path, ask, original):
    (tmp_path / "a").write_text("a")
    for _ in range(3):
        ask(tmp_path / "a")
    assert original.call_count == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("other"),
        lambda path: os.utime(path, (1, 1)),
        lambda path: path.chmod(0o700),
        lambda path: (path.rename(f"{path}2"), path.write_text("a")),
        lambda path: os.link(path, f"{path}3"),
    ],
)
def test_a_file_that_may_have_changed_is_hashed_again(tmp_path, ask, original, change):
    path = tmp_path / "a"
    path.write_text("a")
    ask(path)
    change(path)
    ask(path)
    ask(path)
    assert original.call_count == 2


def test_a_file_that_changes_meanwhile_is_hashed_again(tmp_path, ask, original):
    path = tmp_path / "a"
    path.write_text("a")

    def change(*args, **kwargs):
        result = build(*args, **kwargs)
        original.side_effect = build
        path.chmod(0o700)
        return result

    original.side_effect = change
    with pytest.raises(AssertionError):  # the mode is not what it is now
        ask(path)
    ask(path)
    assert original.call_count == 2


def test_what_one_gets_is_its_own(tmp_path, ask):
    (tmp_path / "a").write_text("a")
    ask(tmp_path / "a").hash_info.value = "x"
    ask(tmp_path / "a")


def test_folders_links_outputs_and_remotes_are_left_to_dvc(tmp_path, ask, original):
    (tmp_path / "a").write_text("a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b").write_text("b")
    (tmp_path / "link").symlink_to("a")
    memory = MemoryFileSystem(global_store=False)
    memory.pipe_file("/a", b"a")
    for call in (
        partial(ask, tmp_path / "a", dry_run=False),
        partial(ask, tmp_path / "folder"),
        partial(ask, tmp_path / "link"),
        partial(ask, "/a", memory),
    ):
        original.reset_mock()
        call()
        call()
        assert original.call_count == 2


def test_hashing_that_fails_leaves_nothing(tmp_path, ask, original):
    path = tmp_path / "a"
    path.write_text("a")
    before = ask(path)
    path.write_text("other")
    original.side_effect = PermissionError("no")
    for _ in range(2):
        with pytest.raises(PermissionError):
            ask(path)
    original.side_effect = build
    assert ask(path).hash_info != before.hash_info
