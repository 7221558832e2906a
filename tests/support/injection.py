"""System calls of dvc-parallel that fail, each in its turn.

A call is ours if the first function on the stack that is neither Python's own nor that
of a lock file is in dvc_parallel.  It goes by its site: what is called and from where,
up to three functions of ours.
"""

import builtins
import ctypes
import errno
import functools
import io
import os
import stat
import subprocess
import sys
import sysconfig
import threading
from collections import Counter
from pathlib import Path

import dvc
import zc.lockfile

import dvc_parallel
from dvc_parallel.engine import durable

OURS = os.path.dirname(dvc_parallel.__file__) + os.sep
LOCKS = (zc.lockfile.__file__, os.path.join(os.path.dirname(dvc.__file__), "lock.py"))
PYTHON = sysconfig.get_path("stdlib") + os.sep
PACKAGES = sysconfig.get_path("purelib") + os.sep
DEPTH = 3

FULL = ("ENOSPC", "EDQUOT")
ERRORS = {
    "open for reading": ("EACCES", "EMFILE", "EIO"),
    "open for writing": ("EACCES", "EMFILE", "EIO", "EROFS", *FULL),
    "read": ("EIO",),
    "write": ("EIO", "SHORT", *FULL),
    "close": ("EIO", "ENOSPC"),
    "fsync": ("EIO", *FULL),
    "replace": ("EACCES", "EIO", "EROFS", "EXDEV", "ENOSPC"),
    "rename": ("EACCES", "EIO", "EROFS", "ENOSPC"),
    "unlink": ("EACCES", "EROFS"),
    "chmod": ("EPERM", "EROFS"),
    "chown": ("EPERM", "EROFS"),
    "setxattr": ("EPERM", "ENOSPC", "EROFS"),
    "removexattr": ("EPERM", "EROFS"),
    "sync_file_range": ("EIO", *FULL, "ENOSYS"),
    "syncfs": ("EIO", *FULL, "ENOSYS"),
    "mkdir": ("EACCES", "EROFS", *FULL),
    "mkfifo": ("EACCES", "EROFS", "ENOSPC"),
    "scandir": ("EACCES", "EMFILE", "EIO"),
    "listdir": ("EACCES", "EMFILE", "EIO"),
    "pipe": ("EMFILE", "ENFILE"),
    "pidfd_open": ("EMFILE", "ENOSYS"),
    "fork_exec": ("EAGAIN", "ENOMEM", "EMFILE"),
    "start of a thread": ("EAGAIN",),
}
# What goes on failing once it does, where a fault is to last.
LASTING = {
    **{error: {"open for writing", "write", "mkdir"} for error in FULL},
    "EROFS": {"open for writing", "mkdir", "replace", "rename", "unlink", "chmod"},
    "EMFILE": {"open for reading", "open for writing", "pipe", "pidfd_open", "scandir"},
    "EAGAIN": {"fork_exec", "start of a thread"},
}


class Faults:
    """Counts calls, and has one fail.

    Args:
        site: of the call.
        number: which one of those from there, from 1 on.
        error: name of the error, or "SHORT" for a part of a write.
        lasting: whether others of its kind fail from then on.

    Attributes:
        counts: calls so far, by site.
        failed (int): how many have been made to fail.
    """

    def __init__(self, site="", number=0, error="", lasting=False):
        self.counts: Counter = Counter()
        self.failed = 0
        self._site, self._number, self._error = site, number, error
        self._lasting = LASTING.get(error, set()) if lasting else set()
        self._guard = threading.Lock()

    def check(self, call, path=None):
        """Take note of a call; return whether it is to be cut short.

        Raises:
            OSError: it is the one that is to fail.
        """
        site = site_of(call)
        if site is None:
            return False
        with self._guard:
            self.counts[site] += 1
            hit = (site, self.counts[site]) == (self._site, self._number)
            if not hit and not (self.failed and call in self._lasting):
                return False
            self.failed += 1
        if self._error == "SHORT":
            return True
        if call == "start of a thread":
            raise RuntimeError("can't start new thread")
        number = getattr(errno, self._error)
        raise OSError(number, os.strerror(number), *([] if path is None else [path]))


