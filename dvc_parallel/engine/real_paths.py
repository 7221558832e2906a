"""Paths by what they are: a file has one place, whatever names lead to it.

DVC compares paths as text.  Two of them can be one file all the same: through links, by
``..`` behind a link, on a disk that takes ``A`` and ``a`` for one name, by bind mounts.

What holds: if two paths lead to one file or folder, or will do so once what is
missing is there, they have a place in common.  They may have one although they are two,
where it cannot be told whether a folder distinguishes ``A`` from ``a``: whoever keeps
an order for it loses time, and nothing else.

- A link at the end of a path is followed and is a place of its own: a stage that writes
  to such a path replaces the link, unless its command writes through it.
- Links to the cache are DVC's and are not followed.  It replaces them, and two outputs
  of the same content are linked to the same object.
- Hard links are names of their own, as DVC removes outputs before a stage writes them.
  It does not where they persist, so the file itself is told, too.
- Places are on file systems as they are mounted now, so that a bind mount is where the
  folder is that it shows.  What is mounted anew meanwhile is not noticed.
"""

import errno
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Any, NamedTuple, Optional

Place = tuple[str, ...]

# Links at the end of a path that are followed one after the other, as in Linux.
MAX_LINKS = 40
# How many entries of a folder are tried to find out whether it knows `A` from `a`.
MAX_TRIED = 1000

MOUNTS = "/proc/self/mountinfo"

# What a path has that is not in its plainest form, or that is split as a URL.
_NOT_PLAIN = re.compile(r"//|/\.\.?(?:/|\Z)|/\Z|[?#\x00-\x1f\x7f]")


def below(path: Any, start: Any) -> Optional[str]:
    """The path from a folder to what is in it; None if that is not plain to see."""
    if type(path) is not str or type(start) is not str or os.name != "posix":
        return None
    start = os.getcwd() if start == os.curdir else start
    if not path.startswith(f"{start}/") or _NOT_PLAIN.search(path):
        return None
    return path[len(start) + 1 :]


class Route(NamedTuple):
    """What a path leads to.

    Attributes:
        places: of what it names; several where that is a link, or has mounts in it.
        links: places of links in its folders.
        exists: whether it leads to something that is there.
        is_folder: whether that is a folder.
        names: what it and the links at its end are called without links.
        file: place of a file that has several names, wherever these are.
    """

    places: tuple[Place, ...]
    links: frozenset[Place]
    exists: bool
    is_folder: bool
    names: tuple[str, ...]
    file: Optional[Place]


