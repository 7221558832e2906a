"""Writing a file so that it is whole at every instant, and whose it would be in DVC."""

import errno
import itertools
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from typing import Optional, TextIO

import shortuuid

from .durable import sync_disk, sync_folder, write_out_open

# Why a file cannot be replaced though it may well be written to: it belongs to somebody
# else, its folder does, or it is a mount point.
UNCHANGEABLE = (errno.EPERM, errno.EACCES, errno.EBUSY, errno.EROFS)
# How often a file is tried to be replaced while somebody reads it, with so many seconds
# between.
ATTEMPTS, PAUSE = 20, 0.05
ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"

umask = os.umask(0)
os.umask(umask)

# What makes names of temporary files unique, also among machines.
_PROCESS = shortuuid.uuid()
_numbers = itertools.count()


@contextmanager
def atomic_write(
    path: str, tmp_dir: str, newline: Optional[str] = None, sync: bool = True
) -> Iterator[TextIO]:
    """Open a file for writing text in UTF-8; replace ``path`` by it at the end.

    Surrogates are written as the bytes that they stand for, see ``surrogateescape``.

    A process that dies meanwhile leaves ``path`` as it was, and so does an
    exception.  A symlink stays one, its target is replaced.

    Owner, group, permissions and extended attributes are those that ``open(path, "w")``
    leaves.  A file that cannot be replaced so, such as a colleague's that the group may
    write to, is overwritten: only then can a kill leave a part of it, and the whole is
    in ``tmp_dir`` in that case.

    Args:
        path: file to write.
        tmp_dir: where the new file is made, so that nobody who lists the folder
            of ``path`` sees it.
        newline: as for :func:`open`.
        sync: whether it is to be on the disk when this returns.  On one that keeps the
            order of changes, it is whole at every instant all the same.

    Raises:
        OSError: with ``path`` untouched, or whole if it could not be synced; names a
            file.
    """
    # NOTE: where it is no link itself, links on the way to it may stay
    target = os.path.realpath(path) if os.path.islink(path) else path
    with about(target):
        yield from _write(target, tmp_dir, newline, sync)


@contextmanager
def about(path: str) -> Iterator[None]:
    """Have errors name a file where the system does not: not even for a full disk."""
    try:
        yield
    except OSError as exc:
        if exc.errno is not None and exc.filename is None:
            exc.filename = path
        raise


def temporary_name(name: str) -> str:
    """A name that no other file has, also among machines."""
    return f"{name}.{_PROCESS}-{os.getpid()}-{next(_numbers)}.tmp"


def _write(
    target: str, tmp_dir: str, newline: Optional[str], sync: bool
) -> Iterator[TextIO]:
    folder, basename = os.path.split(target)
    name = temporary_name(basename)
    tmp = os.path.join(tmp_dir, name)
    try:
        with open(
            tmp, "x", encoding="utf-8", errors="surrogateescape", newline=newline
        ) as fobj:
            yield fobj
            fobj.flush()
            if not write_out_open(fobj.fileno()) and sync:
                os.fsync(fobj.fileno())
        try:
            _take_over(target, tmp)
            try:
                replace(tmp, target)
            except OSError as exc:
                if exc.errno != errno.EXDEV:
                    raise
                tmp = _move(tmp, os.path.join(folder, name))
                _take_over(target, tmp)
                replace(tmp, target)
        except OSError as exc:
            if exc.errno not in UNCHANGEABLE or not os.access(target, os.W_OK):
                raise
            _overwrite(target, tmp, sync)
            os.unlink(tmp)
        else:
            if sync:
                sync_folder(folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(tmp)
        raise


def replace(src: str, dst: str, **folders: Optional[int]) -> None:
    """Rename a file, as :func:`os.replace`.

    Windows does not replace a file while somebody reads it; that takes a moment.

    Args:
        src, dst: the file, and what it is called then.
        folders: as :func:`os.replace` has them.

    Raises:
        OSError: it could not be renamed.
    """
    for _ in range(ATTEMPTS - 1 if os.name == "nt" else 0):
        with suppress(PermissionError):
            os.replace(src, dst, **folders)
            return
        time.sleep(PAUSE)
    os.replace(src, dst, **folders)


def _move(src: str, dst: str) -> str:
    """Move a file to another file system, and see it written there."""
    shutil.move(src, dst)
    with open(dst, "rb+") as fobj:
        os.fsync(fobj.fileno())
    return dst


def _overwrite(target: str, tmp: str, sync: bool) -> None:
    """Write what is in one file into another one, or leave that as it was."""
    with open(tmp, "rb") as src, open(target, "r+b", buffering=0) as dst:
        old, new = dst.read(), src.read()
        if sync:
            # NOTE: this is not in the order of changes
            sync_disk(os.path.dirname(target))
        try:
            _fill(dst, new)
        except OSError:
            _fill(dst, old)
            raise
        if sync:
            os.fsync(dst.fileno())


def _fill(fobj: FileIO, content: bytes) -> None:
    fobj.seek(0)
    rest = memoryview(content)
    while rest:
        rest = rest[fobj.write(rest) :]
    fobj.truncate()


def _take_over(target: str, tmp: str) -> None:
    """Give a file the owner, permissions and attributes of the one it is to replace.

    Where that is not there yet, those that it would have if it were made in its place.

    Raises:
        OSError: it cannot have them.
    """
    if sys.platform == "win32":
        return
    own, has = os.stat(tmp), _attributes(tmp)
    try:
        old, attributes = os.stat(target), _attributes(target)
        uid, gid, mode = old.st_uid, old.st_gid, stat.S_IMODE(old.st_mode)
    except FileNotFoundError:
        folder = os.path.dirname(target)
        above, acl = os.stat(folder), _attributes(folder).get(DEFAULT_ACL)
        # NOTE: without such a list, `tmp` has been made with the umask of this process
        uid = os.geteuid()
        mode = 0o666 & ~umask if ACL in has else stat.S_IMODE(own.st_mode)
        gid = above.st_gid if above.st_mode & stat.S_ISGID else os.getegid()
        attributes = {ACL: acl} if acl else {}
        if acl:
            mode = 0o666  # NOTE: the kernel heeds such a list instead of the umask

    if (own.st_uid, own.st_gid) != (uid, gid):
        os.chown(tmp, uid, gid)
    if sys.platform == "linux":
        for name in has.keys() - attributes.keys():
            os.removexattr(tmp, name)
        for name, value in attributes.items() - has.items():
            os.setxattr(tmp, name, value)
    if ACL in attributes:
        mode &= stat.S_IMODE(os.stat(tmp).st_mode)
    if attributes or has or mode != stat.S_IMODE(own.st_mode):
        os.chmod(tmp, mode)


def _attributes(path: str) -> dict[str, bytes]:
    """Extended attributes of a file, such as an ACL; not those of the system's."""
    if sys.platform != "linux":
        return {}
    try:
        return {
            name: os.getxattr(path, name)
            for name in os.listxattr(path)
            if not name.startswith("security.")
        }
    except OSError:
        return {}  # the file system has none
