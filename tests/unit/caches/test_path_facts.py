import errno
import os
import shutil
import subprocess
from contextlib import suppress
from functools import partial

import dvc.utils
import pytest
from dvc.config import Config
from dvc.ignore import DvcIgnoreFilter, DvcIgnorePatterns
from dvc.output import Output
from dvc.repo import Repo
from dvc_objects.db import ObjectDB
from dvc_objects.fs import localfs
from dvc_objects.fs.generic import test_links as dvc_test_links
from dvc_objects.fs.local import FsspecLocalFileSystem
from hypothesis import given
from hypothesis import strategies as st
from scmrepo.git import Git

from dvc_parallel.caches.bookkeeping import Bookkeeping
from dvc_parallel.caches.path_facts import (
    IgnoreRules,
    LinkTypes,
    LoadedConfig,
    TrackedPaths,
    relpath,
    relpath_of,
)
from dvc_parallel.run.overrides import changed, is_in_repo, name_of, trie_pattern
from tests.support.capabilities import resets_config


def git(path, *args):
    subprocess.run(["git", "-C", path, *args], check=True, capture_output=True)


@pytest.fixture
def repo(tmp_path):
    git(tmp_path, "init", "-q")
    for name in ("a", "b/c", "b-d", "b/e/f", "ü"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.fixture
def tmp_dvc(tmp_path):
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        yield repo


def test_tracked_paths_are_gits(repo):
    backend = Git(str(repo)).dulwich
    tracked = TrackedPaths()
    names = ["a", "b", "b/c", "b/e", "b/e/f", "b-d", "b-", "c", "ü", "zz", "b/e/f/g"]

    def check():
        original = type(backend).is_tracked
        for name in names:
            path = os.path.join(repo, name)
            found = tracked.is_tracked(original, backend, path)
            assert found == original(backend, path), name
        return found

    git(repo, "add", "b-d")
    check()
    git(repo, "add", ".")
    check()
    git(repo, "rm", "-rq", "--cached", "b/e")
    check()


@pytest.mark.usefixtures("time_passes")
def test_tracked_paths_are_read_once(repo, mocker):
    git(repo, "add", ".")
    backend = Git(str(repo)).dulwich
    open_index = mocker.spy(backend.repo, "open_index")
    tracked = TrackedPaths()
    for _ in range(5):
        assert tracked.is_tracked(None, backend, os.path.join(repo, "b"))
    assert open_index.call_count == 1


def test_no_index_is_left_to_dvc(repo):
    backend = Git(str(repo)).dulwich
    seen = []

    def original(*args):
        seen.append(args)
        return False

    assert not TrackedPaths().is_tracked(original, backend, "x")
    assert seen == [(backend, "x")]


def test_link_types_are_found_out_once(tmp_path, mocker):
    original = mocker.Mock(side_effect=dvc_test_links)
    types = LinkTypes()
    cache, folder = tmp_path / "cache", tmp_path / "folder"
    folder.mkdir()

    def find(name, links=("hardlink", "symlink", "copy")):
        args = (list(links), localfs, str(cache), localfs, str(folder / name))
        return types.test_links(original, *args)

    assert find("a") == find("b") == ["hardlink", "symlink", "copy"]
    assert original.call_count == 1
    assert find("a", ["copy"]) == ["copy"]
    assert original.call_count == 2
    # NOTE: DVC has to make this one
    assert find("new/folder/a", ["copy"]) == ["copy"]
    assert (folder / "new" / "folder").is_dir()
    find("a").clear()
    assert find("a") == ["hardlink", "symlink", "copy"]


@pytest.mark.parametrize("links", [["reflink", "copy"], ["hardlink", "copy"]])
def test_only_links_with_a_name_of_their_own_are_tried_beside_outputs(
    tmp_path, mocker, links
):
    original = mocker.Mock(side_effect=dvc_test_links)
    cache, folder = tmp_path / "cache", tmp_path / "folder"
    cache.mkdir()
    folder.mkdir()
    args = (localfs, str(cache), localfs, str(folder / "a"))
    found = LinkTypes().test_links(original, list(links), *args)
    assert found == dvc_test_links(list(links), *args)
    tried_in = os.path.dirname(original.call_args.args[-1])
    assert tried_in == str(folder if "hardlink" in links else cache)


def test_what_works_on_another_disk_is_found_out_there(tmp_path, mocker):
    original = mocker.Mock(return_value=["copy"])
    mocker.patch("os.stat", side_effect=lambda p: mocker.Mock(st_dev=hash(p)))
    args = (["reflink", "copy"], localfs, "cache", localfs, "folder/a")
    LinkTypes().test_links(original, *args)
    original.assert_called_once_with(*args)


def test_reflinks_are_tried_once(tmp_path, mocker):
    original = mocker.Mock(side_effect=OSError(errno.EOPNOTSUPP, "no"))
    types = LinkTypes()
    (tmp_path / "a").write_text("a")

    for name in ("b", "c"):
        with pytest.raises(OSError, match=rf"Errno {errno.EOPNOTSUPP}\b"):
            types.reflink(original, localfs, str(tmp_path / "a"), str(tmp_path / name))
    assert original.call_count == 1


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EINVAL])
def test_reflinks_are_tried_again_after_an_error_of_the_file(tmp_path, mocker, error):
    original = mocker.Mock(side_effect=OSError(error, "no"))
    types = LinkTypes()
    (tmp_path / "a").write_text("a")

    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            types.reflink(original, localfs, str(tmp_path / "a"), str(tmp_path / "b"))
    assert original.call_count == 2


