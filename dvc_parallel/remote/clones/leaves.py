"""Files, links and empty folders that go along in a message.

The content of a small file is in the message, that of a large one in the exchange.
"""

import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Optional

from dvc.exceptions import DvcException
from dvc_data.hashfile.tree import Tree
from shortuuid import uuid

from .requests import Leaf

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc_data.hashfile.hash_info import HashInfo

    from .exchange import Exchange

# Bytes from which on the content of a file goes through the exchange.
LARGE = 2**20


def real(path: str) -> str:
    """A path without links in its folders; it may be one itself."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def name_in(root: str, path: str) -> str:
    """The name of a path in a message: from the root, with slashes.

    Raises:
        ValueError: it is not below the root.
    """
    name = os.path.relpath(real(path), root).replace(os.sep, "/")
    if name.split("/")[0] in (os.pardir, os.curdir) or os.path.isabs(name):
        raise ValueError(f"'{path}' is not in '{root}'")
    return name


def walk(path: str) -> Iterator[str]:
    """All files, links and empty folders at a path, itself included."""
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.lexists(path):
            yield path
        return
    names = sorted(os.listdir(path))
    if not names:
        yield path
    for name in names:
        yield from walk(os.path.join(path, name))


def hashed_files(out: "Output") -> "dict[str, HashInfo]":
    """The files of an output or dependency, as DVC has saved it last."""
    if isinstance(out.obj, Tree):
        return {os.path.join(out.fs_path, *key): oid for key, _, oid in out.obj}
    return {} if out.obj is None else {out.fs_path: out.obj.hash_info}


def read(path: str, root: str, exchange: "Exchange", *, links: bool = False) -> Leaf:
    """A file, or an empty folder.

    Args:
        links: whether a link stays one, instead of what it refers to.
    """
    name = name_in(root, path)
    status = os.lstat(path) if links else os.stat(path)
    if stat.S_ISLNK(status.st_mode):
        return Leaf(name, status.st_mode, os.fsencode(os.readlink(path)))
    if stat.S_ISDIR(status.st_mode):
        return Leaf(name, status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise DvcException(f"'{path}' is neither a file nor a folder")
    if status.st_size >= LARGE:
        return Leaf(name, status.st_mode, md5=exchange.put_file(path))
    with open(path, "rb") as fobj:
        return Leaf(name, status.st_mode, fobj.read())


def write(leaf: Leaf, root: str, get_file: Callable[[str, str], None]) -> None:
    """Create a file, link or empty folder, in place of what is there.

    Existing files are not written to, as they may be linked to a cache.

    Args:
        get_file: puts content that is known by its MD5 to a path.
    """
    path = os.path.join(root, *leaf.path.split("/"))
    if leaf.data is None and leaf.md5 is None and not stat.S_ISDIR(leaf.mode):
        if os.path.islink(path):
            raise DvcException(f"'{path}' is a link")
        os.chmod(path, stat.S_IMODE(leaf.mode))
        return
    if stat.S_ISDIR(leaf.mode):
        if not os.path.isdir(path):
            remove(path)
            os.makedirs(path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.isdir(path) and not os.path.islink(path):
        remove(path)
    new = os.path.join(os.path.dirname(path), f".{uuid()}.tmp")
    try:
        if stat.S_ISLNK(leaf.mode):
            assert leaf.data is not None
            os.symlink(os.fsdecode(leaf.data), new)
        else:
            _write_file(leaf, new, get_file)
        os.replace(new, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(new)
        raise


def _write_file(leaf: Leaf, path: str, get_file: Callable[[str, str], None]) -> None:
    if leaf.data is None:
        assert leaf.md5 is not None
        get_file(leaf.md5, path)
    else:
        with open(path, "wb") as fobj:
            fobj.write(leaf.data)
    os.chmod(path, stat.S_IMODE(leaf.mode))


def remove(path: str) -> None:
    """Remove a file, link or folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def unusual(
    path: str, kept: Optional[Collection[str]], root: str, exchange: "Exchange"
) -> Iterator[Leaf]:
    """What a command has made at a path that DVC does not keep in its cache.

    That is empty folders, files that DVC ignores, links to files in the same folder,
    and permissions to execute.

    Args:
        path: of an output.
        kept: paths of the files in it that the cache has, or None if it has nothing.
    """
    for found in walk(path):
        if kept is None or found not in kept or _stays_in(found, path):
            yield read(found, root, exchange, links=_stays_in(found, path))
        elif (mode := os.stat(found).st_mode) & stat.S_IXUSR:
            yield Leaf(name_in(root, found), mode)


def _stays_in(link: str, folder: str) -> bool:
    """Whether it is a link, by a relative path, to something in a folder."""
    if not os.path.islink(link) or os.path.isabs(os.readlink(link)):
        return False
    target = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
    return target.startswith(folder + os.sep)
