"""Stages that need a path which another DVC process uses.

DVC raises an error there; a stage of a parallel run waits.  What keeps runs that wait
for each other from doing so for ever:

- A stage asks for all of its paths at once, before it has done anything, and gives up
  those that it has where one is in use.  So who waits holds no path, and neither the
  repo, a slot, nor a thread: it is as if it had not been started.
- A stage is looked at under read locks.  Only one that has to run asks for write locks,
  so one that has not changed goes through beside those who read its outputs.
- Who waits for a process that has started this one would do so in vain: that is an
  error, as it is in DVC.

Other processes release paths when they like, so a run looks at the file from time to
time.
"""

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Optional, Union

import dvc.rwlock as dvc_rwlock
import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError

from .path_locks import LocksFile, PathLocks
from .patience import Wait

# Seconds from one look at what others hold to the next.
LOOK = 0.25


class PathsBusyError(LockError):
    """Another process uses a path of a stage that has not done anything yet.

    Attributes:
        read, write: the paths that it needs.
    """

    def __init__(self, message: str, read: list[str], write: list[str]):
        super().__init__(message)
        self.read = read
        self.write = write


class JobPaths:
    """The path locks of one stage.  Owned by the thread that runs it.

    DVC's functions lock what they need, and call each other: what the outermost of them
    has, those inside of it need not lock again.

    Args:
        locks: those of the run.
        looks_first: whether DVC looks at the stage before it writes anything.
        names: further names of its paths, by which others may know them.
        goes_back: whether it can wait, where others use a path.
    """

    def __init__(
        self,
        locks: PathLocks,
        looks_first: bool,
        names: Optional[Mapping[str, Sequence[str]]] = None,
        goes_back: bool = True,
    ):
        self._locks = locks
        self._looks_first = looks_first
        self._goes_back = goes_back
        self._is_looking = False
        self._names = names or {}
        # all that it needs, from the outermost call on
        self._needed: Optional[tuple[list[str], list[str]]] = None
        self._held = ExitStack()
        # what may be read or written to, as far as that is held
        self._reads: frozenset[str] = frozenset()
        self._writes: frozenset[str] = frozenset()

    @contextmanager
    def hold(
        self, tmp_dir, fs, cmd, read: list[str], write: list[str], hardlink
    ) -> Iterator[None]:
        """As :func:`dvc.rwlock.rwlock`; the outermost call is for reading at first.

        With the first call inside of it that is for writing, all that the outermost one
        was for is held as that has asked for it, to its end.

        Raises:
            PathsBusyError: another process uses one of the paths; nothing was written.
            LockError: it does, and there is no use in waiting, or something was.
        """

        def acquire(stack: ExitStack, read: list[str], write: list[str]) -> None:
            held = self._locks.hold(tmp_dir, fs, cmd, read, write, hardlink)
            stack.enter_context(held)

        def begin(read: list[str], write: list[str]) -> None:
            try:
                acquire(self._held, read, write)
            except LockError as exc:
                if not self._goes_back:
                    raise
                if _are_used_by_ancestors(tmp_dir, fs, read, write):
                    raise
                raise PathsBusyError(str(exc), read, write) from exc
            self._reads, self._writes = frozenset([*read, *write]), frozenset(write)

        if self._needed is None:
            read, write = self._by_all_names(read), self._by_all_names(write)
            self._needed = read, write
            self._is_looking = self._looks_first
            if self._is_looking:
                read, write = [*read, *write], []
            with self._held:
                try:
                    begin(read, write)
                    yield
                finally:
                    self._needed = None
                    self._reads = self._writes = frozenset()
            return

        if write and self._is_looking:
            begin(*self._needed)
            self._is_looking = False
        if self._reads.issuperset(read) and self._writes.issuperset(write):
            yield
            return
        with ExitStack() as stack:
            acquire(stack, read, write)
            yield

    def _by_all_names(self, paths: list[str]) -> list[str]:
        return [*paths, *(name for p in paths for name in self._names.get(p, ()))]


