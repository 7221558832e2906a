import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from dvc_parallel.engine import atomic, durable
from dvc_parallel.engine.atomic import atomic_write
from tests import HANGS

ALICE, BOB, TEAM = 54321, 54322, 54323
WRITE = """
import os, sys
from dvc_parallel.engine.atomic import atomic_write
path, tmp_dir, user, team = sys.argv[1:]
os.setgroups([int(team)])
os.setgid(int(user))
os.setuid(int(user))
with atomic_write(path, tmp_dir) as fobj:
    fobj.write("new")
"""


def write_as(uid, path, tmp_dir):
    """Have a member of the team write a file."""
    # NOTE: others may not be able to start this Python
    args = [path, tmp_dir, uid, TEAM]
    subprocess.run(
        [sys.executable, "-c", WRITE, *map(str, args)], check=True, timeout=HANGS
    )


@pytest.fixture
def checkout():
    """A folder of Alice's that the team may write to."""
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "tmp").mkdir()
        for path in (folder, folder / "tmp"):
            os.chown(path, ALICE, TEAM)
            path.chmod(0o775)
        yield folder
    finally:
        shutil.rmtree(folder)


def make(path, uid, gid, mode):
    path.write_text("old, which was longer")
    os.chown(path, uid, gid)
    path.chmod(mode)


def found(path):
    status = path.stat()
    return status.st_uid, status.st_gid, oct(stat.S_IMODE(status.st_mode))


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


@pytest.mark.parametrize("attempts", [3, atomic.ATTEMPTS])
def test_windows_lets_readers_finish(tmp_path, tmp_dir, monkeypatch, attempts):
    path = tmp_path / "file"
    path.write_text("old")
    calls, replace = [], os.replace

    def replace_later(*args, **kwargs):
        calls.append(args)
        if len(calls) < attempts:
            raise PermissionError(errno.EACCES, "somebody reads it")
        replace(*args, **kwargs)

    monkeypatch.setattr(atomic, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
    monkeypatch.setattr(atomic.os, "replace", replace_later)
    monkeypatch.setattr(atomic, "PAUSE", 0)
    inode = path.stat().st_ino
    with atomic_write(str(path), str(tmp_dir)) as fobj:
        fobj.write("new")
    assert path.read_text() == "new"
    assert path.stat().st_ino != inode
    assert len(calls) == attempts


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


@pytest.mark.parametrize("in_order", [True, False])
def test_the_file_is_on_the_disk_and_then_its_name(
    tmp_path, tmp_dir, monkeypatch, in_order
):
    path = tmp_path / "file"
    done = []

    def fsync(fd, fsync=os.fsync):
        done.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))
        fsync(fd)

    def call(name, fd, *_):
        assert name == "sync_file_range"
        fsync(fd)

    def replace(src, dst, replace=os.replace):
        done.append(("rename", os.path.basename(src)))
        replace(src, dst)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(durable, "_call", call)
    monkeypatch.setattr(durable, "keeps_order", lambda _: in_order)
    with atomic_write(str(path), str(tmp_dir)) as fobj:
        fobj.write("new")
    tmp = done[0][1]
    assert done == [("sync", tmp), ("rename", tmp), ("sync", tmp_path.name)]


def test_what_need_not_last_is_not_synced(tmp_path, tmp_dir, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("synced"))
    monkeypatch.setattr(durable, "_call", lambda name, *_: calls.append(name))
    monkeypatch.setattr(durable, "keeps_order", lambda _: True)
    with atomic_write(str(tmp_path / "file"), str(tmp_dir), sync=False) as fobj:
        fobj.write("new")
    # NOTE: but it is whole, if it is there
    assert calls == ["sync_file_range"]


def test_a_folder_that_cannot_be_synced(tmp_path, tmp_dir, monkeypatch):
    def fsync(fd, fsync=os.fsync):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not on this file system")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "file"
    with atomic_write(str(path), str(tmp_dir)) as fobj:
        fobj.write("new")
    assert path.read_text() == "new"


def test_root_leaves_a_file_whose_it_was(checkout):
    path = checkout / "file"
    make(path, ALICE, TEAM, 0o660)
    with atomic_write(str(path), str(checkout / "tmp")) as fobj:
        fobj.write("new")
    assert path.read_text() == "new"
    assert found(path) == (ALICE, TEAM, "0o660")


@pytest.mark.parametrize("mode", [0o664, 0o666, 0o660])
def test_a_colleague_leaves_a_file_whose_it_was(checkout, mode):
    path = checkout / "file"
    make(path, ALICE, TEAM, mode)
    write_as(BOB, path, checkout / "tmp")
    assert path.read_text() == "new"
    assert found(path) == (ALICE, TEAM, oct(mode))
    assert not os.listdir(checkout / "tmp")


def test_the_group_of_an_own_file_is_kept(checkout):
    path = checkout / "file"
    make(path, BOB, TEAM, 0o664)
    inode = path.stat().st_ino
    write_as(BOB, path, checkout / "tmp")
    assert path.stat().st_ino != inode
    assert found(path) == (BOB, TEAM, "0o664")