class RealPaths:
    """Tells where paths lead to.

    Args:
        root: folder in which links may be made; elsewhere, they stay as they are.
        cache: folder of the cache.
    """

    def __init__(self, root: str, cache: Optional[str] = None):
        self._mounts = _mounts()
        self._above_mounts = {up for mount in self._mounts for up in _above(mount)}
        # NOTE: for good. What is taken for one place must not become two.
        self._ignores_case: dict[str, bool] = {}
        self._places: dict[str, Place] = {}
        self._root = root
        self._folders: dict[str, tuple[str, frozenset[str]]] = {}
        self._folders_outside: dict[str, tuple[str, frozenset[str]]] = {}
        self._routes: dict[str, Route] = {}
        self._links_in: dict[str, Sequence[str]] = {}
        self._cache = os.path.join(os.path.realpath(cache), "") if cache else None

    def forget_links(self) -> None:
        """Look at links anew from now on."""
        self._folders.clear()
        self._routes.clear()
        self._links_in.clear()

    def route(self, path: str) -> Route:
        """Find out where an absolute path leads to.

        Raises nothing: what cannot be looked at is taken for a folder without links.
        """
        route = self._routes.get(path)
        if route is None:
            route = self._routes[path] = self._find(path)
        return route

    def links_in(self, path: str) -> Sequence[str]:
        """Links in a folder, but for those to the cache."""
        links = self._links_in.get(path)
        if links is None and not self.route(path).is_folder:
            links = ()
        if links is None:
            files = _links_below(path)
            links = [file for file in files if len(self.route(file).places) > 1]
            self._links_in[path] = links
        return links

    def meet(self, one: str, other: str) -> bool:
        """Whether one of two paths leads to what the other does, or into that."""
        return any(
            all(a == b for a, b in zip(place, place_of_other))
            for place in self.route(one).places
            for place_of_other in self.route(other).places
        )

    def _find(self, path: str) -> Route:
        names: list[str] = []
        links: set[str] = set()
        status: Optional[os.stat_result] = None
        exists = is_folder = False
        for _ in range(MAX_LINKS):
            folder, name = os.path.split(path)
            if name in ("", os.curdir, os.pardir):
                here, more = self._folder(path)
                target, exists, is_folder = None, True, True
            else:
                real, more = self._folder(folder)
                here = os.path.join(real, name)
                target, exists, status = _look_at(here)
            links |= more
            names.append(here)
            if target is None:
                break
            path = os.path.join(real, target)
            if self._is_in_cache(path):
                break
        else:
            exists = False  # they go round in circles
        file: Optional[Place] = None
        if status is not None:
            is_folder = S_ISDIR(status.st_mode)
            if S_ISREG(status.st_mode) and status.st_nlink > 1:
                file = ("", f"{status.st_dev}:{status.st_ino}")
        return Route(
            tuple(place for name in names for place in self._places_at(name)),
            frozenset(map(self._place, links)),
            exists,
            exists and is_folder,
            tuple(names),
            file,
        )

    def _is_in_cache(self, path: str) -> bool:
        if self._cache is None:
            return False
        folder, _ = self._folder(os.path.dirname(path))
        return os.path.join(folder, "").startswith(self._cache)

    def _folder(self, path: str) -> tuple[str, frozenset[str]]:
        """The name of a folder without links, and the links on the way."""
        folders = self._folders
        if not path.startswith(self._root):
            folders = self._folders_outside
        found = folders.get(path)
        if found is not None:
            return found
        parent, name = os.path.split(path)
        if parent == path:
            found = path, frozenset()
        else:
            real, links = self._folder(parent)
            if name in ("", os.curdir):
                found = real, links
            elif name == os.pardir:
                found = os.path.dirname(real), links
            else:
                here = os.path.join(real, name)
                target, _, _ = _look_at(here)
                found = here, links
                if target is not None:
                    # NOTE: first, as links can go round in circles
                    folders[path] = here, links | {here}
                    end, more = self._folder(os.path.join(real, target))
                    found = end, links | more | {here}
        folders[path] = found
        return found

    def _places_at(self, real: str) -> Iterator[Place]:
        yield self._place(real)
        if real in self._above_mounts:
            inside = os.path.join(real, "")
            for mount, place in self._mounts.items():
                if mount.startswith(inside):
                    yield place

    def _place(self, real: str) -> Place:
        place = self._mounts.get(real)
        if place is None:
            folder, name = os.path.split(real)
            if folder == real:
                return (real,)
            above = self._places.get(folder)
            if above is None:
                above = self._places[folder] = self._place(folder)
            place = (*above, self._name_in(folder, name))
        return place

    def _name_in(self, folder: str, name: str) -> str:
        return _folded(name) if self._is_case_ignored(folder) else name

    def _is_case_ignored(self, folder: str) -> bool:
        """Whether a folder takes ``A`` and ``a`` for one name, or may do so."""
        known = self._ignores_case.get(folder)
        if known is None:
            try:
                with os.scandir(folder) as entries:
                    known = _is_case_ignored(folder, (entry.name for entry in entries))
            except (OSError, UnicodeEncodeError):
                # NOTE: it is made in the folder above, as that is
                parent = os.path.dirname(folder)
                known = parent != folder and self._is_case_ignored(parent)
            self._ignores_case[folder] = known
        return known


def _look_at(path: str) -> tuple[Optional[str], bool, Optional[os.stat_result]]:
    """Where a link leads to, if it is one; whether something is there, and what."""
    try:
        status = os.lstat(path)
        target = os.readlink(path) if S_ISLNK(status.st_mode) else None
    except OSError as exc:
        return None, exc.errno not in (errno.ENOENT, errno.ENOTDIR), None
    except UnicodeEncodeError:
        return None, False, None  # no file can have such a name in this locale
    return target, True, status


def _links_below(path: str) -> Iterator[str]:
    folders = [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        yield entry.path
                    elif entry.is_dir() and entry.name not in (".dvc", ".git"):
                        folders.append(entry.path)
        except OSError:
            continue  # it cannot be read, or has just been removed


def _folded(name: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _is_case_ignored(folder: str, names: Iterable[str]) -> bool:
    for name in islice(names, MAX_TRIED):
        other = re.sub("[A-Za-z]", lambda letter: letter[0].swapcase(), name)
        if other == name:
            continue
        try:
            one = os.lstat(os.path.join(folder, name))
        except OSError:
            continue  # it has just been removed
        try:
            return os.path.samestat(one, os.lstat(os.path.join(folder, other)))
        except OSError:
            return False
    return True


def _above(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


def _mounts() -> dict[str, Place]:
    """Where the folders are, in file systems, that are mounted somewhere.

    Format: Linux kernel documentation, filesystems/proc.rst ("mountinfo").
    """
    mounts: dict[str, Place] = {}
    try:
        with open(MOUNTS, "rb") as fobj:
            lines = [os.fsdecode(line).split(" ") for line in fobj]
    except OSError:
        return mounts
    for _, _, device, root, mount, *_ in lines:
        parts = [part for part in _unescaped(root).split("/") if part]
        mounts[_unescaped(mount)] = (device, *parts)
    return mounts


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)