def test_reflinks_that_work_are_made(tmp_path, mocker):
    original = mocker.Mock()
    (tmp_path / "a").write_text("a")
    args = localfs, str(tmp_path / "a"), str(tmp_path / "b")
    LinkTypes().reflink(original, *args)
    original.assert_called_once_with(*args)


class Killed(BaseException):
    pass


def is_cloned(_fs, src, dst):
    shutil.copyfile(src, dst)


def is_not_cloned(_fs, _src, dst):
    open(dst, "wb").close()
    os.unlink(dst)
    raise OSError(errno.ENOTTY, "no")


def is_killed(_fs, _src, dst):
    open(dst, "wb").close()
    raise Killed


@pytest.fixture(params=[is_cloned, is_not_cloned, is_killed])
def links(request, monkeypatch):
    """Links of a file system on which a clone succeeds, fails or is cut off."""

    def reflink(*args):
        links.reflink(request.param, *args)

    links = LinkTypes()
    links.clone = request.param
    monkeypatch.setattr(FsspecLocalFileSystem, "reflink", reflink)
    return links


def test_an_object_is_whole_or_not_there(tmp_path, links):
    (tmp_path / "a").write_text("a")
    folder = tmp_path / "cache" / "aa"
    odb = ObjectDB(localfs, str(tmp_path / "cache"))
    add = partial(links.add, ObjectDB.add, odb, str(tmp_path / "a"), localfs, "aabb")
    if links.clone is is_killed:
        with pytest.raises(Killed):
            add()
        assert not (folder / "bb").exists()
    else:
        add()
        assert (folder / "bb").read_text() == "a"
        assert os.listdir(folder) == ["bb"]


def test_an_output_is_made_at_its_place(tmp_path, links):
    (tmp_path / "a").write_text("a")
    with suppress(OSError, Killed):
        localfs.reflink(str(tmp_path / "a"), str(tmp_path / "out"))
    assert set(os.listdir(tmp_path)) <= {"a", "out"}


@resets_config
@pytest.mark.usefixtures("time_passes")
def test_the_config_is_loaded_again_when_a_file_has_changed(tmp_dvc):
    config, original = LoadedConfig(), type(tmp_dvc)._reset

    def loaded_again():
        before = tmp_dvc.config
        config.reset(original, tmp_dvc)
        return tmp_dvc.config is not before

    assert loaded_again()  # it may have changed since it was loaded first
    assert not loaded_again()
    assert not loaded_again()
    for level, value in (("repo", "a"), ("local", "b")):
        with Config(tmp_dvc.dvc_dir).edit(level) as changed:
            changed["core"]["remote"] = value
        assert loaded_again()
        assert tmp_dvc.config["core"]["remote"] == value
        assert not loaded_again()
    os.unlink(os.path.join(tmp_dvc.dvc_dir, "config.local"))
    assert loaded_again()


