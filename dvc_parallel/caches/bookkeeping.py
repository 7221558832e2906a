"""DVC's bookkeeping of a stage, made cheap; with one job as with many.

What DVC reads, parses and writes anew for every stage, a run keeps: the text of
dvc.lock, the path locks it holds, what git tracks, and so on.  Each is a module of
its own that knows nothing of the others.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_parallel.engine.durable import Written
from dvc_parallel.engine.lockfile import Lockfiles
from dvc_parallel.engine.path_locks import PathLocks
from dvc_parallel.engine.stage_paths import StagePaths

from .gitignore import IgnoreFiles
from .hashes import KnownHashes
from .params import ParamsFiles
from .path_facts import IgnoreRules, LinkTypes, LoadedConfig, TrackedPaths

if TYPE_CHECKING:
    from dvc_parallel.engine.ordered_writes import SerialOrder

_local = threading.local()


def current_books() -> Optional["Bookkeeping"]:
    """The bookkeeping of the run that the calling thread belongs to, if any."""
    return getattr(_local, "books", None)


class Bookkeeping:
    """What a run keeps.  Owned by the owner of the repo.

    Args:
        tmp_dir: folder for temporary files, ``.dvc/tmp`` of the repo.
        goes_on: as for :class:`PathLocks`.

    Attributes:
        pulls: whether DVC may pull outputs instead of running a stage.
        order: what earlier runs have left out, for a run with one job.
    """

    def __init__(
        self, tmp_dir: str, goes_on: Optional[Callable[[], bool]] = None
    ) -> None:
        self.lockfiles = Lockfiles(tmp_dir)
        self.order: Optional[SerialOrder] = None
        self.params_files = ParamsFiles()
        self.path_locks = PathLocks(goes_on)
        # of the stage that is run, where stages run one after the other
        self.paths = StagePaths(self.path_locks, looks_first=False, goes_back=False)
        self.tracked_paths = TrackedPaths()
        self.link_types = LinkTypes()
        self.config = LoadedConfig()
        self.ignore_files = IgnoreFiles()
        self.ignore_rules = IgnoreRules()
        self.known_hashes = KnownHashes()
        self.written = Written()
        # objects in the cache, by path: the cache, and their names
        self.damaged: dict[str, tuple[Any, str]] = {}
        self.patterns: dict[tuple, Any] = {}
        self.in_repo: dict[tuple, bool] = {}
        self.names: dict[tuple, str] = {}
        self.pulls = True
        self.changed: set[int] = set()  # ids of stages of which DVC asks once more

    def flush(self) -> None:
        """Leave nothing undone, before another process can lock the repo."""
        self.path_locks.flush()

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Be the bookkeeping of the calling thread."""
        outer = current_books()
        _local.books = self
        try:
            yield
        finally:
            _local.books = outer


def in_runs(func: Callable) -> Callable:
    """A stand-in for threads of a run only; called with the run's books first."""

    @wraps(func)
    def stand_in(original: Callable, *args, **kwargs):
        books = current_books()
        if books is None:
            return original(*args, **kwargs)
        return func(books, original, *args, **kwargs)

    return stand_in
