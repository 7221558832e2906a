"""Files of ours in ``.dvc/tmp``, whatever may be in their places.

A clone can bring anything there: a link to a file of the user's, a pipe that nobody
writes to, a file without end.  So below ``.dvc/tmp`` itself, which is DVC's, nothing is
opened, made, listed or removed through a link, and nothing is read but regular files.

A team can share a workspace: folders are as open to the group as ``.dvc/tmp`` is.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Callable, Optional, TextIO

import shortuuid

from .atomic import replace

_BINARY = getattr(os, "O_BINARY", 0)
# NOTE: the last of them so as not to wait for who writes to a pipe
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_CAREFULLY = _NO_LINK | getattr(os, "O_NONBLOCK", 0) | _BINARY
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CAREFULLY
_HAS_DIR_FD = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
# What a folder may have of the permissions of ``.dvc/tmp``.
_GROUP = stat.S_IRWXG | stat.S_ISGID


class OwnFolder:
    """A folder of ours below ``.dvc/tmp``, which need not be there.

    Names are those of entries of the folder.  All methods raise OSError, which names a
    path, where there is something else in its place.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
        names: of the folders from there on.

    Attributes:
        path (str): of the folder.
    """

    def __init__(self, tmp_dir: str, *names: str):
        self._tmp_dir = tmp_dir
        self._names = names
        self.path = os.path.join(tmp_dir, *names)

    def folder(self, *names: str) -> "OwnFolder":
        """A folder in it."""
        return OwnFolder(self._tmp_dir, *self._names, *names)

    def path_of(self, name: str) -> str:
        return os.path.join(self.path, name)

    def make(self) -> None:
        """Create the folder and its parents, where they are missing."""
        for depth, name in enumerate(self._names):
            parent = OwnFolder(self._tmp_dir, *self._names[:depth])
            with (
                parent._naming(name),
                parent._opened() as at,
                suppress(FileExistsError),
            ):
                parent._make(at, name)
        with self._opened():
            pass

    def _make(self, at: Optional[int], name: str) -> None:
        path = self._at(at, name)
        try:
            os.mkdir(path, dir_fd=at)
        except FileExistsError:
            return
        above = os.stat(self._tmp_dir).st_mode
        if above & stat.S_IWGRP:
            mode = stat.S_IMODE(os.stat(path, dir_fd=at).st_mode)
            os.chmod(path, mode | above & _GROUP, dir_fd=at)

    def open(self, name: str, flags: int) -> int:
        """Open a file; with the umask if it is new.

        Returns:
            int: its descriptor.
        """
        with self._naming(name), self._opened() as at:
            fd = os.open(self._at(at, name), flags | _CAREFULLY, 0o666, dir_fd=at)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise OSError(errno.EINVAL, "not a regular file")
            return fd

    def read(self, name: str, most: Optional[int] = None) -> BinaryIO:
        """Open a file for reading bytes.

        Args:
            most: how large it can be, in bytes.
        """
        fd = self.open(name, os.O_RDONLY)
        if most is not None and os.fstat(fd).st_size > most:
            os.close(fd)
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self.path_of(name))
        return open(fd, "rb")

    @contextmanager
    def replace(self, name: str) -> Iterator[TextIO]:
        """Write text to a file in UTF-8, which is whole at every instant."""
        tmp = f".{name}.{shortuuid.uuid()}.tmp"
        fd = self.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with open(fd, "w", encoding="utf-8", errors="surrogateescape") as fobj:
                yield fobj
            self.rename(tmp, name)
        except BaseException:
            with suppress(OSError):
                self.remove(tmp)
            raise

    def rename(self, name: str, new: str) -> None:
        """Rename a file; what has the new name, if it is no folder, is replaced."""
        with self._naming(new), self._opened() as at:
            src, dst = self._at(at, name), self._at(at, new)
            replace(src, dst, src_dir_fd=at, dst_dir_fd=at)

    def remove(self, name: str) -> None:
        """Remove a file, or as much of a folder as can be."""
        with self._naming(name), self._opened() as at:
            path = self._at(at, name)
            if stat.S_ISDIR(os.stat(path, dir_fd=at, follow_symlinks=False).st_mode):
                shutil.rmtree(self.path_of(name), ignore_errors=True)
            else:
                os.unlink(path, dir_fd=at)

    def files(self) -> dict[str, int]:
        """Names of the regular files, and their sizes in bytes."""
        return self._list(
            lambda entry: (
                entry.stat(follow_symlinks=False).st_size
                if entry.is_file(follow_symlinks=False)
                else None
            )
        )

    def names(self) -> list[str]:
        """Names of all that is in it."""
        return [*self._list(lambda _: True)]

    def folders(self) -> list[str]:
        """Names of the folders."""
        return [*self._list(lambda entry: entry.is_dir(follow_symlinks=False) or None)]

    def _list(self, what: Callable) -> dict:
        with self._naming(), self._opened() as at:
            with os.scandir(self.path if at is None else at) as entries:
                told = {entry.name: what(entry) for entry in entries}
        return {name: known for name, known in told.items() if known is not None}

    @contextmanager
    def _opened(self) -> Iterator[Optional[int]]:
        """A descriptor of the folder; None where the system has none."""
        if not _HAS_DIR_FD:
            for depth in range(len(self._names)):
                path = os.path.join(self._tmp_dir, *self._names[: depth + 1])
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, "not a folder", path)
            yield None
            return
        fd = os.open(self._tmp_dir, _FOLDER & ~_NO_LINK)
        try:
            for name in self._names:
                above, fd = fd, os.open(name, _FOLDER, dir_fd=fd)
                os.close(above)
            yield fd
        finally:
            os.close(fd)

    def _at(self, at: Optional[int], name: str) -> str:
        return self.path_of(name) if at is None else name

    @contextmanager
    def _naming(self, name: str = "") -> Iterator[None]:
        """Make errors name a path, and say of a link that it is one."""
        try:
            yield
        except OSError as exc:
            exc.filename = self.path_of(name) if name else self.path
            exc.filename2 = None
            if exc.errno == errno.ELOOP:
                exc.strerror = "a link, which is not followed"
            raise
