"""The path locks of one stage: what it asks for, and when it gives up."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Optional, Union

import dvc.rwlock as dvc_rwlock
import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError

from .path_locks import LocksFile, PathLocks

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


# Around what is done with paths that are locked already.
HELD = nullcontext()


class PathsBusyError(LockError):
    """Another process uses a path of a stage that has not done anything yet.

    Attributes:
        read, write: the paths that it needs.
    """

    def __init__(self, message: str, read: list[str], write: list[str]):
        super().__init__(message)
        self.read = read
        self.write = write


class StagePaths:
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

    def hold(
        self, tmp_dir, fs, cmd, read: list[str], write: list[str], hardlink
    ) -> "AbstractContextManager[None]":
        """As :func:`dvc.rwlock.rwlock`; the outermost call is for reading at first.

        With the first call inside of it that is for writing, all that the outermost one
        was for is held as that has asked for it, to its end.

        Raises:
            PathsBusyError: another process uses one of the paths; nothing was written.
            LockError: it does, and there is no use in waiting, or something was.
        """
        if self._needed is not None and self._has(read, write):
            return HELD
        return self._hold(tmp_dir, fs, cmd, read, write, hardlink)

    @contextmanager
    def _hold(
        self, tmp_dir, fs, cmd, read: list[str], write: list[str], hardlink
    ) -> Iterator[None]:
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
        if self._has(read, write):
            yield
            return
        with ExitStack() as stack:
            acquire(stack, read, write)
            yield

    def _has(self, read: list[str], write: list[str]) -> bool:
        return self._reads.issuperset(read) and self._writes.issuperset(write)

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


def _of(pids: Collection[int], infos: Union[dict, list[dict]]) -> list[dict]:
    """The entries of some processes, among those of a path in the file."""
    infos = infos if isinstance(infos, list) else [infos]
    return [info for info in infos if info["pid"] in pids]
