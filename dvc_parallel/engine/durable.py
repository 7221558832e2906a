"""What is on the disk before dvc.lock says so.

After a power cut, a file that was not written out is there by name, but without its
data.  So what goes into the cache is written out before an entry of dvc.lock names it.

ext4 and xfs keep the order of all that is done to names and sizes: with the last of it,
all before it is on the disk.  There, data is written out, which takes little, and one
sync after dvc.lock was replaced does the rest.  Of other file systems nothing is
known: there, all is synced before dvc.lock is replaced.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from ctypes import c_int, c_int64, c_uint
from functools import cache, lru_cache
from tempfile import TemporaryFile
from typing import Any

# File systems with one journal for all.
IN_ORDER = ("ext4", "xfs")
# Wait for what is being written, write what there is, and wait for that.
SYNC_FILE_RANGE = 7
# Files that are synced one by one where nothing is known about the order.
LARGE_SIZE = 2**20


class Written:
    """Where a run has written to since dvc.lock was replaced last.

    Owned by the owner of the repo.
    """

    def __init__(self) -> None:
        self._folders: dict[int, str] = {}  # one for each disk

    def add(self, folder: str) -> None:
        """Take note of a folder; data in it has been written out."""
        with suppress(FileNotFoundError):
            self._folders[os.stat(folder).st_dev] = folder

    def sync(self, folder: str) -> None:
        """Have it on the disk before anything that is now done in a folder."""
        if not self._folders:
            return
        device = os.stat(folder).st_dev
        if keeps_order(device):
            self._folders.pop(device, None)
        while self._folders:
            device, folder = next(iter(self._folders.items()))
            if keeps_order(device):
                with TemporaryFile(dir=folder) as fobj:
                    os.fsync(fobj.fileno())
            else:
                sync_disk(folder)
            del self._folders[device]


def write_out(paths: Iterable[str]) -> None:
    """Have the data of files on the disk, as far as they are there.

    Not yet their names and sizes; nor where the order of changes is not known, if it
    is little.

    Raises:
        OSError: one could not be written, or read; names it.
    """
    for path in paths:
        try:
            with _opened(path) as fd:
                if not write_out_open(fd) and os.fstat(fd).st_size >= LARGE_SIZE:
                    os.fsync(fd)
        except FileNotFoundError:
            continue
        except OSError as exc:
            exc.filename = path
            raise


def write_out_open(fd: int) -> bool:
    """Have the data of a file on the disk, if that keeps the order of changes."""
    if not keeps_order(os.fstat(fd).st_dev):
        return False
    try:
        _call("sync_file_range", fd, 0, 0, SYNC_FILE_RANGE)
    except OSError as exc:
        if exc.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        os.fsync(fd)
    return True


def sync_folder(folder: str) -> None:
    """Have the names in a folder on the disk, where the system lets us."""
    # NOTE: whoever may write there need not be able to list it
    with suppress(PermissionError), _opened(folder) as fd:
        try:
            os.fsync(fd)
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
                raise


def sync_disk(folder: str) -> None:
    """Have all on the disk that a folder is on, where the system lets us."""
    if sys.platform == "win32":
        return  # NOTE: it opens no folders
    with _opened(folder) as fd:
        try:
            _call("syncfs", fd)
        except OSError as exc:
            if exc.errno != errno.ENOSYS:
                raise
            if sys.platform != "win32":
                os.sync()


def keeps_order(device: int) -> bool:
    """Whether a file system is one of those that keep the order of changes."""
    return _kind(device) in IN_ORDER


@lru_cache(maxsize=256)
def _kind(device: int) -> str:
    """What a file system is, empty if that is not known."""
    if sys.platform == "win32":
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as fobj:
            for line in fobj:
                mount, _, kind = line.partition(" - ")
                if mount.split(" ", 3)[2] == number:
                    return kind.split(" ", 1)[0]
    except (OSError, IndexError):
        pass
    return ""


@contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def _call(name: str, fd: int, *args: int) -> None:
    function = _functions().get(name)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(fd, *args):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@cache
def _functions() -> dict[str, Any]:
    """Those of the C library of Linux that Python has not."""
    if sys.platform != "linux":
        return {}
    signatures = {
        "sync_file_range": (c_int, c_int64, c_int64, c_uint),
        "syncfs": (c_int,),
    }
    libc = ctypes.CDLL(None, use_errno=True)
    functions = {name: getattr(libc, name, None) for name in signatures}
    for name, function in functions.items():
        if function is not None:
            function.argtypes = signatures[name]
    return functions