def test_what_else_was_loaded_is_dropped(tmp_dvc):
    config, original = LoadedConfig(), type(tmp_dvc)._reset
    for _ in range(3):
        assert tmp_dvc.config
        before = tmp_dvc.index, tmp_dvc.dvcignore
        config.reset(original, tmp_dvc)
        assert tmp_dvc.index is not before[0]
        assert tmp_dvc.dvcignore is not before[1]


@pytest.mark.usefixtures("time_passes")
def test_an_index_that_cannot_be_read_leaves_nothing(repo, mocker):
    backend = Git(str(repo)).dulwich
    tracked = TrackedPaths()

    def is_tracked(name):
        return tracked.is_tracked(None, backend, os.path.join(repo, name))

    git(repo, "add", "a")
    assert is_tracked("a")
    assert not is_tracked("b-d")

    git(repo, "add", "b-d")
    mocker.patch.object(backend.repo, "open_index", side_effect=OSError("no"))
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            is_tracked("b-d")
    mocker.stopall()
    assert is_tracked("b-d")


@pytest.mark.usefixtures("time_passes")
def test_a_split_index_that_dulwich_cannot_read(repo):
    backend = Git(str(repo)).dulwich
    tracked, original = TrackedPaths(), type(backend).is_tracked

    def is_tracked(ask):
        try:
            return ask(backend, os.path.join(repo, "b-d"))
        except Exception as exc:  # noqa: BLE001
            return type(exc)

    git(repo, "add", "a")
    assert tracked.is_tracked(original, backend, os.path.join(repo, "a"))
    git(repo, "update-index", "--split-index")
    git(repo, "add", "b-d")
    ours = [is_tracked(lambda *args: tracked.is_tracked(original, *args)) for _ in "ab"]
    assert ours == [is_tracked(original)] * 2
    git(repo, "update-index", "--no-split-index")
    assert is_tracked(lambda *args: tracked.is_tracked(original, *args)) is True


def test_links_that_do_not_work_this_once_are_tried_again(tmp_path, mocker):
    original = mocker.Mock(side_effect=[[], OSError("no"), ["copy"]])
    types = LinkTypes()
    (tmp_path / "cache").mkdir()
    args = ["copy"], localfs, str(tmp_path / "cache"), localfs, str(tmp_path / "a")
    assert types.test_links(original, *args) == []
    with pytest.raises(OSError, match="no"):
        types.test_links(original, *args)
    assert types.test_links(original, *args) == ["copy"]


def test_folders_that_are_not_writable_are_dvcs(tmp_path, mocker):
    original = mocker.Mock(side_effect=[["copy"], []])
    types = LinkTypes()
    (tmp_path / "cache").mkdir()
    args = ["copy"], localfs, str(tmp_path / "cache"), localfs, str(tmp_path / "a")
    assert types.test_links(original, *args) == ["copy"]
    mocker.patch("os.access", return_value=False)
    assert types.test_links(original, *args) == []


@resets_config
@pytest.mark.usefixtures("time_passes")
def test_a_config_that_cannot_be_looked_at_is_loaded_again(tmp_dvc, mocker):
    config, original = LoadedConfig(), type(tmp_dvc)._reset
    for _ in range(2):
        assert tmp_dvc.config
        config.reset(original, tmp_dvc)
    before = tmp_dvc.config
    stat = mocker.patch("os.stat", side_effect=PermissionError("no"))
    config.reset(original, tmp_dvc)
    mocker.stop(stat)
    assert tmp_dvc.config is not before
    config.reset(original, tmp_dvc)
    assert tmp_dvc.config is not before


@pytest.fixture
def rules(tmp_path, mocker):
    """DVC's ignore rules as it has them after each command; and how often it read."""
    (tmp_path / "sub").mkdir()
    original = mocker.Mock(side_effect=DvcIgnoreFilter.__init__)
    kept = IgnoreRules()

    def rules():
        found = DvcIgnoreFilter.__new__(DvcIgnoreFilter)
        kept.load(original, found, localfs, str(tmp_path))
        real = DvcIgnoreFilter(localfs, str(tmp_path))
        for name in ("a", "sub/a", "b", ".git/x", "sub/repo/a"):
            for is_ignored in ("is_ignored_file", "is_ignored_dir"):
                path = str(tmp_path / name)
                expected = getattr(real, is_ignored)(path)
                assert getattr(found, is_ignored)(path) == expected, name
        return found, original.call_count

    return rules


