"""Path locks (``.dvc/tmp/rwlock``) that count the stages that need a path.

With ``dvc.rwlock`` all stages of a process are one holder, and the first to finish
releases a path that another one still reads.  Here a path goes into the file
with the first stage that needs it and leaves with the last.  Format and meaning
of the file stay the same: other processes see the locks, and theirs are heeded.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Callable, Optional

from dvc import rwlock as dvc_rwlock
from dvc.exceptions import DvcException
from dvc.lock import LockError, make_lock
from voluptuous import Invalid

from .atomic import about, atomic_write

# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")


Lock = tuple[str, str]  # mode, and the command line of the holder in the file


class PathLocks:
    """The path locks of a run.  Owned by the owner of the repo.

    The file has a write lock on each path that a stage writes to, and a read lock on
    each that stages only read, with the command line of the first that still needs
    it.  A path that is needed no longer leaves the file with
    the next change of it, or by ``flush``, before another process can lock the repo.
    """

    def __init__(self) -> None:
        # command lines, by mode and path
        self._holders: dict[str, dict[str, Counter[str]]] = {"write": {}, "read": {}}
        self._in_file: dict[str, Lock] = {}
        self._touched: dict[str, None] = {}  # what may be otherwise there
        self._file = LocksFile()
        self._edit: Callable[[], None] = lambda: None

    @contextmanager
    def hold(
        self, tmp_dir, fs, cmd, read: list[str], write: list[str], hardlink
    ) -> Iterator[None]:
        """As :func:`dvc.rwlock.rwlock`, whose arguments and errors it has.

        Raises:
            LockError: another process uses one of the paths.
        """
        self._edit = partial(self._write, tmp_dir, fs, cmd, hardlink)
        self._count(cmd, read, write, 1)
        try:
            if any(self._lock(p) != self._in_file.get(p) for p in [*read, *write]):
                self._edit()
        except BaseException:
            self._count(cmd, read, write, -1)
            raise

        try:
            yield
        finally:
            self._count(cmd, read, write, -1)

    def flush(self) -> None:
        """Have the file say what is held, before another process can lock the repo.

        Raises nothing, as the repo has to be passed on.  What could not be released is
        with the next change, or is void when this process has ended.
        """
        while True:
            try:
                self._edit()
                return
            except LockError:
                # NOTE: the file is guarded by a lock of its own, which gives up after
                # 3 s. A stage must not fail for that once it has run.
                continue
            except (OSError, DvcException) as exc:
                # NOTE: log handlers raise when nobody reads what they write
                with suppress(Exception):
                    logger.warning("path locks could not be released: %s", exc)
                return

    def _count(
        self, cmd: str, read: Iterable[str], write: Iterable[str], by: int
    ) -> None:
        for mode, paths in (("read", read), ("write", write)):
            for path in set(paths):
                cmds = self._holders[mode].setdefault(path, Counter())
                cmds[cmd] += by
                if not cmds[cmd]:
                    del cmds[cmd]
                if not cmds:
                    del self._holders[mode][path]
        self._touched.update(dict.fromkeys([*read, *write]))

    def _lock(self, path: str) -> Optional[Lock]:
        for mode, holders in self._holders.items():
            if path in holders:
                return mode, next(iter(holders[path]))
        return None

    def _write(self, tmp_dir: str, fs: Any, cmd: str, hardlink: bool) -> None:
        """Bring the file up to date with what is held."""
        new = {path: self._lock(path) for path in self._touched}
        if all(self._in_file.get(path) == lock for path, lock in new.items()):
            self._touched.clear()
            return

        guard = make_lock(
            os.path.join(tmp_dir, dvc_rwlock.RWLOCK_LOCK),
            tmp_dir=tmp_dir,
            hardlink_lock=hardlink,
        )
        with about(guard.lockfile), guard:
            path = os.path.join(tmp_dir, dvc_rwlock.RWLOCK_FILE)
            self._file.read(path, fs, self._in_file)
            self._file.check(
                tmp_dir,
                cmd,
                [path for path, lock in new.items() if lock and lock[0] == "read"],
                [path for path, lock in new.items() if lock and lock[0] == "write"],
            )
            wanted = {**self._in_file, **new}
            held = {path: lock for path, lock in wanted.items() if lock}
            self._file.write(held)
            # NOTE: now, as it may not be possible to unlock the guard
            self._touched.clear()
            self._in_file = held


def _read(path: str, fs: Any) -> str:
    try:
        with about(path), fs.open(path, encoding="utf-8") as fobj:
            return fobj.read()
    except FileNotFoundError:
        return "{}"
    except UnicodeDecodeError as exc:
        raise dvc_rwlock.RWLockFileCorruptedError(path) from exc


def _parse(path: str, text: str) -> dict[str, dict]:
    try:
        return dvc_rwlock.SCHEMA(json.loads(text))
    except json.JSONDecodeError as exc:
        raise dvc_rwlock.RWLockFileCorruptedError(path) from exc
    except Invalid as exc:
        raise dvc_rwlock.RWLockFileFormatError(path) from exc


def _info(cmd: str) -> dict[str, Any]:
    """What the file has for a holder of this process."""
    return {"pid": os.getpid(), "cmd": cmd}


class LocksFile:
    """The file.  Owned by whoever has locked its guard.

    Attributes:
        text (str): what is in it.
        others (dict): what others hold, in the form of the file.
    """

    def __init__(self) -> None:
        self._path = ""
        self.text = "{}"
        self.others: dict[str, dict] = {"read": {}, "write": {}}

    def read(self, path: str, fs: Any, held: dict[str, Lock]) -> None:
        """Find out what others hold; another run of this process may be one of them."""
        self._path = path
        text = _read(path, fs)
        if text == self.text:
            return
        lock = _parse(path, text)
        others: dict[str, dict] = {"read": {}, "write": {}}
        for name, infos in lock["read"].items():
            mode, cmd = held.get(name, ("", ""))
            if mode == "read" and _info(cmd) in infos:
                infos.remove(_info(cmd))
            if infos:
                others["read"][name] = infos
        for name, info in lock["write"].items():
            mode, cmd = held.get(name, ("", ""))
            if mode != "write" or info != _info(cmd):
                others["write"][name] = info
        self.others = others
        self.text = text

    def check(self, tmp_dir: str, cmd: str, read: list[str], write: list[str]) -> None:
        """Heed the locks of others, but for those that have died.

        Raises:
            LockError: another process uses one of the paths.
        """
        check = partial(dvc_rwlock._check_blockers, tmp_dir, self.others, _info(cmd))
        if self.others.get("write"):
            check(mode="write", waiters=read + write)
        if self.others.get("read"):
            check(mode="read", waiters=write)

    def write(self, held: dict[str, Lock]) -> None:
        """Write what we hold, and what others do."""
        lock: dict[str, dict] = {
            "write": dict(self.others.get("write", {})),
            "read": {path: [*i] for path, i in self.others.get("read", {}).items()},
        }
        for path, (mode, cmd) in held.items():
            if mode == "write":
                lock["write"][path] = _info(cmd)
            else:
                lock["read"].setdefault(path, []).append(_info(cmd))
        text = json.dumps(lock)
        # NOTE: DVC cannot go on with half of a file; who held what does not matter
        # after the machine has gone down
        with atomic_write(self._path, os.path.dirname(self._path), sync=False) as fobj:
            fobj.write(text)
        self.text = text
