"""What is known of a dependency is what DVC would find out."""

import os

import pytest
from dvc.dependency.base import Dependency

from dvc_parallel.caches.bookkeeping import Bookkeeping
from dvc_parallel.caches.hashes import ANSWERS_STAY
from dvc_parallel.run.saving import save_dependency

DVC_YAML = "stages: {a: {cmd: s, deps: [dep], outs: [out]}}"
SAVED = ("meta", "hash_info", "hash_name", "files")


pytestmark = pytest.mark.skipif(not ANSWERS_STAY, reason="dvc-data keeps less")


@pytest.fixture
def repo(make_repo):
    return make_repo(DVC_YAML)


def loaded(repo):
    (dep,) = repo.stage.load_one("dvc.yaml", "a").deps
    return dep


def outcome(save, dep):
    try:
        save(dep)
    except Exception as exc:  # noqa: BLE001
        return repr(exc)
    return [*(getattr(dep, name) for name in SAVED), dep.obj.hash_info]


def folder(path):
    path.mkdir()
    (path / "file").write_text("file")


def link(path):
    path.with_name("target").write_text("target")
    path.symlink_to("target")


@pytest.mark.parametrize("before", ["file", "nothing"])
@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        lambda path: path.write_text("other"),
        lambda path: path.write_text(""),
        lambda path: path.chmod(0o700),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), folder(path)),
        lambda path: (path.unlink(), link(path)),
        lambda path: (path.unlink(), path.symlink_to("nonesuch")),
        lambda path: (path.unlink(), os.mkfifo(path)),
    ],
)
def test_a_dependency_is_saved_as_by_dvc(repo, tmp_path, change, before, caplog):
    path = tmp_path / "dep"
    path.write_text("file")
    with Bookkeeping(repo.tmp_dir).in_this_thread():
        if before == "file":
            save_dependency(Dependency.save, loaded(repo))
        change(path)
        caplog.clear()
        ours = outcome(lambda dep: save_dependency(Dependency.save, dep), loaded(repo))
        warned = caplog.messages
    caplog.clear()
    assert outcome(Dependency.save, loaded(repo)) == ours
    assert caplog.messages == warned


def test_what_is_known_is_not_found_out_again_and_each_stages_own(
    repo, tmp_path, mocker
):
    (tmp_path / "dep").write_text("file")
    original = mocker.Mock(side_effect=Dependency.save)
    one, other = loaded(repo), loaded(repo)
    with Bookkeeping(repo.tmp_dir).in_this_thread():
        one.get_hash()
        save_dependency(original, one)
        save_dependency(original, one)
        calls = original.call_count
        save_dependency(original, other)
    assert original.call_count == calls <= 1
    assert one.hash_info == other.hash_info
    assert one.hash_info is not other.hash_info
    assert one.meta is not other.meta
