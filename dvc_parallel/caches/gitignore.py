"""Whether git ignores a path, without going through all lines that DVC has added.

DVC asks for each output, and dulwich then matches all lines of each .gitignore on the
way.  A project with thousands of outputs in a folder has as many lines in one of them,
nearly all of the form ``/name``.  Here dulwich gets to see only those lines that can
match the path, and a file is read again only when it has changed.

Owned by the owner of the repo.
"""

import itertools
import os
import re
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, Optional

from dvc.utils import relpath

from dvc_parallel.engine.atomic import about
from dvc_parallel.engine.file_stamp import Signature, is_settled, signature_of
from dvc_parallel.engine.real_paths import below

GITIGNORE = ".gitignore"

# A line that is about one entry of the folder of its file, or about what is in it.
# The others, with the characters that are special there, can match anything.
ONE_ENTRY = re.compile(rb"/([^/*?\[\\]*[^/*?\[\\\s])(?:/|$)")


class _Lines(NamedTuple):
    signature: Optional[Signature]  # if the file had been left alone for a while
    data: bytes
    # which lines there are, and those about one entry by its name
    known: set[bytes]
    by_name: dict[bytes, set[bytes]]
    others: set[bytes]
    number: int  # another one whenever it has been read


class IgnoreFiles:
    """The .gitignore files of a repo."""

    def __init__(self) -> None:
        self._known: dict[str, _Lines] = {}
        self._manager: Any = None  # what dulwich has made of git's settings
        # the files that it was made of, as they were before that
        self._settings: Optional[list[tuple[str, Optional[Signature]]]] = None
        self._paths_of_settings: dict[str, list[str]] = {}
        self._numbers = itertools.count(1)
        # by path: what it was made of, and whether git ignores it
        self._answers: dict[str, tuple[Any, list[int], bool]] = {}

    def is_ignored(self, original: Callable, backend: Any, path: str) -> bool:
        """As ``DulwichBackend.is_ignored``, which is ``original``."""
        manager = self._manager_of(backend)
        filters = getattr(manager, "_path_filters", None)
        # NOTE: other versions of dulwich may not have these
        if filters is None or getattr(manager, "_ignorecase", True):
            return original(backend, path)
        rules = _Filters(self, backend.root_dir, path)
        numbers = rules.numbers()
        if numbers is None:
            return self._ask(original, backend, path, manager, rules)
        manager._path_filters = {}
        if not _has_lines(manager) and not rules.may_match():
            return False
        numbers.append(os.path.isdir(path))
        known = self._answers.get(path)
        if known is None or known[0] is not manager or known[1] != numbers:
            answer = self._ask(original, backend, path, manager, rules)
            self._answers[path] = known = manager, numbers, answer
        return known[2]

    @staticmethod
    def _ask(
        original: Callable, backend: Any, path: str, manager: Any, rules: "_Filters"
    ) -> bool:
        manager._path_filters = rules
        try:
            return original(backend, path)
        finally:
            manager._path_filters = {}

    def _manager_of(self, backend: Any) -> Any:
        """What DVC drops around each command, for as long as nothing of it changes."""
        if "ignore_manager" in vars(backend) or os.name != "posix":
            return backend.ignore_manager
        root_dir = backend.root_dir
        if root_dir not in self._paths_of_settings:
            # NOTE: they depend on variables, which stay as they are
            self._paths_of_settings[root_dir] = _settings_of(backend.repo)
        paths = self._paths_of_settings[root_dir]
        settings = [(path, signature_of(path)) for path in paths]
        if settings == self._settings:
            vars(backend)["ignore_manager"] = self._manager
            return self._manager
        settled = all(is_settled(signature) for _, signature in settings if signature)
        self._settings = None
        self._manager = backend.ignore_manager
        if settled and not any(_refers_to_others(path) for path, _ in settings):
            self._settings = settings
        return self._manager

    def matching(self, gitignore: str, name: bytes) -> Optional[list[bytes]]:
        """The lines of a file that can match an entry of its folder, in order.

        None if there is no such file.

        Raises:
            OSError: it cannot be read.
        """
        file = self.read(gitignore)
        if file is None:
            return None
        found = file.others | file.by_name.get(name, set())
        if len(found) < 2:
            return list(found)
        # NOTE: of equal lines the last one counts
        data = b"\n%b\n" % file.data
        return sorted(found, key=lambda line: data.rindex(b"\n%b\n" % line))

    def read(self, gitignore: str) -> Optional[_Lines]:
        """What a file has; None if it is not there.

        Raises:
            OSError: it cannot be read.
        """
        file = self._known.get(gitignore) or _Lines(None, b"", set(), {}, set(), 0)
        signature = signature_of(gitignore)
        if signature is None:
            self._known.pop(gitignore, None)
            return None
        if signature == file.signature:
            return file
        settled = is_settled(signature)

        with about(gitignore), open(gitignore, "rb") as fobj:
            data = fobj.read()
        if data.startswith(file.data) and file.data[-1:] in (b"", b"\n"):
            # NOTE: mostly, a line has been added
            added = set(data[len(file.data) :].split(b"\n")) - file.known
            file.known.update(added)
            removed = set[bytes]()
        else:
            there = set(data.split(b"\n"))
            added, removed = there - file.known, file.known - there
            file = file._replace(known=there)
        for line in removed:
            _group(file, line).discard(line)
        for line in added:
            _group(file, line).add(line)
        file.others.discard(b"")
        self._known[gitignore] = file._replace(
            signature=signature if settled else None,
            data=data,
            number=next(self._numbers),
        )
        return self._known[gitignore]


