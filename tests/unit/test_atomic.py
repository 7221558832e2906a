import errno
import os
import stat

import pytest

from dvc_parallel.atomic import atomic_write


@pytest.fixture
def tmp_dir(tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def test_replaces_the_file_at_the_end(tmp_path, tmp_dir):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(str(path), str(tmp_dir)) as fobj:
        fobj.write("new")
        fobj.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert not os.listdir(tmp_dir)


def test_an_exception_leaves_it_as_it_was(tmp_path, tmp_dir):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        with atomic_write(str(path), str(tmp_dir)) as fobj:
            fobj.write("new")
            raise ZeroDivisionError
    assert path.read_text() == "old"
    assert not os.listdir(tmp_dir)


def test_keeps_permissions_and_symlinks(tmp_path, tmp_dir):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with atomic_write(str(link), str(tmp_dir)) as fobj:
        fobj.write("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path, tmp_dir):
    (tmp_path / "other").write_text("")
    with atomic_write(str(tmp_path / "file"), str(tmp_dir)) as fobj:
        fobj.write("new")
    modes = {(tmp_path / name).stat().st_mode for name in ("file", "other")}
    assert len(modes) == 1


def test_tmp_dir_on_another_file_system(tmp_path, tmp_dir, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    replace = os.replace

    def replace_within(src, dst):
        if os.path.dirname(src) != os.path.dirname(dst):
            raise OSError(errno.EXDEV, "another file system")
        replace(src, dst)

    monkeypatch.setattr(os, "replace", replace_within)
    with atomic_write(str(path), str(tmp_dir)) as fobj:
        fobj.write("new")
    assert path.read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["file", "tmp"]
    assert not os.listdir(tmp_dir)
