"""Where modules are: in the folders of a project, or in an installed package."""

import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Optional

from .harmless import words

# Modules of the standard library that some Python between 3.9 and 3.14 lacks: whichever
# runs, they are no installed packages.
_SOMETIMES = words(
    """
    _zstd aifc annotationlib asynchat asyncore audioop binhex cgi cgitb chunk
    compression crypt distutils formatter imghdr imp lib2to3 mailcap msilib nis
    nntplib ossaudiodev parser pipes smtpd sndhdr spwd sunau symbol telnetlib
    tomllib uu xdrlib zoneinfo
    """
)
_EXTENSION = re.compile(r"\.(?:cpython|abi3|pypy|cp)[^/]*\.(?:so|pyd)|\.so|\.pyd")
_SITE = ("site-packages", "dist-packages")


class Place(NamedTuple):
    """A module of the project.

    Attributes:
        name: with dots.
        path: its file, or its folder if it is a package without a file.
        package: whether others are in it.
    """

    name: str
    path: str
    package: bool


def standard_modules() -> frozenset[str]:
    """Names of the modules at the top of the standard library, of any Python."""
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:  # before Python 3.10
        folder = sysconfig.get_path("stdlib")
        names = {name.partition(".")[0] for name in os.listdir(folder)}
        names |= set(sys.builtin_module_names)
    return frozenset(names) | _SOMETIMES


class Places:
    """Finds the modules of a project, as ``sys.path`` does with its folders."""

    def __init__(self, roots: Sequence[str], packages: "Packages"):
        self.roots = [os.path.realpath(root) for root in roots]
        self._packages = packages
        self._found: dict[str, Optional[Place]] = {}
        self._listed: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> Optional[Place]:
        """A module of the project; None if it is not one."""
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> Optional[Place]:
        parent, _, last = name.rpartition(".")
        folders = self._folders(parent)
        if not last.isidentifier() or name in sys.builtin_module_names:
            return None
        nothing_but_folder = None
        for folder in folders:
            file = self._file(folder, last)
            if file is not None:
                path = os.path.join(folder, file)
                return Place(name, path, file.endswith("__init__.py"))
            path = os.path.join(folder, last)
            if nothing_but_folder is None and self._names(path):
                nothing_but_folder = path
        # NOTE: in `sys.path`, an installed package goes before such a folder
        if nothing_but_folder is None or (not parent and self._packages.of(name)):
            return None
        return Place(name, nothing_but_folder, True)

    def _folders(self, parent: str) -> list[str]:
        """Where the modules of a package are; without one, those at the top."""
        if not parent:
            return self.roots
        place = self.find(parent)
        if place is None or not place.package:
            return []
        if not os.path.isdir(place.path):
            return [os.path.dirname(place.path)]
        # NOTE: a package without a file can be in several folders
        rel = parent.replace(".", os.sep)
        return [os.path.join(root, rel) for root in self.roots]

    def _file(self, folder: str, name: str) -> Optional[str]:
        """The file of a module, in the folder that it is in."""
        listed = self._names(folder)
        if name in listed and "__init__.py" in self._names(os.path.join(folder, name)):
            return os.path.join(name, "__init__.py")
        if f"{name}.py" in listed:
            return f"{name}.py"
        compiled = (file for file in sorted(listed) if file.startswith(f"{name}."))
        return next((f for f in compiled if _EXTENSION.fullmatch(f[len(name) :])), None)

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._listed[folder] = frozenset()
        return self._listed[folder]

    def at(self, path: str) -> Place:
        """The module that a file is, in the first root that it is in."""
        path = os.path.realpath(path)
        for root in self.roots:
            rel = os.path.relpath(path, root)
            if not rel.startswith(os.pardir):
                name = os.path.splitext(rel)[0].replace(os.sep, ".")
                package = name == "__init__" or name.endswith(".__init__")
                name = name[: -len(".__init__")] if package and "." in name else name
                found = self.find(name)
                if found and os.path.realpath(found.path) == path:
                    return found
        return Place(os.path.splitext(os.path.basename(path))[0], path, False)

    def title(self, path: str) -> str:
        """A name for a file: its path in the outermost root that it is in."""
        path = os.path.realpath(path)
        rels = [os.path.relpath(path, root) for root in self.roots]
        inside = [rel for rel in rels if not rel.startswith(os.pardir)]
        rel = max(inside, key=len) if inside else os.path.basename(path)
        return rel.replace(os.sep, "/")

    def below(self, name: str) -> Iterator[Place]:
        """All modules in a package; with an empty name, those beside each other in the
        roots, and in their packages."""
        if name:
            place = self.find(name)
            folders = [] if place is None or not place.package else [place.path]
            folders = [f if os.path.isdir(f) else os.path.dirname(f) for f in folders]
        else:
            folders = self.roots
        for folder in folders:
            for entry in sorted(self._names(folder)):
                stem, ext = os.path.splitext(entry)
                if stem == "__init__" or not stem.isidentifier():
                    continue
                package = "__init__.py" in self._names(os.path.join(folder, entry))
                if ext == ".py" or package:
                    inner = self.find(f"{name}.{stem}" if name else stem)
                    if inner is not None:
                        yield inner
                        if package:
                            yield from self.below(inner.name)