def _group(file: _Lines, line: bytes) -> set[bytes]:
    match = ONE_ENTRY.match(line)
    return file.by_name.setdefault(match[1], set()) if match else file.others


def _has_lines(manager: Any) -> bool:
    """Whether there are lines that hold everywhere."""
    filters = getattr(manager, "_global_filters", None)
    return filters is None or any(getattr(it, "_patterns", True) for it in filters)


def _settings_of(repo: Any) -> list[str]:
    """Files, there or not, that say what git ignores everywhere in a repo."""
    home = os.path.expanduser("~")
    xdg = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return [
        os.path.join(repo.commondir(), "config"),
        os.path.join(repo.controldir(), "config.worktree"),
        os.path.join(repo.controldir(), "info", "exclude"),
        os.environ.get("GIT_CONFIG_GLOBAL") or os.path.join(home, ".gitconfig"),
        os.path.join(xdg, "git", "config"),
        os.path.join(xdg, "git", "ignore"),
        os.environ.get("GIT_CONFIG_SYSTEM") or "/etc/gitconfig",
    ]


def _refers_to_others(path: str) -> bool:
    """Whether a file may name more files of settings, or of what is ignored."""
    try:
        with about(path), open(path, "rb") as fobj:
            text = fobj.read().lower()
    except FileNotFoundError:
        return False
    return b"include" in text or b"excludesfile" in text


class _Filters(dict):
    """What dulwich has read of the .gitignore files on the way to a path."""

    def __init__(self, files: IgnoreFiles, root_dir: str, path: str):
        super().__init__()
        self._files = files
        self._root_dir = root_dir
        name = below(path, root_dir) or relpath(path, root_dir)
        self._parts = name.replace(os.sep, "/").split("/")
        self._way: list[tuple[Optional[_Lines], bytes]] = []

    def numbers(self) -> Optional[list[int]]:
        """Those of the files on the way; None if others may count, too."""
        folder = self._root_dir
        for part in self._parts:
            gitignore = f"{folder}{os.sep}{GITIGNORE}"
            if part == os.pardir or os.path.islink(gitignore):
                return None
            lines = self._files.read(gitignore)
            self._way.append((lines, os.fsencode(part)))
            folder = f"{folder}{os.sep}{part}"
        return [lines.number if lines else 0 for lines, _ in self._way]

    def may_match(self) -> bool:
        """Whether there is a line on the way that can match, see :meth:`numbers`."""
        return any(
            lines.others or lines.by_name.get(name)
            for lines, name in self._way
            if lines is not None
        )

    def __missing__(self, folder: str) -> Any:
        """Called for a folder that is not read yet; ``KeyError`` has dulwich do it."""
        from dulwich.ignore import IgnoreFilter, read_ignore_patterns

        parts = folder.split("/") if folder else []
        rest = self._parts[len(parts) :]
        gitignore = os.path.join(self._root_dir, *parts, GITIGNORE)
        if not rest or self._parts[: len(parts)] != parts or os.path.islink(gitignore):
            raise KeyError(folder)

        lines = self._files.matching(gitignore, os.fsencode(rest[0]))
        if lines is None:
            self[folder] = None
        else:
            patterns = read_ignore_patterns(_rows(lines))  # type: ignore[arg-type]
            self[folder] = IgnoreFilter(patterns, path=gitignore)
        return self[folder]


def _rows(lines: list[bytes]) -> Iterator[bytes]:
    return (line + b"\n" for line in lines)
