"""Writing a file so that it is whole at every instant."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Optional, TextIO

import shortuuid


@contextmanager
def atomic_write(
    path: str, tmp_dir: str, newline: Optional[str] = None, sync: bool = True
) -> Iterator[TextIO]:
    """Open a file for writing text in UTF-8; replace ``path`` by it at the end.

    Surrogates are written as the bytes that they stand for, see ``surrogateescape``.

    A process that dies meanwhile leaves ``path`` as it was, and so does an
    exception.  A symlink stays one, its target is replaced.  The permissions of
    a file that exists are kept.

    Args:
        path: file to write.
        tmp_dir: where the new file is made, so that nobody who lists the folder
            of ``path`` sees it.
        newline: as for :func:`open`.
        sync: whether it is to be whole after the machine has gone down, too.

    Raises:
        OSError: with ``path`` untouched; names a file.
    """
    target = os.path.realpath(path)
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


def _write(
    target: str, tmp_dir: str, newline: Optional[str], sync: bool
) -> Iterator[TextIO]:
    name = f"{os.path.basename(target)}.{shortuuid.uuid()}.tmp"
    tmp = os.path.join(tmp_dir, name)
    try:
        with open(
            tmp, "x", encoding="utf-8", errors="surrogateescape", newline=newline
        ) as fobj:
            yield fobj
            if sync:
                fobj.flush()
                os.fsync(fobj.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(target, tmp)
        try:
            os.replace(tmp, target)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            tmp = _move(tmp, os.path.join(os.path.dirname(target), name))
            os.replace(tmp, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(tmp)
        raise


def _move(src: str, dst: str) -> str:
    """Move a file to another file system, and see it written there."""
    shutil.move(src, dst)
    with open(dst, "rb+") as fobj:
        os.fsync(fobj.fileno())
    return dst
