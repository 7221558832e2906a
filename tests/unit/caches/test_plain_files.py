"""A plain file is saved as DVC saves it: the same cache, workspace and state."""

import errno
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc_data.hashfile import checkout as dvc_checkout
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_data.hashfile.state import State
from dvc_data.hashfile.transfer import transfer
from dvc_objects.fs import localfs

from dvc_parallel.caches import plain_files
from dvc_parallel.caches.hashes import ANSWERS_STAY
from dvc_parallel.caches.path_facts import LinkTypes

pytestmark = pytest.mark.skipif(
    not ANSWERS_STAY, reason="dvc-data before 3.16 has no use for it"
)
TYPES = [None, ["copy"], ["reflink", "copy"], ["hardlink"], ["symlink"]]


@pytest.fixture
def links(tmp_path):
    """Links between disks that cannot clone files, as has been tried."""

    def cannot(_fs, _src, dst):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), dst)

    found = LinkTypes()
    with suppress(OSError):
        found.reflink(cannot, localfs, str(tmp_path), str(tmp_path / "x"))
    return found


@pytest.fixture
def make(tmp_path):
    made = []

    def make(name, **config):
        root = tmp_path / name
        root.mkdir()
        state = State(str(root), str(root / "state"))
        odb = LocalHashFileDB(localfs, str(root / "cache"), state=state, **config)
        made.append(state)
        return SimpleNamespace(root=root, path=str(root / "out"), odb=odb, state=state)

    yield make
    for state in made:
        state.close()


def save(place, links=None):
    """As ``Output.save`` and ``commit``; with ``links``, by what is tested.

    Returns which of the steps were not DVC's.
    """
    ours = []

    def dvcs(*args, **kwargs):
        ours.remove("build")
        return build(*args, **kwargs)

    args = place.odb, place.path, localfs, "md5"
    if links is None:
        staging, meta, obj = build(*args)
    else:
        ours.append("build")
        staging, meta, obj = plain_files.build(dvcs, *args, ignore=None)
    hardlink = place.odb.cache_types[0] == "hardlink"
    ids = {obj.hash_info}
    result = (
        links and not hardlink and plain_files.transfer(links, staging, args[0], ids)
    )
    if result:
        ours.append("transfer")
    else:
        result = transfer(staging, args[0], ids, shallow=False, hardlink=hardlink)
    assert not result.failed
    args = place.path, localfs, obj, place.odb
    kwargs = {"relink": True, "old": obj, "state": place.state}
    if links and plain_files.leave(dvc_checkout.test_links, *args, **kwargs):
        ours.append("leave")
    else:
        dvc_checkout.checkout(*args, **kwargs)
    return ours, meta, obj


def seen(place):
    """All that differs: of files their kind, mode and content, and the database."""
    files = {}
    for folder, _, names in os.walk(place.root):
        for name in names if "/state" not in folder else ():
            path = os.path.join(folder, name)
            found = os.lstat(path)
            files[os.path.relpath(path, place.root)] = (
                stat.filemode(found.st_mode),
                found.st_nlink,
                Path(path).read_bytes(),
            )
    rows = {
        os.path.relpath(key, place.root): json.loads(place.state.hashes[key])
        for key in place.state.hashes
    }
    for name, row in rows.items():
        path = str(place.root / name)
        assert place.state.get(path, localfs)[1].to_dict() == row["hash_info"]
        del row["checksum"]
    stamps = {key: place.state.links[key] for key in place.state.links}
    for key, (inode, mtime) in stamps.items():
        assert inode == os.lstat(place.root / key).st_ino
        assert abs(int(mtime) - os.stat(place.root / key).st_mtime_ns) < 1000
    return files, rows, set(stamps)


def write(place, text="text", mode=0o644):
    (place.root / "out").write_text(text)
    (place.root / "out").chmod(mode)