@pytest.mark.usefixtures("time_passes")
def test_ignore_rules_are_read_once(tmp_path, rules):
    (tmp_path / ".dvcignore").write_text("a")
    first, _ = rules()
    second, count = rules()
    assert count == 1
    assert first.ignores_trie_fs is not second.ignores_trie_fs


@pytest.mark.usefixtures("time_passes")
@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / ".dvcignore").write_text("a"),
        lambda path: (path / "repo" / ".dvc").mkdir(parents=True),
        lambda path: (path / "sub" / ".dvc").mkdir(),
    ],
)
def test_ignore_rules_are_read_again_when_they_may_have_changed(
    tmp_path, rules, change
):
    rules()
    change(tmp_path)
    rules()
    assert rules()[1] == 2


@pytest.mark.usefixtures("time_passes")
def test_ignore_rules_of_other_folders_are_read_each_time(tmp_path, rules):
    rules()
    (tmp_path / "sub" / ".dvcignore").write_text("a")
    rules()
    (tmp_path / "sub" / ".dvcignore").write_text("b")
    assert rules()[1] == 1


def test_ignore_rules_that_have_just_changed_are_read_again(tmp_path, rules):
    (tmp_path / ".dvcignore").write_text("a")
    rules()
    assert rules()[1] == 2


def test_whether_a_path_is_in_the_repo_is_asked_once(tmp_dvc, tmp_path, mocker):
    books = Bookkeeping(str(tmp_path))
    stage = mocker.Mock(repo=tmp_dvc, wdir=str(tmp_path))
    inside = Output(stage, str(tmp_path / "a"), cache=False)
    outside = Output(stage, str(tmp_path.parent / "a"), cache=False)
    original = mocker.Mock(side_effect=type(inside).is_in_repo.fget)
    assert is_in_repo(original, inside)
    odd = Output(stage, str(tmp_path / "ü#"), cache=False)
    with books.in_this_thread():
        for _ in range(2):
            assert is_in_repo(original, inside)
            assert is_in_repo(original, odd)
            assert not is_in_repo(original, outside)
        assert original.call_count == 2
        inside.def_path, inside.fs_path = outside.def_path, outside.fs_path
        assert not is_in_repo(original, inside)


def test_what_an_output_is_called_depends_on_where_one_is(
    tmp_dvc, tmp_path, mocker, monkeypatch
):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    stage = mocker.Mock(repo=tmp_dvc, wdir=str(tmp_path))
    out = Output(stage, "a", cache=False)
    original = mocker.Mock(side_effect=Output.__str__)
    with Bookkeeping(str(tmp_path)).in_this_thread():
        assert [name_of(original, out) for _ in range(3)] == ["a"] * 3
        assert original.call_count == 1
        monkeypatch.chdir("sub")
        assert name_of(original, out) == os.path.join(os.pardir, "a")
        out.def_path = str(tmp_path / "b")
        assert name_of(original, out) == str(tmp_path / "b")
    assert name_of(original, out) == str(tmp_path / "b")
    assert original.call_count == 4


def test_what_is_left_out_in_a_folder_is_found_out_once(tmp_path, mocker):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".dvcignore").write_text("a")
    sub = str(tmp_path / "sub")
    original = mocker.Mock(side_effect=DvcIgnoreFilter._get_trie_pattern)
    with Bookkeeping(str(tmp_path)).in_this_thread():
        for count in (1, 2):
            rules = DvcIgnoreFilter(localfs, str(tmp_path))
            found = [
                trie_pattern(original, rules, sub, None, ignore_subrepos=False)
                for _ in range(3)
            ]
            assert original.call_count == count
            assert all(pattern is found[0] for pattern in found)
            assert found[0].matches(sub, "a") is (count == 1)
            (tmp_path / "sub" / ".dvcignore").write_text("b")
        # NOTE: repos in folders of it can be found later
        trie_pattern(original, rules, sub, None)
        trie_pattern(original, rules, sub, ["repo"], ignore_subrepos=False)
        assert original.call_count == 4