def test_a_file_in_a_folder_that_one_cannot_write_to(checkout):
    make(checkout / "file", BOB, BOB, 0o644)
    checkout.chmod(0o755)
    write_as(BOB, checkout / "file", checkout / "tmp")
    assert (checkout / "file").read_text() == "new"
    assert found(checkout / "file") == (BOB, BOB, "0o644")


@pytest.mark.parametrize("setgid", ["folder", "tmp", "neither"])
def test_a_new_file_has_the_group_of_any_new_file(checkout, setgid):
    folder, tmp = checkout / "folder", checkout / "tmp"
    folder.mkdir()
    for path in (folder, tmp):
        os.chown(path, ALICE, TEAM)
        path.chmod(0o2775 if path.name == setgid else 0o775)
    write_as(BOB, folder / "file", tmp)
    group = TEAM if setgid == "folder" else BOB
    mode = 0o666 & ~atomic.umask
    assert found(folder / "file") == (BOB, group, oct(mode))


def acl(path):
    listed = subprocess.run(
        ["getfacl", "-cpnE", path], capture_output=True, text=True, check=True
    )
    return listed.stdout


@pytest.mark.parametrize("default", ["folder", "tmp"])
@pytest.mark.parametrize("new", [True, False])
def test_access_control_lists(tmp_path, tmp_dir, default, new):
    folder = tmp_path / "folder"
    folder.mkdir()
    old = folder / "old"
    try:
        old.write_text("old")
        subprocess.run(["setfacl", "-m", f"u:{ALICE}:rw,m:r", old], check=True)
        where = folder if default == "folder" else tmp_dir
        subprocess.run(["setfacl", "-dm", f"u:{BOB}:rwx", where], check=True)
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"no access control lists: {exc}")
    other = folder / "other"
    other.write_text("as any new file")
    expected = acl(other) if new else acl(old)
    path = folder / "new" if new else old
    with atomic_write(str(path), str(tmp_dir)) as fobj:
        fobj.write("new")
    assert acl(path) == expected


@pytest.mark.parametrize("code", atomic.UNCHANGEABLE)
def test_a_file_that_cannot_be_replaced(tmp_path, tmp_dir, monkeypatch, code):
    def replace(src, dst):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", replace)
    path = tmp_path / "file"
    path.write_text("old, which was longer")
    with atomic_write(str(path), str(tmp_dir)) as fobj:
        fobj.write("new")
    assert path.read_text() == "new"
    assert not os.listdir(tmp_dir)
    with pytest.raises(OSError, match="there"):
        with atomic_write(str(tmp_path / "not there"), str(tmp_dir)) as fobj:
            fobj.write("new")
    assert not os.listdir(tmp_dir)


def test_no_room_to_overwrite_leaves_it_as_it_was(tmp_path, tmp_dir, monkeypatch):
    def fill(fobj, content, fill=atomic._fill):
        if content != b"old":
            fobj.write(content[:5])
            raise OSError(errno.ENOSPC, "no space")
        fill(fobj, content)

    def replace(src, dst):
        raise OSError(errno.EBUSY, "a mount point")

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(atomic, "_fill", fill)
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="no space"):
        with atomic_write(str(path), str(tmp_dir)) as fobj:
            fobj.write("something new")
    assert path.read_text() == "old"
    assert not os.listdir(tmp_dir)


def test_nothing_is_known_of_file_systems_that_are_in_no_list():
    assert not durable.keeps_order(os.stat("/proc").st_dev)
    assert not durable.keeps_order(os.makedev(250, 99))


def test_file_systems_by_what_the_kernel_says(tmp_path):
    found = subprocess.run(
        ["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True
    )
    kind = found.stdout.strip().replace("ext2/ext3", "ext4")
    if kind in ("overlayfs", "btrfs"):
        pytest.skip("has devices that are not mounted")
    assert durable.keeps_order(tmp_path.stat().st_dev) == (kind in durable.IN_ORDER)


def test_data_is_written_out(tmp_path):
    """By the real calls, on whatever disk this is."""
    path = tmp_path / "file"
    path.write_text("data")
    durable.write_out([str(path), str(tmp_path / "not there")])
    durable.sync_disk(str(tmp_path))
    durable.sync_folder(str(tmp_path))
    written = durable.Written()
    written.add(str(tmp_path))
    written.sync("/proc")
    assert os.listdir(tmp_path) == ["file"]


def test_a_system_without_these_calls(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(durable, "_functions", dict)
    monkeypatch.setattr(durable, "keeps_order", lambda _: True)
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(os, "sync", lambda: synced.append("all"))
    path = tmp_path / "file"
    path.write_text("data")
    durable.write_out([str(path)])
    assert len(synced) == 1
    durable.sync_disk(str(tmp_path))
    assert synced[1:] == ["all"]


def test_data_that_cannot_be_written_out(tmp_path, monkeypatch):
    def call(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durable, "_call", call)
    monkeypatch.setattr(durable, "keeps_order", lambda _: True)
    path = tmp_path / "file"
    path.write_text("data")
    with pytest.raises(OSError, match="file"):
        durable.write_out([str(path)])
