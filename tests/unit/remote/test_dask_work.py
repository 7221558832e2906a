"""The folder of a worker for clones."""

import os
import stat

import pytest

pytest.importorskip("distributed", reason="needs the extra dvc-parallel[dask]")

from dvc.exceptions import DvcException

from dvc_parallel.remote.dask.cluster import is_open
from dvc_parallel.remote.dask.work import have_alone


def test_a_folder_is_for_its_user_alone(tmp_path):
    folder = tmp_path / "folder"
    for _ in range(2):
        have_alone(str(folder))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_one_that_others_can_write_to_is_not_used(tmp_path, mode):
    tmp_path.chmod(mode)
    with pytest.raises(DvcException, match="only its user can write to"):
        have_alone(str(tmp_path))


def test_nor_one_behind_a_link(tmp_path):
    (tmp_path / "there").mkdir(0o700)
    (tmp_path / "folder").symlink_to("there")
    with pytest.raises(DvcException, match="only its user can write to"):
        have_alone(str(tmp_path / "folder"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make it another user's")
def test_nor_that_of_another_user(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(DvcException, match="only its user can write to"):
        have_alone(str(folder))


@pytest.mark.parametrize(
    "address, leaves",
    [
        ("tcp://127.0.0.1:8786", False),
        ("tcp://127.8.8.8:1", False),
        ("tcp://localhost:1", False),
        ("tcp://[::1]:1", False),
        ("inproc://10.0.0.1/3/1", False),
        ("tls://10.0.0.1:8786", False),
        ("tcp://10.0.0.1:8786", True),
        ("tcp://[fe80::1]:1", True),
        ("tcp://host:1", True),
    ],
)
def test_what_leaves_the_machine_unencrypted(address, leaves):
    assert is_open(address) == leaves