def test_whether_a_stage_has_to_run_is_asked_again_where_it_matters(tmp_path, mocker):
    """With ``pull``, DVC does not run what only lacks its outputs."""
    stage, books = mocker.Mock(), Bookkeeping(str(tmp_path))
    original = mocker.Mock(side_effect=lambda *args: not args[1])
    with books.in_this_thread():
        assert changed(original, stage, False, None)
        assert not changed(original, stage, True, None)
        books.pulls = False
        assert changed(original, stage, False, None)
        assert original.call_count == 3
        assert changed(original, stage, True, None)
        assert original.call_count == 3
        # in the next run of the stage, with `--allow-missing`
        assert not changed(original, stage, True, None)
    assert original.call_count == 4


PARTS = ["a", "b", "..", ".", "", "a b", "ü", "x?", "x#y", "a\n", ".a", "~"]
RELATIVE = st.lists(st.sampled_from(PARTS), max_size=5).map("/".join)


@pytest.mark.skipif(
    not hasattr(type(localfs), "relpath"), reason="dvc-objects before 1.0"
)
@given(RELATIVE, RELATIVE, st.tuples(st.booleans(), st.booleans()))
def test_paths_are_made_relative_as_by_dvc(path, start, are_absolute):
    path, start = (
        f"{os.getcwd()}/{text}" if is_absolute else text or "x"
        for text, is_absolute in zip((path, start), are_absolute)
    )
    for args in ((path, start), (f"{start}/{path}", start), (path,)):
        assert relpath(dvc.utils.relpath, *args) == dvc.utils.relpath(*args)
        found = relpath_of(type(localfs).relpath, localfs, *args)
        assert found == localfs.relpath(*args)


@pytest.mark.usefixtures("time_passes")
@pytest.mark.parametrize("name", ["sub/.dvcignore", "sub/sub/.dvcignore"])
def test_rules_of_folders_are_read_again_when_they_have_changed(tmp_path, mocker, name):
    (tmp_path / "sub" / "sub").mkdir(parents=True)
    original = mocker.Mock(side_effect=DvcIgnoreFilter._get_trie_pattern)
    kept = IgnoreRules()

    def ask():
        rules = DvcIgnoreFilter.__new__(DvcIgnoreFilter)
        kept.load(DvcIgnoreFilter.__init__, rules, localfs, str(tmp_path))
        real = DvcIgnoreFilter(localfs, str(tmp_path))
        for folder in ("sub/sub", "sub", "", ".."):
            path = os.path.normpath(tmp_path / folder)
            found = kept.trie_pattern(original, rules, path, ignore_subrepos=False)
            expected = real._get_trie_pattern(path, ignore_subrepos=False)
            assert getattr(found, "pattern_list", None) == (
                getattr(expected, "pattern_list", None)
            )
        return original.call_count

    count = ask()
    for text in ("a", "b\n", None):
        assert ask() - count == 1  # that of the folder outside
        if text is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(text)
        before = ask()
        assert before - count > 2
        count = before


def test_whether_a_path_is_left_out_is_asked_once(tmp_path, mocker):
    (tmp_path / ".dvcignore").write_text("a\nb/")
    kept = IgnoreRules()
    rules = DvcIgnoreFilter(localfs, str(tmp_path))
    matches = mocker.spy(DvcIgnorePatterns, "matches")

    def ask(name):
        """Return how often rules were matched."""
        args = localfs, str(tmp_path / name), False
        real = DvcIgnoreFilter(localfs, str(tmp_path))
        expected = DvcIgnoreFilter.is_ignored(real, *args)
        matches.reset_mock()
        assert kept.is_ignored(DvcIgnoreFilter.is_ignored, rules, *args) == expected
        return matches.call_count

    for name in ("a", "b", "c", "b/x", "../c"):
        assert ask(name) > 0 or name == "../c"
        assert ask(name) == 0
    (tmp_path / "b").mkdir()  # which is left out as a folder, and not as a file
    assert ask("b") == 1
    (tmp_path / "b").rmdir()
    (tmp_path / "b").touch()
    assert ask("b") == 1
    assert ask("b") == 0
