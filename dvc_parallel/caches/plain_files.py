"""Outputs that are plain files: hashed, put into the cache, and left where they are.

DVC goes the same way for a small file as for a folder of a million: a staging area, a
query of what is missing, comparisons of trees, a progress bar for each.  Here, a file
takes the steps that are left of that.  Whatever is anything else, or fails, takes DVC's
own way.

Owned by nobody: any thread may call.
"""

import os
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_data.hashfile.db.reference import ReferenceHashFileDB
from dvc_data.hashfile.hash import hash_file
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.obj import HashFile
from dvc_data.hashfile.state import State
from dvc_data.hashfile.transfer import TransferResult
from dvc_objects.errors import ObjectFormatError
from dvc_objects.fs import LocalFileSystem, MemoryFileSystem
from dvc_objects.fs.utils import tmp_fname

from dvc_parallel.engine.atomic import umask

from .hashes import ANSWERS_STAY

if TYPE_CHECKING:
    from .path_facts import LinkTypes

if ANSWERS_STAY:
    from dvc_data.fsutils import _localfs_info
    from dvc_data.hashfile.utils import to_nanoseconds

# Bytes up to which a file is read at once.
MODERATE = 2**20


def build(original: Callable, odb: Any, path: str, fs: Any, name: str, **kwargs):
    """As ``Output._build``, which is ``original``: find the hash of a file."""
    is_usual = ANSWERS_STAY and name == "md5" and kwargs.keys() <= {"ignore", "dry_run"}
    info = _info_of(path) if is_usual and type(fs) is LocalFileSystem else None
    if info is None:
        return original(odb, path, fs, name, **kwargs)
    meta, hash_info = odb.state.get(path, fs, info)
    if hash_info is None or hash_info.name != name:
        meta, hash_info = hash_file(path, fs, name, info=info)
        odb.state.save_many([(path, hash_info, info)], fs)
    staging = ReferenceHashFileDB(
        _memory(), "/plain-files", state=odb.state, hash_name=odb.hash_name
    )
    staging.add(path, fs, hash_info.value)
    return staging, meta, staging.get(hash_info.value)


@cache
def _memory() -> MemoryFileSystem:
    """Where DVC has what it puts into a cache."""
    return MemoryFileSystem()


def _info_of(path: str) -> Optional[dict[str, Any]]:
    """What DVC's file system says of a file; None if it is not plain, or large."""
    try:
        info = _localfs_info(path)
    except OSError:
        return None
    is_plain = info["type"] == "file" and not info["islink"]
    return info if is_plain and info["size"] <= MODERATE else None


def transfer(
    links: "LinkTypes", src: Any, dest: Any, obj_ids: set[HashInfo]
) -> Optional[TransferResult]:
    """Put a file into the cache, as ``transfer`` of dvc_data; None: that is for DVC."""
    if type(src) is not ReferenceHashFileDB or src.fs is not _memory():
        return None
    if type(dest) is not LocalHashFileDB or dest.read_only or dest.verify:
        return None
    (hash_info,) = obj_ids
    oid: Any = hash_info.value
    if _is_in(dest, oid):
        return TransferResult(set(), set())
    path, target = src.get(oid).path, dest.oid_to_path(oid)
    folder = os.path.dirname(target)
    try:
        if not os.path.isdir(folder):
            dest.makedirs(folder)
        if not links.are_copies(path, folder):
            return None
        _copy(path, folder, target)
        info = _localfs_info(target)
    except OSError:
        return None  # NOTE: DVC runs into the same error, and says so
    dest.protect(target)
    dest.state.save_many([(target, HashInfo(dest.hash_name, oid), info)], dest.fs)
    return TransferResult({hash_info}, set())


def _copy(path: str, folder: str, target: str) -> None:
    tmp = os.path.join(folder, tmp_fname())
    try:
        with open(path, "rb", 0) as source, open(tmp, "xb") as copy:
            copy.write(source.read())
        os.replace(tmp, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(tmp)
        raise


def leave(
    test_links: Callable,
    path: str,
    fs: Any,
    obj: Any,
    cache: Any,
    *,
    relink: bool = False,
    old: Any = None,
    state: Any = None,
    **_kwargs,
) -> bool:
    """Have a file that was just put into the cache be what DVC would make of it.

    Where all it could be is a copy, that is the file as it is, but for its mode.

    Returns:
        whether that was done; if not, it is for ``checkout`` of dvc_data.
    """
    if not ANSWERS_STAY or not relink or old is not obj:
        return False
    kinds = State, HashFile, LocalFileSystem, LocalHashFileDB
    if tuple(map(type, (state, obj, fs, cache))) != kinds or obj.hash_info.isdir:
        return False
    info = _info_of(path)
    if info is None or info["nlink"] != 1:
        return False
    links = test_links(cache.cache_types, cache.fs, cache.path, fs, path)
    if links != ["copy"] or not _is_in(cache, obj.hash_info.value):
        return False
    is_set = cache.cache_types[:1] == ["copy"]
    os.chmod(path, cache._file_mode if is_set else 0o666 & ~umask)
    state.save_many([(path, obj.hash_info, info)], fs)
    state.set_link(path, info["ino"], str(to_nanoseconds(info["mtime"])))
    return True


def _is_in(cache: Any, oid: str) -> bool:
    """Whether an object is there, and as it was; if not, DVC removes it."""
    try:
        cache.check(oid)
    except (FileNotFoundError, ObjectFormatError):
        return False
    return True
