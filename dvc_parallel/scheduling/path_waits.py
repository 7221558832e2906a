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
from typing import Any, Callable, Optional

import dvc.rwlock as dvc_rwlock
import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError

from dvc_parallel.engine.lock_wait import Wait
from dvc_parallel.engine.path_locks import LocksFile
from dvc_parallel.engine.plan import Resumed
from dvc_parallel.engine.stage_paths import PathsBusyError

# Seconds from one look at what others hold to the next.
LOOK = 0.25


def _who(busy: PathsBusyError) -> str:
    return str(busy).partition("\n\n")[0]


class PathWaits:
    """Stages that wait for paths.  Owned by whoever owns the plan.

    A :class:`dvc_parallel.engine.executor.Waker`.

    Args:
        tell: called with a stage and what the user has to know of its waiting.
    """

    def __init__(
        self,
        tmp_dir: str,
        fs: Any,
        tell: Callable[[int, str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._tmp_dir = tmp_dir
        self._fs = fs
        self._tell = tell
        self._clock = clock
        self._busy: dict[int, PathsBusyError] = {}
        self._waits: dict[int, Wait] = {}
        self._file = LocksFile()
        self._looked = 0.0
        self._seen: Optional[tuple] = None  # which keeps all of them from going on

    def add(self, stage: int, busy: PathsBusyError) -> None:
        """Let a stage wait; tell why, if that has not been told before."""
        if not self._busy:
            self._looked = self._clock()
        self._busy[stage] = busy
        self._seen = None
        if stage in self._waits:
            return
        # NOTE: how to get rid of a stale lock is said once
        text = _who(busy) if self._waits else str(busy)
        self._waits[stage] = Wait(self._clock)
        self._waits[stage].is_to_be_told()
        self._tell(stage, text)

    def _remind(self) -> None:
        """Tell again what is waited for, of one stage for all with that reason."""
        told: dict[str, list[tuple[int, str]]] = {}
        for stage, busy in self._busy.items():
            if lasting := self._waits[stage].is_to_be_told():
                told.setdefault(_who(busy), []).append((stage, lasting))
        for who, stages in told.items():
            (stage, lasting), *more = stages
            others = f", with {len(more)} more" if more else ""
            self._tell(stage, f"{lasting} now{others}: {who}")

    def due(self) -> Optional[float]:
        """Seconds until it is time for another look; None if nobody waits."""
        if not self._busy:
            return None
        return max(0.0, self._looked + LOOK - self._clock())

    def events(self) -> list[Resumed]:
        """Stages that may try again; another process may still be quicker."""
        self._remind()
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
        return [Resumed(stage) for stage in free]

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
