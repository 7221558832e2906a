"""The files that a stage has read and written, from what its processes did to them."""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Callable, Optional

# Gives a path the name by which it is known here, or None if it does not matter.
Place = Callable[[str], Optional[str]]

# What Python has compiled stands for its source, which is then not opened.
_COMPILED = re.compile(r"(.*/)__pycache__/([^/.]+)\.[^/]+\.pyc", re.DOTALL)


class UsedFiles:
    """What a stage has done to files.  Told in the order in which it happened.

    Paths are absolute; they are kept as ``place`` names them.

    Attributes:
        reads: what it has read before it has written it itself; with the other names,
            through links, by which it has opened that.
        missing: what it has looked for in vain, and not removed before.
        looks: what it has found to be there, without opening it.
        listed: folders of which it has read the names.
        writes: all that it has made, written to, replaced or removed.
        left: what it has made or written to and not removed.
    """

    def __init__(self, place: Place):
        self._place = place
        self.reads: dict[str, set[str]] = {}
        self.missing: set[str] = set()
        self.looks: set[str] = set()
        self.listed: set[str] = set()
        self.writes: set[str] = set()
        self.left: set[str] = set()
        self._folders: set[str] = set()  # its own
        self._may_be_written: dict[str, set[str]] = {}

    def read(self, path: str, opened_as: Optional[str] = None) -> None:
        """A file was opened for reading, maybe by another name, through links."""
        if compiled := _COMPILED.fullmatch(path):
            path, opened_as = f"{compiled[1]}{compiled[2]}.py", None
        name, names = self._names(path, opened_as)
        if name is not None and name not in self.left:
            self.reads.setdefault(name, set()).update(names)

    def write(
        self,
        path: str,
        opened_as: Optional[str] = None,
        *,
        anew: bool = False,
        reads: bool = False,
    ) -> None:
        """A file was opened for writing.

        Args:
            anew: nothing of what was there before is left.
            reads: it was opened for reading, too.
        """
        name, names = self._names(path, opened_as)
        if name is None or name in self.left:
            return
        if reads and not anew:
            # NOTE: databases are, by those who only read them as well
            self._may_be_written.setdefault(name, set()).update(names)
            return
        for written in (name, *names):
            self._made(written)

    def make(self, path: str) -> None:
        """Something was made or replaced, such as a link."""
        if (name := self._place(path)) is not None:
            self._made(name)

    def make_folder(self, path: str) -> None:
        if (name := self._place(path)) is not None:
            self._folders.add(name)

    def remove(self, path: str) -> None:
        if (name := self._place(path)) is not None:
            self.writes.add(name)
            self.left.discard(name)
            self._may_be_written.pop(name, None)

    def rename(self, source: str, target: str) -> None:
        """A file or folder was renamed; what was there is replaced."""
        old, new = self._place(source), self._place(target)
        if old is None:
            if new is not None:
                self._made(new)
            return
        inside = old + os.sep
        moved = [name for name in self.left if name.startswith(inside)]
        if old in self._folders:
            inner = [name for name in self._folders if name.startswith(inside)]
            self._folders.difference_update(inner, {old})
            if new is not None:
                self._folders.update(new + name[len(old) :] for name in (old, *inner))
        else:
            # NOTE: where it is not the stage's own, its content was there before
            self.read(source)
            moved.append(old)
        for name in moved:
            self.writes.add(name)
            self.left.discard(name)
            if new is not None:
                self._made(new + name[len(old) :])

    def link(self, source: str, target: str) -> None:
        """A file has got another name."""
        self.read(source)
        self.make(target)

    def look(self, path: str, *, is_there: bool) -> None:
        """It was asked whether something is there."""
        name = self._place(path)
        if name is None or name in self.writes:
            return
        (self.looks if is_there else self.missing).add(name)

    def list_folder(self, path: str) -> None:
        if (name := self._place(path)) is not None:
            self.listed.add(name)

    def settle(
        self, is_changed: Callable[[str], bool], is_folder: Callable[[str], bool]
    ) -> None:
        """Look at the files when the stage has ended: which ones it has changed."""
        for name, names in self._may_be_written.items():
            if is_changed(name):
                self._made(name)
            else:
                self.reads.setdefault(name, set()).update(names)
        self._may_be_written.clear()
        for name in [name for name in self.reads if is_folder(name)]:
            del self.reads[name]
            self.listed.add(name)
        self.looks.difference_update(self.reads)

    def names_read(self) -> Iterator[tuple[str, set[str]]]:
        """What it has read, with all of its names."""
        for name, names in sorted(self.reads.items()):
            yield name, {name, *names}

    def _made(self, name: str) -> None:
        self.writes.add(name)
        self.left.add(name)

    def _names(
        self, path: str, opened_as: Optional[str]
    ) -> tuple[Optional[str], set[str]]:
        name = self._place(path)
        other = self._place(opened_as) if opened_as not in (None, path) else None
        if name is None:
            return other, set()
        return name, set() if other in (None, name) else {other}


def lost_lines(lines: Iterable[str], tell: Callable[[str], bool]) -> tuple[int, str]:
    """How many lines of a trace were not understood, and the first of them."""
    count, first = 0, ""
    for line in lines:
        if not tell(line):
            count, first = count + 1, first or line
    return count, first
