"""Path locks (``.dvc/tmp/rwlock``) that count the stages that need a path.

With ``dvc.rwlock`` all stages of a process are one holder, and the first to finish
releases a path that another one still reads.  Here a path goes into the file
with the first stage that needs it and leaves with the last.  Format and meaning
of the file stay the same: other processes see the locks, and theirs are heeded.

A power cut can leave the file empty, cut off, or full of zeros.  Then a parallel run
takes it that nothing is locked, says so and writes it anew, unless it names a process
that may have written it and lives.  Who runs one stage at a time gets DVC's error, as
without the plugin.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Callable, Optional

import dvc.rwlock as dvc_rwlock
import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError, make_lock
from voluptuous import Invalid

from . import logger
from .atomic import about, atomic_write
from .lock_wait import wait_for

DAMAGED = (
    "'%s' is damaged, perhaps by a power cut, and is replaced; no path counts as locked"
)

Lock = tuple[str, str]  # mode, and the command line of the holder in the file


class PathLocks:
    """The path locks of a run.  Owned by the owner of the repo.

    The file has a write lock on each path that a stage writes to, and a read lock on
    each that stages only read, with the command line of the first that still needs
    it.  Others look at it, and change it, when they have locked the repo.  So what is
    locked or released while this process has the repo is in the file with the next
    change of it, or by ``flush``, before another process can lock the repo; and what
    others hold is read once, when this process has got it.

    Args:
        goes_on: whether a parallel run goes on; None if stages run one at a time. That
            waits for whoever changes the file, and does without what a power cut has
            left of it. Else that is an error, as it is for DVC.
    """

    def __init__(self, goes_on: Optional[Callable[[], bool]] = None) -> None:
        # command lines, by mode and path
        self._holders: dict[str, dict[str, Counter[str]]] = {"write": {}, "read": {}}
        self._in_file: dict[str, Lock] = {}
        self._touched: dict[str, None] = {}  # what may be otherwise there
        self._goes_on = goes_on
        self._file = LocksFile(replaces=goes_on is not None)
        self._edit: Callable[..., None] = lambda **_: None
        self._knows_others = False  # since it has got the repo
        self._lost: set[str] = set()  # paths that others have taken from us

    @contextmanager
    def hold(
        self, tmp_dir, fs, cmd, read: list[str], write: list[str], hardlink
    ) -> Iterator[None]:
        """As :func:`dvc.rwlock.rwlock`, whose arguments and errors it has.

        Raises:
            LockError: another process uses one of the paths.
        """
        self._edit = partial(self._write, tmp_dir, fs, cmd, hardlink)
        goes_on = self._goes_on or (lambda: False)
        self._count(cmd, read, write, 1)
        try:
            new = {path: self._lock(path) for path in [*read, *write]}
            if all(self._in_file.get(path) == lock for path, lock in new.items()):
                pass
            elif self._knows_others:
                self._check(tmp_dir, cmd, new)
            else:
                self._edit(goes_on=goes_on)
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
        try:
            # NOTE: a stage must not fail once it has run, because somebody else is just
            # changing the file
            self._edit(goes_on=self._goes_on or (lambda: True), must_hold=False)
        except (OSError, DvcException) as exc:
            # NOTE: log handlers raise when nobody reads what they write
            with suppress(Exception):
                logger.warning("cannot release path locks: %s", exc)
        finally:
            self._knows_others = False

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

    def _write(
        self,
        tmp_dir: str,
        fs: Any,
        cmd: str,
        hardlink: bool,
        *,
        goes_on: Callable[[], bool],
        must_hold: bool = True,
    ) -> None:
        """Bring the file up to date with what is held.

        Args:
            goes_on: whether to go on waiting for others who change the file.
            must_hold: whether it is an error if others use one of the paths.
        """
        new = {path: self._lock(path) for path in self._touched}
        if all(self._in_file.get(path) == lock for path, lock in new.items()):
            self._touched.clear()
            return

        guard = make_lock(
            os.path.join(tmp_dir, dvc_rwlock.RWLOCK_LOCK),
            tmp_dir=tmp_dir,
            hardlink_lock=hardlink,
        )
        with about(guard.lockfile):
            wait_for(guard, "the path locks", goes_on=goes_on)
            try:
                self._edit_file(tmp_dir, fs, cmd, new, must_hold)
            finally:
                guard.unlock()

    def _edit_file(
        self,
        tmp_dir: str,
        fs: Any,
        cmd: str,
        new: dict[str, Optional[Lock]],
        must_hold: bool,
    ) -> None:
        path = os.path.join(tmp_dir, dvc_rwlock.RWLOCK_FILE)
        self._file.read(path, fs, self._in_file)
        try:
            self._check(tmp_dir, cmd, new)
        except LockError as exc:
            if must_hold:
                raise
            self._tell_of_loss(path, exc)
        wanted = {**self._in_file, **new}
        held = {path: lock for path, lock in wanted.items() if lock}
        self._file.write(held)
        # NOTE: now, as it may not be possible to unlock the guard
        self._touched.clear()
        self._in_file = held
        self._knows_others = True

    def _check(self, tmp_dir: str, cmd: str, new: dict[str, Optional[Lock]]) -> None:
        """Heed what others hold, as far as it is known."""
        self._file.check(
            tmp_dir,
            cmd,
            [path for path, lock in new.items() if lock and lock[0] == "read"],
            [path for path, lock in new.items() if lock and lock[0] == "write"],
        )

    def _tell_of_loss(self, path: str, exc: LockError) -> None:
        """Say that stages use paths which another process could lock meanwhile."""
        text = str(exc).partition("\n\n")[0]
        if text not in self._lost:
            self._lost.add(text)
            with suppress(Exception):
                logger.warning(
                    "'%s' was removed or changed while it held locks of this run: %s",
                    path,
                    text,
                )


def _read(path: str, fs: Any) -> bytes:
    try:
        with about(path), fs.open(path, "rb") as fobj:
            return fobj.read()
    except FileNotFoundError:
        return b"{}"


def _parse(path: str, data: bytes) -> dict[str, dict]:
    """What is locked, as the file has it.

    Raises:
        RWLockFileCorruptedError: it is no JSON.
        RWLockFileFormatError: it is none of this kind.
    """
    try:
        return dvc_rwlock.SCHEMA(json.loads(data.decode("utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise dvc_rwlock.RWLockFileCorruptedError(path) from exc
    except Invalid as exc:
        raise dvc_rwlock.RWLockFileFormatError(path) from exc


def _living_writers(path: str, data: bytes) -> list[int]:
    """Processes that a damaged file names and that were there when it was written."""
    pids = {int(pid) for pid in re.findall(rb'"pid":\s*(\d{1,9})\b', data)}
    written = os.stat(path).st_mtime
    living = []
    for pid in sorted(pids):
        with suppress(psutil.Error):
            if psutil.Process(pid).create_time() <= written:
                living.append(pid)
    return living


def _info(cmd: str) -> dict[str, Any]:
    """What the file has for a holder of this process."""
    return {"pid": os.getpid(), "cmd": cmd}


class LocksFile:
    """The file.  Owned by whoever has locked its guard.

    Args:
        replaces: whether a damaged file is taken for an empty one; only for who has
            locked its guard, as DVC is else just writing it.

    Attributes:
        text (str): what is in it.
        others (dict): what others hold, in the form of the file.
    """

    def __init__(self, replaces: bool = False) -> None:
        self._path = ""
        self._replaces = replaces
        self.text = "{}"
        self.others: dict[str, dict] = {"read": {}, "write": {}}

    def read(self, path: str, fs: Any, held: dict[str, Lock]) -> None:
        """Find out what others hold; another run of this process may be one of them.

        Raises:
            RWLockFileCorruptedError, RWLockFileFormatError: it cannot be told.
        """
        self._path = path
        data = _read(path, fs)
        if data == self.text.encode():
            return
        lock = self._parse(data)
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
        self.text = data.decode(errors="replace")

    def _parse(self, data: bytes) -> dict[str, dict]:
        if not self._replaces:
            return _parse(self._path, data)
        try:
            return _parse(self._path, data)
        except dvc_rwlock.RWLockFileCorruptedError as exc:
            if living := _living_writers(self._path, data):
                pids = ", ".join(map(str, living))
                advice = (
                    f"It may belong to a running process ({pids}); wait until that "
                    "ends."
                )
                exc.args = (f"{exc}. {advice}",)
                raise
        except dvc_rwlock.RWLockFileFormatError as exc:
            advice = "If no DVC process uses the repo, remove it and try again."
            exc.args = (f"{exc} {advice}",)
            raise
        with suppress(Exception):
            logger.warning(DAMAGED, self._path)
        return dvc_rwlock.SCHEMA({})

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
            if path in self.others.get("write", {}):
                continue  # they have taken it, see `PathLocks.flush`
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


class OthersPathLocks(PathLocks):
    """As :class:`PathLocks`, but takes none.

    Its process has the repo locked, so no other can take a path meanwhile.
    """

    @contextmanager
    def hold(
        self,
        tmp_dir,
        fs,
        cmd,
        read: list[str],
        write: list[str],
        hardlink,  # noqa: ARG002
    ) -> Iterator[None]:
        """See that nobody writes to any of the paths.

        Raises:
            LockError: another process does.
        """
        path = os.path.join(tmp_dir, dvc_rwlock.RWLOCK_FILE)
        self._file.read(path, fs, {})
        self._file.check(tmp_dir, cmd, [*read, *write], [])
        yield
