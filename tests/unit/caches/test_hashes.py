import os
from functools import partial

import pytest
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_data.hashfile.state import State
from dvc_objects.fs import MemoryFileSystem, localfs

from dvc_parallel.caches.hashes import ANSWERS_STAY, KnownHashes

pytestmark = pytest.mark.skipif(
    not ANSWERS_STAY, reason="dvc-data before 3.16 gives another answer each time"
)


@pytest.fixture
def original(tmp_path, mocker):
    return mocker.Mock(side_effect=build)


@pytest.fixture
def odb(tmp_path):
    state = State(str(tmp_path), str(tmp_path / ".state"))
    yield LocalHashFileDB(localfs, str(tmp_path / ".cache"), state=state)
    state.close()


@pytest.fixture
def ask(odb, original):
    known = KnownHashes()

    def ask(path, fs=localfs, name="md5", dry_run=True):
        _, meta, obj = known.build(original, odb, str(path), fs, name, dry_run=dry_run)
        _, real_meta, real_obj = build(odb, str(path), fs, name, dry_run=dry_run)
        assert (meta, obj.hash_info) == (real_meta, real_obj.hash_info)
        return obj

    return ask


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


def test_folders_links_and_remotes_are_left_to_dvc(tmp_path, ask, original):
    (tmp_path / "a").write_text("a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b").write_text("b")
    (tmp_path / "link").symlink_to("a")
    memory = MemoryFileSystem(global_store=False)
    memory.pipe_file("/a", b"a")
    for call in (
        partial(ask, tmp_path / "folder"),
        partial(ask, tmp_path / "link"),
        partial(ask, "/a", memory),
    ):
        original.reset_mock()
        call()
        call()
        assert original.call_count == 2


def test_an_output_that_is_known_can_be_put_into_the_cache(tmp_path, odb, original):
    path = tmp_path / "a"
    path.write_text("a")
    known = KnownHashes()
    for _ in range(2):
        staging, _, obj = known.build(original, odb, str(path), localfs, "md5")
        assert staging.exists(obj.oid)
    known.build(original, odb, str(path), localfs, "md5", dry_run=True)
    assert original.call_count == 2


def test_what_is_known_for_another_cache_is_not_in_this_one(tmp_path, odb, original):
    path = tmp_path / "a"
    path.write_text("a")
    known = KnownHashes()
    other = LocalHashFileDB(localfs, str(tmp_path / "other"), state=odb.state)
    known.build(original, odb, str(path), localfs, "md5")
    staging, _, obj = known.build(original, other, str(path), localfs, "md5")
    assert original.call_count == 2
    assert staging.exists(obj.oid)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    (path / "sub").mkdir(parents=True)
    (path / "a").write_text("a")
    (path / "sub" / "b").write_text("b")
    return path


@pytest.fixture
def ask_for_folder(odb, original, folder):
    known = KnownHashes()

    def ask():
        args = odb, str(folder), localfs, "md5"
        _, meta, tree = known.build_folder(original, *args, dry_run=True)
        _, real_meta, real_tree = build(*args, dry_run=True)
        assert (meta, tree.hash_info) == (real_meta, real_tree.hash_info)
        assert list(tree) == list(real_tree)
        return tree

    return ask


@pytest.mark.usefixtures("time_passes")
def test_a_folder_is_hashed_once(ask_for_folder, original):
    for _ in range(3):
        ask_for_folder().hash_info.value = "its own"
    assert original.call_count == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / "sub" / "b").write_text("other"),
        lambda path: (path / "sub" / "b").chmod(0o700),
        lambda path: (path / "c").touch(),
        lambda path: (path / "empty").mkdir(),
        lambda path: (path / "a").unlink(),
        lambda path: (path / "a").rename(path / "A"),
        lambda path: (path / "link").symlink_to("a"),
        lambda path: (path.parent / ".dvcignore").write_text("a"),
    ],
)
@pytest.mark.usefixtures("time_passes")
def test_a_folder_that_may_have_changed_is_hashed_again(
    folder, ask_for_folder, original, change
):
    ask_for_folder()
    change(folder)
    ask_for_folder()
    assert original.call_count == 2


def test_a_folder_whose_ignore_rules_have_just_changed_is_hashed_again(
    folder, ask_for_folder, original
):
    (folder.parent / ".dvcignore").write_text("a")
    ask_for_folder()
    ask_for_folder()
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


@pytest.fixture
def find(odb):
    known = KnownHashes()

    def find(path, name="md5"):
        found = known.find(odb, str(path), localfs, name)
        if found:
            _, meta, obj = build(odb, str(path), localfs, name, dry_run=True)
            assert found == (meta, obj.hash_info)
        return found

    find.known = known
    return find


def test_what_would_have_to_be_read_is_not_found(tmp_path, find):
    path = tmp_path / "a"
    assert find(path) is None
    path.write_text("a")
    (tmp_path / "link").symlink_to("a")
    assert find(path) is None
    assert find(tmp_path / "link") is None
    assert find(tmp_path) is None


def test_what_the_state_database_has_is_found(tmp_path, odb, find, mocker):
    path = tmp_path / "a"
    path.write_text("a")
    build(odb, str(path), localfs, "md5", dry_run=True)
    assert find(path)
    assert find(path, "md5-dos2unix") is None
    get = mocker.spy(odb.state, "get")
    assert find(path)
    assert not get.called
    path.write_text("other")
    assert find(path) is None


def test_an_output_that_was_put_into_the_cache_is_found(tmp_path, odb, find):
    path = tmp_path / "a"
    path.write_text("a")
    find.known.build(build, odb, str(path), localfs, "md5")
    odb.state.close()
    _, hash_info = find(path)
    hash_info.value = "its own"
    assert find(path)