def site_of(call):
    """The site of a call, of which this is called; None if it is not one of ours."""
    functions = []
    frame = sys._getframe(1)
    while frame is not None and len(functions) < DEPTH:
        code, frame = frame.f_code, frame.f_back
        if code.co_filename.startswith(OURS):
            module = Path(code.co_filename).relative_to(OURS[:-1]).with_suffix("")
            name = ".".join(module.parts[1:] or module.parts)  # without its room
            functions.append(f"{name}.{code.co_name}")
        elif not _is_transparent(code.co_filename):
            break
    return f"{call}: {' < '.join(functions)}" if functions else None


@functools.cache
def _is_transparent(name):
    if name in LOCKS or name in (__file__, "<string>") or name.startswith("<frozen "):
        return True
    return name.startswith(PYTHON) and not name.startswith(PACKAGES)


class _Raw(io.FileIO):
    faults: Faults

    def readinto(self, buffer):
        self.faults.check("read")
        return super().readinto(buffer)

    def readall(self):
        self.faults.check("read")
        return super().readall()

    def write(self, data):
        if self.faults.check("write"):
            data = memoryview(data)[: (len(data) + 1) // 2]
        return super().write(data)

    def close(self):
        if self.closed or not self.writable():
            super().close()
            return
        super().close()
        self.faults.check("close")


def _is_pipe(file):
    return isinstance(file, int) and stat.S_ISFIFO(os.fstat(file).st_mode)


def _open(faults, original, file, mode="r", buffering=-1, *args, **kwargs):
    # NOTE: a pipe has no such faults
    if site_of("open") is None or _is_pipe(file):
        return original(file, mode, buffering, *args, **kwargs)
    writing = set(mode) & set("wxa+")
    if not isinstance(file, int):
        faults.check(f"open for {'writing' if writing else 'reading'}", file)
    opener = kwargs.pop("opener", None)
    raw = _Raw(file, mode.replace("b", "").replace("t", ""), opener=opener)
    raw.faults = faults
    if not buffering:
        return raw
    if "+" in mode:
        buffered = io.BufferedRandom(raw)
    else:
        buffered = io.BufferedWriter(raw) if writing else io.BufferedReader(raw)
    if "b" in mode:
        return buffered
    text = io.TextIOWrapper(buffered, *args[:3], **kwargs)
    text.mode = mode
    return text


def _os_open(faults, original, path, flags, *args, **kwargs):
    writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    faults.check(f"open for {'writing' if writing else 'reading'}", path)
    return original(path, flags, *args, **kwargs)


def _os_write(faults, original, fd, data):
    if not _is_pipe(fd) and faults.check("write"):
        data = memoryview(data)[: (len(data) + 1) // 2]
    return original(fd, data)


def _os_read(faults, original, fd, size):
    if not _is_pipe(fd):
        faults.check("read")
    return original(fd, size)


def _plain(call, names_path, faults, original, *args, **kwargs):
    faults.check(call, args[0] if names_path else None)
    return original(*args, **kwargs)


def _in_c(call, faults, original, *args):
    try:
        faults.check(call)
    except OSError as exc:
        ctypes.set_errno(exc.errno)
        return -1
    return original(*args)


def install(faults):
    """Have all calls go through ``faults``, in this process for good."""

    def patch(owner, name, wrapper):
        original = getattr(owner, name)
        replacement = functools.partial(wrapper, faults, original)
        setattr(owner, name, replacement)

    for owner in (builtins, io):  # as `os.fdopen` calls it
        patch(owner, "open", _open)
    patch(os, "open", _os_open)
    patch(os, "write", _os_write)
    for name in (
        *("replace", "rename", "unlink", "chmod", "mkdir", "mkfifo"),
        *("chown", "setxattr", "removexattr", "scandir", "listdir"),
    ):
        patch(os, name, functools.partial(_plain, name, True))
    patch(os, "read", _os_read)
    for name in ("fsync", "pipe", "pidfd_open"):
        patch(os, name, functools.partial(_plain, name, False))
    for name in ("_fork_exec", "fork_exec"):  # as it is called in 3.11 on, and before
        owner = subprocess if name == "_fork_exec" else subprocess._posixsubprocess
        if hasattr(owner, name):
            patch(owner, name, functools.partial(_plain, "fork_exec", False))
            break

    functions = durable._functions()
    for name, function in functions.items():
        functions[name] = functools.partial(_in_c, name, faults, function)

    start = threading.Thread.start

    def start_or_fail(thread):
        faults.check("start of a thread")
        start(thread)

    threading.Thread.start = start_or_fail
