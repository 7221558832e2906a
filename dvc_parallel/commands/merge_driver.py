"""``dvc-parallel merge-driver``: have git merge a dvc.lock by its entries.

Git merges line by line.  Two branches that have run different stages conflict where
their entries are neighbours, and a stage that both have run can get the hash of a
dependency from one and that of an output from the other.  Here, an entry is taken as a
whole from the branch that has changed it.  If both have, it is a conflict, which is
marked in this entry alone.

An entry is what it says: branches whose DVC folds long lines at other places have not
changed it.  What is no dvc.lock of this form is left to ``git merge-file``.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any, Optional

from dvc_parallel.engine.lockfile_text import LockfileText, cut, has_anchors
from dvc_parallel.engine.terminal import visible

from .parsers import CommandParser, add_switch

DESCRIPTION = """\
Merge a dvc.lock by its entries, for git. Two branches that have run different stages
do not conflict; a stage that both have run is a conflict in its entry alone. The exit
status is 1 if there is one.
"""

NAME, ANCESTOR = "dvc-lock", "dvc-lock-ancestor"
# NOTE: without a slash, it is for each folder
ATTRIBUTE = f"dvc.lock merge={NAME}"

BOTH = (
    "{}: stage '{}' has changed on both sides. Keep one of its two entries, or none, "
    "then run `dvc repro {}`"
)


@dataclass(frozen=True)
class _Version:
    """A version of a dvc.lock: its text in parts, and what the entries say."""

    head: str
    blocks: dict[str, str]
    tail: str
    lock: LockfileText

    @classmethod
    def read(cls, text: str) -> "Optional[_Version]":
        """Take over a text; None if that is not possible."""
        lock = LockfileText.parse(text)
        if lock is None or lock.top.get("schema") != "2.0":
            return None
        head, raws, tail = cut(text or "schema: '2.0'\nstages:\n") or ("", [], "")
        blocks = dict(zip(lock, raws))
        for name, raw in blocks.items():
            if has_anchors(raw):
                # NOTE: what they refer to may be left out, or its anchor be used again
                blocks[name] = _block(name, _apart(lock.get(name)))
        return cls(head, blocks, tail, lock)

    def says(self, name: str) -> Any:
        return _value(self.lock.get(name))


def _block(name: str, entry: Any) -> str:
    lock = LockfileText()
    lock.put(name, entry)
    _, (block,), _ = cut(str(lock)) or ("", [""], "")
    return block


def _apart(value: Any) -> Any:
    """A copy in which nothing is there twice, so that it needs no anchors."""
    if isinstance(value, dict):
        return {key: _apart(item) for key, item in value.items()}
    return [_apart(item) for item in value] if isinstance(value, list) else value


def _value(data: Any) -> Any:
    """Equal if YAML is: 1 is neither 1.0 nor true, and keys have no order."""
    if isinstance(data, dict):
        return frozenset((_value(key), _value(data[key])) for key in data)
    if isinstance(data, list):
        return tuple(map(_value, data))
    return type(data), repr(data)


class _ConflictError(Exception):
    """Both sides have changed it, in different ways."""


@dataclass(frozen=True)
class Merged:
    """A dvc.lock merged from two others, with git's markers where they conflict."""

    text: str
    conflicts: list[str]


def merge(
    base: str, ours: str, theirs: str, is_ancestor: bool = False
) -> Optional[Merged]:
    """Merge the text of a dvc.lock.

    Args:
        is_ancestor: whether the result is one of several common ancestors, put together
            for another merge: it has what the base has where the two conflict.

    Returns:
        None if one is something else, or they conflict outside of entries.
    """
    found = [_Version.read(text) for text in (base, ours, theirs)]
    old, own, new = found
    if old is None or own is None or new is None:
        return None
    try:
        head = _pick(old.head, own.head, new.head)
        tail = _pick(old.tail, own.tail, new.tail)
    except _ConflictError:
        return None
    blocks, conflicts = [], []
    for name in _in_order(list(own.blocks), list(new.blocks)):
        try:
            blocks.append(_pick_entry(name, old, own, new))
        except _ConflictError:
            if is_ancestor:
                blocks.append(old.blocks.get(name))
                continue
            conflicts.append(name)
            one, other = own.blocks.get(name, ""), new.blocks.get(name, "")
            blocks.append(f"<<<<<<< ours\n{one}=======\n{other}>>>>>>> theirs\n")
    text = "".join(filter(None, blocks))
    return Merged(head + text + tail, conflicts) if text else None


def _pick(old: Any, own: Any, new: Any) -> Any:
    """What one side has changed, or both in the same way."""
    if new in (own, old):
        return own
    if own == old:
        return new
    raise _ConflictError


def _pick_entry(
    name: str, old: _Version, own: _Version, new: _Version
) -> Optional[str]:
    """The block of an entry, or None if it has been removed."""
    versions = old, own, new
    try:
        return _pick(*(version.blocks.get(name) for version in versions))
    except _ConflictError:
        # NOTE: it may be the layout that differs
        said = [it.says(name) if name in it.blocks else None for it in versions]
        return (new if _pick(*said) != said[1] else own).blocks.get(name)