def _are_used_by_ancestors(
    tmp_dir: str, fs: Any, read: list[str], write: list[str]
) -> bool:
    """Whether a process that waits for this one uses one of the paths."""
    ancestors = {process.pid for process in psutil.Process().parents()}
    file = LocksFile()
    try:
        file.read(os.path.join(tmp_dir, dvc_rwlock.RWLOCK_FILE), fs, {})
        for mode, paths in file.others.items():
            theirs = {path: _of(ancestors, infos) for path, infos in paths.items()}
            file.others[mode] = {path: infos for path, infos in theirs.items() if infos}
        file.check(tmp_dir, "", read, write)
    except LockError:
        return True
    except (OSError, DvcException):
        pass  # who tries again is told
    return False


def _who(busy: PathsBusyError) -> str:
    return str(busy).partition("\n\n")[0]


def _of(pids: Collection[int], infos: Union[dict, list[dict]]) -> list[dict]:
    """What some processes hold, of what the file has for a path."""
    infos = infos if isinstance(infos, list) else [infos]
    return [info for info in infos if info["pid"] in pids]


class PathWaits:
    """Stages that wait for paths.  Owned by the loop of a run.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
        fs: its file system.
        clock: tells the time in seconds.
    """

    def __init__(
        self, tmp_dir: str, fs: Any, clock: Callable[[], float] = time.monotonic
    ):
        self._tmp_dir = tmp_dir
        self._fs = fs
        self._clock = clock
        self._busy: dict[int, PathsBusyError] = {}
        self._waits: dict[int, Wait] = {}
        self._file = LocksFile()
        self._looked = 0.0
        self._seen: Optional[tuple] = None  # which keeps all of them from going on

    def add(self, stage: int, busy: PathsBusyError) -> Optional[str]:
        """Have a stage wait.

        Returns:
            what the user has to know about that, if it has not been said before.
        """
        if not self._busy:
            self._looked = self._clock()
        self._busy[stage] = busy
        self._seen = None
        if stage in self._waits:
            return None
        # NOTE: how to get rid of a stale lock is said once
        text = _who(busy) if self._waits else str(busy)
        self._waits[stage] = Wait(self._clock)
        self._waits[stage].is_to_be_told()
        return text

    def reminders(self) -> list[tuple[int, str]]:
        """What the user has to be told again, of one stage for all with that reason."""
        told: dict[str, list[tuple[int, str]]] = {}
        for stage, busy in self._busy.items():
            if lasting := self._waits[stage].is_to_be_told():
                told.setdefault(_who(busy), []).append((stage, lasting))
        reminders = []
        for who, stages in told.items():
            (stage, lasting), *more = stages
            others = f", with {len(more)} more stages" if more else ""
            reminders.append((stage, f"{lasting} now{others}, as {who}"))
        return reminders

    def due(self) -> Optional[float]:
        """Seconds until it is time for another look; None if nobody waits."""
        if not self._busy:
            return None
        return max(0.0, self._looked + LOOK - self._clock())

    def free(self) -> list[int]:
        """Stages that may try again; another process may still be quicker."""
        if self.due() != 0:
            return []
        self._looked = self._clock()
        try:
            path = os.path.join(self._tmp_dir, dvc_rwlock.RWLOCK_FILE)
            self._file.read(path, self._fs, {})
        except (OSError, DvcException):
            # NOTE: who tries again is told, unless DVC is just writing the file
            free = list(self._busy)
        else:
            seen = self._file.text, self._alive()
            if seen == self._seen:
                return []
            self._seen = seen
            free = [stage for stage in self._busy if not self._is_blocked(stage)]
        for stage in free:
            del self._busy[stage]
        return free

    def _alive(self) -> frozenset[int]:
        infos = [*self._file.others["write"].values()]
        for readers in self._file.others["read"].values():
            infos += readers
        return frozenset(filter(psutil.pid_exists, {info["pid"] for info in infos}))

    def _is_blocked(self, stage: int) -> bool:
        busy = self._busy[stage]
        try:
            self._file.check(self._tmp_dir, "", busy.read, busy.write)
        except LockError:
            return True
        return False
