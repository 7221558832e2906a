import os
import stat

import pytest

from dvc_parallel.engine.own_files import OwnFolder


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path):
    return oct(stat.S_IMODE(os.stat(path).st_mode))


@pytest.mark.parametrize(
    "of_tmp_dir, expected",
    [(0o755, 0o755), (0o2775, 0o2775), (0o775, 0o775), (0o770, 0o775), (0o700, 0o755)],
)
def test_folders_are_as_open_to_the_group_as_the_folder_of_dvc(
    tmp_path, umask, of_tmp_dir, expected
):
    tmp_path.chmod(of_tmp_dir)
    folder = OwnFolder(str(tmp_path), "parallel", "runs", "one")
    folder.make()
    for path in (folder.path, *list(tmp_path.glob("*")), *tmp_path.glob("*/*")):
        assert mode(path) == oct(expected)
    with folder.replace("file") as fobj:
        fobj.write("text")
    assert mode(folder.path_of("file")) == "0o644"


def test_a_file_is_replaced_as_a_whole(tmp_path):
    folder = OwnFolder(str(tmp_path), "own")
    folder.make()
    for text in ("first", "second"):
        with folder.replace("file") as fobj:
            fobj.write(text)
    with pytest.raises(ZeroDivisionError), folder.replace("file") as fobj:
        fobj.write("third" * (1 // 0))
    with folder.read("file") as fobj:
        assert fobj.read() == b"second"
    assert folder.files() == {"file": 6}


def test_errors_name_the_path(tmp_path):
    folder = OwnFolder(str(tmp_path), "own")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/own/file"):
        folder.read("file")
    folder.make()
    (tmp_path / "own" / "link").symlink_to("file")
    with pytest.raises(OSError, match=f"a link, which is .*{tmp_path}/own/link"):
        folder.read("link")
    with pytest.raises(OSError, match="a link, which is not followed"):
        folder.open("link", os.O_WRONLY | os.O_CREAT)
    (tmp_path / "own" / "file").write_bytes(b"12345")
    with pytest.raises(OSError, match="File too large"):
        folder.read("file", 4)