@pytest.mark.parametrize("shared", [None, "group"])
@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize(
    "text,mode",
    [("text", 0o644), ("", 0o600), ("text", 0o755), ("a\n" * 10, 0o444)],
)
def test_as_dvc(make, links, types, shared, text, mode):
    config = {"type": types and list(types), "shared": shared}
    ours, dvcs = make("ours", **config), make("dvcs", **config)
    for place in (ours, dvcs):
        write(place, text, mode)
    steps, meta, obj = save(ours, links)
    _, real_meta, real_obj = save(dvcs)
    assert obj.hash_info == real_obj.hash_info
    assert (meta.size, meta.isexec) == (real_meta.size, real_meta.isexec)
    assert seen(ours) == seen(dvcs)
    is_link = types and types[0] in ("hardlink", "symlink")
    assert steps == (
        ["build", "transfer", "leave"]
        if not is_link
        else ["build", "transfer"][: 1 + (types == ["symlink"])]
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("TEXT"),
        lambda path: os.utime(path, (1, 1)),
        lambda path: (path.unlink(), path.write_text("TEXT")),
        lambda path: path.write_text("longer"),
    ],
)
def test_a_file_that_changes_is_hashed_again(make, links, change):
    ours, dvcs = make("ours"), make("dvcs")
    for place in (ours, dvcs):
        write(place)
    save(ours, links)
    save(dvcs)
    for place in (ours, dvcs):
        change(place.root / "out")
    assert save(ours, links)[2].hash_info == save(dvcs)[2].hash_info
    assert seen(ours) == seen(dvcs)


def test_what_is_no_plain_file_of_moderate_size_is_for_dvc(make, links, monkeypatch):
    place = make("ours")
    (place.root / "other").write_text("text")
    (place.root / "out").symlink_to("other")
    assert "build" not in save(place, links)[0]
    os.unlink(place.path)
    (place.root / "out").mkdir()
    assert save(place, links)[0] == []
    os.rmdir(place.path)
    write(place)
    os.link(place.path, place.root / "second")
    assert "leave" not in save(place, links)[0]
    os.unlink(place.root / "second")
    monkeypatch.setattr(plain_files, "MODERATE", 3)
    assert save(place, links)[0] == []


def test_where_files_can_be_cloned_dvc_does_so(make):
    place = make("ours")
    write(place)
    assert "transfer" not in save(place, LinkTypes())[0]


def test_an_object_that_is_there_is_looked_at(make, links):
    place = make("ours")
    write(place)
    _, _, obj = save(place, links)
    path = place.odb.oid_to_path(obj.hash_info.value)
    before = os.stat(path).st_ino
    save(place, links)
    assert os.stat(path).st_ino == before
    # Somebody has written to it
    os.chmod(path, 0o644)
    Path(path).write_text("tex!")
    save(place, links)
    assert Path(path).read_text() == "text"


def test_an_object_that_is_gone_is_missed(make, links):
    place = make("ours")
    write(place)
    _, _, obj = save(place, links)
    os.unlink(place.odb.oid_to_path(obj.hash_info.value))
    kwargs = {"relink": True, "old": obj, "state": place.state}
    args = dvc_checkout.test_links, place.path, localfs, obj, place.odb
    assert not plain_files.leave(*args, **kwargs)


@pytest.mark.parametrize(
    "change", [{"relink": False}, {"old": None}, {"state": None}, {"old": object()}]
)
def test_another_checkout_is_for_dvc(make, links, change):
    place = make("ours")
    write(place)
    _, _, obj = save(place, links)
    kwargs = {"relink": True, "old": obj, "state": place.state, **change}
    args = dvc_checkout.test_links, place.path, localfs, obj, place.odb
    assert not plain_files.leave(*args, **kwargs)


def test_a_failed_copy_leaves_nothing(make, links, monkeypatch):
    place = make("ours")
    write(place)

    def fail(*_):
        raise OSError(errno.EIO, "no")

    staging, _, obj = plain_files.build(build, place.odb, place.path, localfs, "md5")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        assert plain_files.transfer(links, staging, place.odb, {obj.hash_info}) is None
    assert not any(names for _, _, names in os.walk(place.root / "cache"))