def _in_order(own: list[str], new: list[str]) -> list[str]:
    """All names: each of theirs after the one that it comes after, and ours there."""
    names, known, theirs = list(own), set(own), set(new)
    place = 0
    for name in new:
        if name in known:
            place = names.index(name) + 1
        else:
            while place < len(names) and names[place] not in theirs:
                place += 1
            names.insert(place, name)
            place += 1
    return names


def run(base: str, ours: str, theirs: str, path: str, is_ancestor: bool) -> int:
    """Merge files, and leave the result in that of ours, as git wants it.

    Returns:
        int: exit status; 1 if there are conflicts.
    """
    try:
        files = base, ours, theirs
        old, own, new = (Path(name).read_bytes().decode() for name in files)
        merged = merge(old, own, new, is_ancestor)
    except Exception:  # noqa: BLE001
        # NOTE: of an error, git would make a conflict without any marks
        merged = None
    if merged is None:
        labels = [word for name in ("ours", "base", "theirs") for word in ("-L", name)]
        return 0 if _git("merge-file", *labels, ours, base, theirs) is not None else 1
    newline = "\r\n" if "\r\n" in own else "\n"
    with open(ours, "w", encoding="utf-8", newline=newline) as fobj:
        fobj.write(merged.text)
    folder = os.path.dirname(path)
    for name in merged.conflicts:
        address = f"{folder}/dvc.yaml:{name}" if folder else name
        words = (path, name, shlex.quote(address))
        sys.stderr.write(BOTH.format(*map(visible, words)) + "\n")
    return 1 if merged.conflicts else 0


def install() -> Iterator[str]:
    """Have git use it in the repo of the current folder, and tell what is done.

    Raises:
        OSError: it cannot be written, or git has said why not.
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None:
        raise OSError("git cannot be told to use it here")
    # NOTE: not `python -m`, by which the repo's own modules would come first
    scripts = sysconfig.get_path("scripts")
    program = which("dvc-parallel", path=scripts) or which("dvc-parallel")
    program = shlex.quote(os.path.abspath(program or "dvc-parallel"))
    driver = f"{program.replace('%', '%%')} merge-driver"
    for key, value in {
        f"{NAME}.name": "entries of dvc.lock",
        f"{NAME}.driver": f"{driver} %O %A %B %P",
        f"{NAME}.recursive": ANCESTOR,
        f"{ANCESTOR}.name": "entries of dvc.lock, of common ancestors",
        f"{ANCESTOR}.driver": f"{driver} --ancestor %O %A %B %P",
    }.items():
        if _git("config", "--local", f"merge.{key}", value) is None:
            raise OSError(f"git cannot set 'merge.{key}'")
    yield "Git merges dvc.lock by its entries in this clone (.git/config)."

    path = Path(top, ".gitattributes")
    if path.is_symlink():
        raise OSError(f"'{path}' is a link, which git does not read")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if ATTRIBUTE in text.splitlines():
        yield f"'.gitattributes' has the line '{ATTRIBUTE}'."
        return
    with open(path, "a", encoding="utf-8") as fobj:
        fobj.write("\n" if text and not text.endswith("\n") else "")
        fobj.write(f"{ATTRIBUTE}\n")
    yield f"Added to '.gitattributes', to be committed: '{ATTRIBUTE}'."


def _git(*args: str) -> Optional[str]:
    """What git prints; None if it fails, and has said why."""
    result = subprocess.run(  # noqa: S603
        ["git", *args],  # noqa: S607
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    return None if result.returncode else result.stdout.rstrip("\n")


def main(argv: list[str]) -> int:
    """Merge a dvc.lock for git, or have git do so from now on."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.install:
        if None in (args.base, args.ours, args.theirs):
            parser.error("expected BASE, OURS and THEIRS, or --install")
        return run(args.base, args.ours, args.theirs, args.path, args.ancestor)
    try:
        for line in install():
            sys.stdout.write(f"{line}\n")
    except (OSError, UnicodeDecodeError) as exc:
        sys.stderr.write(f"ERROR: {exc}\n")
        return 1
    return 0


def make_parser() -> CommandParser:
    parser = CommandParser("dvc-parallel merge-driver", description=DESCRIPTION)
    for name, text in (
        ("base", "File with the version that both sides have changed; git's '%%O'."),
        ("ours", "File with one side, and then with the result; git's '%%A'."),
        ("theirs", "File with the other side; git's '%%B'."),
        ("path", "Path of the file in the repo; git's '%%P'."),
    ):
        default = "dvc.lock" if name == "path" else None
        parser.add_argument(name, nargs="?", help=text, default=default)
    text = "Keep what the base has where the sides conflict."
    add_switch(parser, "--ancestor", text=text)
    text = "Have git use this for each dvc.lock: in its config and '.gitattributes'."
    add_switch(parser, "--install", text=text)
    return parser
