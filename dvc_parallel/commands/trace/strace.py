"""What processes do to files, as strace sees it.

Paths and other text come from commands, which may be a stranger's. strace writes them
in hexadecimal digits (``-xx``), so nothing in them can be taken for anything else.  A
line that is not understood is counted, never guessed at.

Format: strace(1), "FILTERING", "OUTPUT FORMAT".
"""

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Optional

from dvc_parallel.engine.runner import Command

from .used_files import UsedFiles, lost_lines

PROGRAM = "strace"

# Seconds in which `true` ends under strace, if that can trace anything.
PATIENCE = 30.0

_OPEN = ("open", "openat", "openat2", "creat")
_LOOK = (
    *("stat", "lstat", "stat64", "lstat64", "newfstatat", "fstatat64", "statx"),
    *("access", "faccessat", "faccessat2"),
)
_START = ("clone", "clone3", "fork", "vfork")
_SYMLINK = ("symlink", "symlinkat")
_NODE = ("mknod", "mknodat")
_FOLDER = ("mkdir", "mkdirat")
_MAKE = (*_FOLDER, *_NODE, *_SYMLINK)
_EXECUTE = ("execve", "execveat")
_TRUNCATE = ("truncate", "truncate64")
_REMOVE = ("unlink", "unlinkat", "rmdir")
_RENAME = ("rename", "renameat", "renameat2")
_LINK = ("link", "linkat")
_WITH_TWO = (*_RENAME, *_LINK, *_SYMLINK)
CALLS = (
    *(*_OPEN, *_LOOK, *_START, *_MAKE, *_REMOVE, *_RENAME, *_LINK, *_EXECUTE),
    *(*_TRUNCATE, "chdir", "fchdir"),
)

# NOTE: -D, as a command ends when its first process does, whatever that has left in
# the background; "?", as no machine has all of the calls
OPTIONS = (
    *("-D", "-f", "-y", "-xx", "-q", "-s", "0", "-e", "signal=none"),
    *("-e", "trace=" + ",".join(f"?{call}" for call in CALLS)),
)
FAST = "--seccomp-bpf"

# What `creat` stands for.
_CREAT = "O_WRONLY|O_CREAT|O_TRUNC"
_GONE = ("ENOENT", "ENOTDIR")

_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(
    r"(\w+)\((.*)\) += (-?\d+|\?)(?:<([^<>]*)>)?((?:\(deleted\))?(?: .*)?)",
    re.DOTALL,
)
_UNFINISHED = re.compile(r"(.*?),? *<unfinished \.\.\.>(?:\) += \?)?")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_ENDED = re.compile(r"\+\+\+ (?:exited|killed|superseded) .*\+\+\+")
_BIRTH = re.compile(r" (?:<\.\.\. )?(?:clone3?|v?fork)[( ]")
_STOPPED = re.compile(r"--- .* ---")
_TEXT = r'"((?:[^"\\]|\\.)*)"(?:\.\.\.)?'
_AT = r"(AT_FDCWD|-?\d+)(?:<([^<>]*)>)?(?:\(deleted\))?"
_PATH = rf"(?:{_AT}, )?{_TEXT}"
_ONE = re.compile(rf"{_PATH}(?:, (.*))?", re.DOTALL)
_TWO = re.compile(rf"{_PATH}, {_PATH}(?:, (.*))?", re.DOTALL)
_ONLY_AT = re.compile(_AT)
_ERROR = re.compile(r" *(E[A-Z0-9]+)\b.*")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {"n": 10, "t": 9, "r": 13, "v": 11, "f": 12}


@dataclass(frozen=True)
class Strace:
    """How to run commands under strace."""

    prefix: tuple[str, ...]
    name = PROGRAM

    @classmethod
    def find(cls) -> "tuple[Optional[Strace], str]":
        """A strace that works, or None and the reason."""
        program = shutil.which(PROGRAM)
        if program is None:
            return None, f"{PROGRAM} is not installed"
        for more in ((FAST,), ()):
            prefix = (program, *OPTIONS, *more)
            try:
                done = subprocess.run(  # noqa: S603
                    [*prefix, "-o", os.devnull, "true"],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=PATIENCE,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as exc:
                return None, f"{program} cannot be run: {exc}"
            if done.returncode == 0 and not done.stderr:
                return cls(prefix), ""
        lines = os.fsdecode(done.stderr).strip().splitlines() or ["it failed"]
        return None, f"{program} cannot trace: {lines[0]}"

    def wrap(self, command: Command, path: str) -> Command:
        """The command whose trace goes to a file."""
        args = command.args
        if command.shell or isinstance(args, str):
            args = ["/bin/sh", "-c", *([args] if isinstance(args, str) else args)]
        return replace(
            command, args=[*self.prefix, "-o", path, "--", *args], shell=False
        )

    def read(self, path: str, folder: str, used: UsedFiles) -> tuple[int, str]:
        """Read a trace of a command that has begun in a folder.

        Returns:
            how many lines were not understood, and the first of them.
        """
        reader = _Reader(folder, used)
        for line in _lines(path):
            reader.find_birth(line)
        return lost_lines(_lines(path), reader.line)


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="ascii", errors="replace", newline="\n") as fobj:
        for line in fobj:
            if line.endswith("\n"):
                yield line[:-1]