class Packages:
    """Installed packages, by what is in them.

    It reads the lists of files that installers leave (``RECORD``), and imports nothing.
    """

    def __init__(self, folders: Optional[Iterable[str]] = None):
        if folders is None:
            folders = [path for path in sys.path if path.endswith(_SITE)]
        self._folders = list(dict.fromkeys(map(os.path.realpath, folders)))
        self._records: dict[str, str] = {}
        self._found: dict[str, dict[str, str]] = {}
        self._standard = standard_modules()

    def is_standard(self, name: str) -> bool:
        return name.partition(".")[0] in self._standard

    @property
    def infos(self) -> list[str]:
        """Folders with what is known of each distribution."""
        return [path for path, _, _ in self._infos]

    @cached_property
    def _infos(self) -> list[tuple[str, str, str]]:
        """Folders of all distributions, with their names and versions."""
        infos = []
        for folder in self._folders:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                continue
            for name in names:
                stem, ext = os.path.splitext(name)
                if ext in (".dist-info", ".egg-info"):
                    title, _, version = stem.partition("-")
                    version = re.sub(r"-py\d.*", "", version)
                    path = os.path.join(folder, name)
                    infos.append((path, re.sub(r"[-_.]+", "-", title).lower(), version))
        return infos

    def of(self, name: str) -> dict[str, str]:
        """The distributions that have a module, or else the package that it is in."""
        while name:
            if name not in self._found:
                self._found[name] = self._of(name)
            if self._found[name]:
                return self._found[name]
            name = name.rpartition(".")[0]
        return {}

    def _of(self, name: str) -> dict[str, str]:
        found: dict[str, str] = {}
        title = re.sub(r"[-_.]+", "-", name).lower()
        # NOTE: most have the name of what is in them
        for path, dist, version in sorted(self._infos, key=lambda i: i[1] != title):
            if dist != title and title in found:
                break
            if self._has(path, name):
                found.setdefault(dist, version)
        return found

    def _has(self, info: str, name: str) -> bool:
        if info not in self._records:
            self._records[info] = _files(info)
        path = "\n" + name.replace(".", "/")
        record = self._records[info]
        return f"{path}/" in record or f"{path}." in record


def _files(info: str) -> str:
    """Files of a distribution, each after a line break."""
    for name in ("RECORD", "top_level.txt"):
        try:
            with open(os.path.join(info, name), encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError):
            continue
        if name == "RECORD":
            return f"\n{text}"
        return "".join(f"\n{line.strip()}/" for line in text.splitlines())
    return ""
