"""Path locks (``.dvc/tmp/rwlock``) that count the stages that need a path.

DVC identifies the holder of a path by process and command line, so all stages
of a run are one holder, and with DVC's own ``rwlock`` the first to finish
releases a path that another one still reads.  Here a path goes into the file
with the first stage that needs it and leaves with the last.  Format and meaning
of the file stay DVC's: other processes see the locks, and theirs are heeded.
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

from .atomic import atomic_write

# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")


class PathLocks:
    """The path locks of a run.  Owned by the owner of the repo.

    The file has a write lock on each path that a stage writes to, and a read lock on
    each that stages only read.  A path that is needed no longer leaves the file with
    the next change of it, or by ``flush``, before another process can lock the repo.
    """

    def __init__(self) -> None:
        self._holders: dict[str, Counter[str]] = {"read": Counter(), "write": Counter()}
        self._in_file: dict[str, str] = {}  # modes of our locks
        self._touched: dict[str, None] = {}  # what may be otherwise there
        self._file = _File()
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
        self._count(read, write, 1)
        try:
            if any(self._mode(p) != self._in_file.get(p) for p in [*read, *write]):
                self._edit()
        except BaseException:
            self._count(read, write, -1)
            raise

        try:
            yield
        finally:
            self._count(read, write, -1)

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
                # NOTE: DVC's handlers raise when nobody reads what they write
                with suppress(Exception):
                    logger.warning("path locks could not be released: %s", exc)
                return

    def _count(self, read: Iterable[str], write: Iterable[str], by: int) -> None:
        for mode, paths in (("read", read), ("write", write)):
            for path in set(paths):
                self._holders[mode][path] += by
                if not self._holders[mode][path]:
                    del self._holders[mode][path]
        self._touched.update(dict.fromkeys([*read, *write]))

    def _mode(self, path: str) -> Optional[str]:
        return next(
            (mode for mode in ("write", "read") if self._holders[mode][path]), None
        )

    def _write(self, tmp_dir: str, fs: Any, cmd: str, hardlink: bool) -> None:
        """Bring the file up to date with what is held."""
        new = {path: self._mode(path) for path in self._touched}
        if all(self._in_file.get(path) == mode for path, mode in new.items()):
            self._touched.clear()
            return

        guard = make_lock(
            os.path.join(tmp_dir, dvc_rwlock.RWLOCK_LOCK),
            tmp_dir=tmp_dir,
            hardlink_lock=hardlink,
        )
        with guard:
            path = os.path.join(tmp_dir, dvc_rwlock.RWLOCK_FILE)
            self._file.read(path, fs, cmd, self._in_file)
            self._file.check(
                tmp_dir,
                [path for path, mode in new.items() if mode == "read"],
                [path for path, mode in new.items() if mode == "write"],
            )
            wanted = {**self._in_file, **new}
            held = {path: mode for path, mode in wanted.items() if mode}
            self._file.write(held)
        self._touched.clear()
        self._in_file = held


class OthersPathLocks(PathLocks):
    """The path locks of other processes, heeded by one that only reads.

    It has the repo locked, so no other can take a path meanwhile, and leaves no mark.
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
        self._file.read(path, fs, cmd, {})
        self._file.check(tmp_dir, [*read, *write], [])
        yield


class _File:
    """The file.  Owned by whoever has locked its guard."""

    def __init__(self) -> None:
        self._path = ""
        self._info: dict[str, Any] = {}
        self._text = "{}"
        # what others hold, in the form of the file
        self._others: dict[str, dict] = {"read": {}, "write": {}}

    def read(self, path: str, fs: Any, cmd: str, held: dict[str, str]) -> None:
        """Find out what others hold; another run of this process may be one of them."""
        self._path = path
        self._info = {"pid": os.getpid(), "cmd": cmd}
        try:
            with fs.open(path, encoding="utf-8") as fobj:
                text = fobj.read()
        except FileNotFoundError:
            text = "{}"
        if text == self._text:
            return
        try:
            lock = dvc_rwlock.SCHEMA(json.loads(text))
        except json.JSONDecodeError as exc:
            raise dvc_rwlock.RWLockFileCorruptedError(path) from exc
        except Invalid as exc:
            raise dvc_rwlock.RWLockFileFormatError(path) from exc
        others: dict[str, dict] = {"read": {}, "write": {}}
        for name, infos in lock["read"].items():
            if held.get(name) == "read" and self._info in infos:
                infos.remove(self._info)
            if infos:
                others["read"][name] = infos
        for name, info in lock["write"].items():
            if held.get(name) != "write" or info != self._info:
                others["write"][name] = info
        self._others = others

    def check(self, tmp_dir: str, read: list[str], write: list[str]) -> None:
        """Heed the locks of others, but for those that have died.

        Raises:
            LockError: another process uses one of the paths.
        """
        check = partial(dvc_rwlock._check_blockers, tmp_dir, self._others, self._info)
        if self._others.get("write"):
            check(mode="write", waiters=read + write)
        if self._others.get("read"):
            check(mode="read", waiters=write)

    def write(self, held: dict[str, str]) -> None:
        """Write what we hold, and what others do."""
        lock: dict[str, dict] = {
            "write": dict(self._others.get("write", {})),
            "read": {path: [*i] for path, i in self._others.get("read", {}).items()},
        }
        for path, mode in held.items():
            if mode == "write":
                lock["write"][path] = self._info
            else:
                lock["read"].setdefault(path, []).append(self._info)
        text = json.dumps(lock)
        # NOTE: DVC cannot go on with half of a file; who held what does not matter
        # after the machine has gone down
        with atomic_write(self._path, os.path.dirname(self._path), sync=False) as fobj:
            fobj.write(text)
        self._text = text