@dataclass
class _Process:
    """Attributes:
    folder: the current one, in a list that threads share.
    begun: the call that it is in, if its line is not complete.
    """

    folder: list[str]
    begun: str = ""


@dataclass(frozen=True)
class _Call:
    """A call that has returned: its error, if any, or the file that it has opened."""

    name: str
    args: str
    failed: str
    opened: Optional[str]
    more: str

    @property
    def has_no_path(self) -> bool:
        """Whether it was given none, or an address that is not one of its process."""
        words = self.args.split(", ")
        return "NULL" in words or any(word.startswith("0x") for word in words[:3])


class _Reader:
    def __init__(self, folder: str, used: UsedFiles):
        self._folder = folder
        self._used = used
        self._processes: dict[int, _Process] = {}
        self._starting: dict[str, str] = {}
        # From which process another comes, and whether they share the current folder.
        self._births: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        self._real: dict[str, str] = {}

    def find_birth(self, line: str) -> None:
        """A process may be seen before the call that has started it has returned."""
        if not _BIRTH.search(line) or (match := _LINE.fullmatch(line)) is None:
            return
        pid, rest = match[1], match[2]
        if unfinished := _UNFINISHED.fullmatch(rest):
            self._starting[pid] = unfinished[1]
            return
        if resumed := _RESUMED.fullmatch(rest):
            rest = _joined(self._starting.pop(pid, ""), resumed[2])
        call = _CALL.fullmatch(rest)
        if call and call[1] in _START and call[3].isdigit():
            self._births[int(call[3])].append((int(pid), "CLONE_FS" in call[2]))

    def line(self, line: str) -> bool:
        """Take note of a line; tell whether it was understood."""
        match = _LINE.fullmatch(line)
        if match is None:
            return False
        pid, rest = int(match[1]), match[2]
        process = self._process(pid)
        if unfinished := _UNFINISHED.fullmatch(rest):
            process.begun = unfinished[1]
        elif _ENDED.fullmatch(rest):
            # NOTE: the number may be given out again
            del self._processes[pid]
        elif not _STOPPED.fullmatch(rest):
            return self._returned(process, rest)
        return True

    def _returned(self, process: _Process, rest: str) -> bool:
        if resumed := _RESUMED.fullmatch(rest):
            begun, process.begun = process.begun, ""
            if not begun.startswith(f"{resumed[1]}("):
                return False
            rest = _joined(begun, resumed[2])
        match = _CALL.fullmatch(rest)
        if match is None:
            return False
        name, args, result, opened, more = match.groups()
        if result == "?" or name in _START:
            return True  # it has ended in the call; or its child speaks for itself
        error = _ERROR.fullmatch(more)
        if result == "-1" and error is None:
            return False
        failed = error[1] if error and result == "-1" else ""
        return self._call(process, _Call(name, args, failed, opened, more))

    def _process(self, pid: int) -> _Process:
        process = self._processes.get(pid)
        if process is None:
            births = self._births[pid]
            parent, shares = births.pop(0) if births else (-1, False)
            above = self._processes.get(parent)
            folder = above.folder if above else [self._folder]
            process = _Process(folder if shares else [*folder])
            self._processes[pid] = process
        return process

    def _call(self, process: _Process, call: _Call) -> bool:
        """Take note of what a call has done; tell whether it was understood."""
        if call.name in _WITH_TWO:
            return self._two(process, call)
        if call.name != "fchdir":
            return self._one(process, call)
        folder = _ONLY_AT.fullmatch(call.args)
        if folder and folder[2] and not call.failed:
            process.folder[0] = decoded(folder[2])
        return folder is not None

    def _one(self, process: _Process, call: _Call) -> bool:
        match = _ONE.fullmatch(call.args)
        if match is None:
            return call.has_no_path
        path = self._path(process, *match.groups()[:3])
        if path is None:
            return True
        here = self._without_links(path)
        if not call.failed:
            self._done(process, call, path, here, match[4] or "")
        elif call.failed in _GONE and call.name not in (*_MAKE, *_REMOVE):
            self._used.look(here, is_there=False)
        return True

    def _done(
        self, process: _Process, call: _Call, path: str, here: str, flags: str
    ) -> None:
        """Take note of what was done to a path, which may go through links."""
        name, used = call.name, self._used
        if name in _OPEN:
            flags = _CREAT if name == "creat" else flags
            if not call.more.startswith("(deleted)"):
                self._opened(path, decoded(call.opened or "") or here, flags)
        elif name in _LOOK:
            used.look(here, is_there=True)
        elif name in _EXECUTE:
            used.read(os.path.realpath(path), path)
        elif name == "chdir":
            process.folder[0] = os.path.realpath(path)
        elif name in _TRUNCATE:
            used.write(os.path.realpath(path), path)
        elif name in _REMOVE:
            used.remove(here)
        elif name in _NODE:
            used.make(here)
        elif name in _FOLDER:
            used.make_folder(here)

    def _opened(self, path: str, real: str, flags: str) -> None:
        used, words = self._used, set(re.findall(r"O_\w+", flags))
        if "O_PATH" in words or "O_TMPFILE" in words:
            return
        if "O_DIRECTORY" in words:
            used.list_folder(real)
        elif not words & {"O_WRONLY", "O_RDWR"}:
            used.read(real, path)
        else:
            anew = bool(words & {"O_TRUNC", "O_EXCL"})
            used.write(real, path, anew=anew, reads="O_RDWR" in words)

    def _two(self, process: _Process, call: _Call) -> bool:
        match = _TWO.fullmatch(call.args)
        if match is None:
            return call.has_no_path
        *ends, flags = match.groups()
        # NOTE: a link is made with any text, which need not be a path
        first = 3 if call.name in _SYMLINK else 0
        paths = [self._path(process, *ends[at : at + 3]) for at in range(first, 6, 3)]
        here = [self._without_links(path) for path in paths if path is not None]
        if len(here) < len(paths):
            return True
        used = self._used
        if call.failed:
            if call.failed in _GONE and len(here) == 2:
                used.look(here[0], is_there=os.path.lexists(here[0]))
        elif len(here) == 1:
            used.make(here[0])
        elif call.name in _LINK:
            used.link(*here)
        elif "RENAME_EXCHANGE" in (flags or ""):
            for path in here:
                used.read(path)
                used.make(path)
        else:
            used.rename(*here)
        return True

    def _path(
        self, process: _Process, at: Optional[str], where: Optional[str], text: str
    ) -> Optional[str]:
        """An absolute path; None if there is none, or it cannot be known."""
        path = decoded(text)
        if not path:
            return None
        if not path.startswith("/"):
            if where:
                folder = decoded(where)
            elif at in (None, "AT_FDCWD"):
                folder = process.folder[0]
            else:
                return None
            if not folder.startswith("/"):
                return None
            path = os.path.join(folder, path)
        path = path.rstrip("/") or "/"
        # NOTE: behind a link, ".." is not what the text says
        return os.path.realpath(path) if os.pardir in path else os.path.normpath(path)

    def _without_links(self, path: str) -> str:
        """The path of a file or link, in the folder that this really is."""
        folder, name = os.path.split(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return os.path.join(self._real[folder], name)


def decoded(text: str) -> str:
    """A text that strace has written, as Python has paths."""

    def byte(match: re.Match) -> bytes:
        digits, octal, letter = match.groups()
        if digits:
            return bytes.fromhex(digits)
        if octal:
            return bytes([int(octal, 8) & 255])
        return bytes([_LETTERS.get(letter, ord(letter) & 255)])

    parts, end = [], 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[end : match.start()].encode("ascii", "replace"))
        parts.append(byte(match))
        end = match.end()
    parts.append(text[end:].encode("ascii", "replace"))
    return os.fsdecode(b"".join(parts))


def _joined(begun: str, rest: str) -> str:
    if rest.startswith(")"):
        return begun + rest
    return f"{begun}, {rest.lstrip(' ,')}"
