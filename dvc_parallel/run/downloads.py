"""What stages need from remotes, with ``--pull``: fetched beside others, not before.

DVC fetches what a stage lacks when its turn comes: its outputs if it has not changed,
else dependencies, and outputs of an entry in the run cache.  What it would fetch then,
a job puts into the cache before, while it has given the repo away.  And of a stage that
is ready, but has to wait for a slot, a thread of its own does so.

That is all: DVC goes on as ever, finds it in the cache, and fetches the rest itself.
So it decides what a stage needs, and an error is that of its own attempt.
"""

import queue
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from inspect import unwrap
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_objects.errors import ObjectFormatError

from dvc_parallel.engine import logger
from dvc_parallel.engine.reporter_events import Phase, Reporter
from dvc_parallel.remote.clones.exchange import by_hash_name, with_files

from .saving import is_large
from .stage_run import current_stage_run
from .transfers import GRACE, Stop, copy_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.hash_info import HashInfo

    from dvc_parallel.engine.repo_lock import SharedRepoLock

    from .transfers import Transfers

    # Where objects are, where they have to go, and which ones.
    Wanted = tuple[HashFileDB, HashFileDB, set[HashInfo]]


def fetch(original: Callable, idxs: Iterable, *args, **kwargs) -> Any:
    """``dvc_data.index.fetch.fetch``: fetch all that is in some indexes."""
    idxs = list(idxs)
    wanted: list[Wanted] = []
    if current_stage_run() is not None:
        for index in idxs:
            storage = index.storage_map[()]
            source, cache = (
                getattr(it, "odb", None) for it in (storage.data, storage.cache)
            )
            if source is not None and cache is not None:
                entries = (entry.hash_info for _, entry in index.iteritems())
                wanted.append((source, cache, set(filter(None, entries))))
    _fetch_away(wanted)
    return original(idxs, *args, **kwargs)


def pull(original: Callable, cloud: Any, objs: Iterable, *args, **kwargs) -> Any:
    """``DataCloud.pull``: fetch objects."""
    objs = set(objs)
    if current_stage_run() is not None and not args and not kwargs:
        _fetch_away(_by_source(cloud.repo, None, objs))
    return original(cloud, objs, *args, **kwargs)


def _fetch_away(wanted: "Iterable[Wanted]") -> None:
    """Fetch objects while others own the repo, as far as that is possible."""
    stage_run = current_stage_run()
    lacking = [it for it in wanted if _lacks(it)]
    if stage_run is not None and lacking:
        with stage_run.job.away_if(True):
            for it in lacking:
                _fetch(it, stage_run.transfers, Stop(stage_run.is_interrupted))


def _lacks(wanted: "Wanted") -> bool:
    _, cache, objects = wanted
    try:
        files = {one.value for oid in objects for one in with_files(cache, oid)}
    except (FileNotFoundError, ObjectFormatError):
        return True
    return not all(cache.exists(oid) for oid in files if oid)


def _fetch(wanted: "Wanted", transfers: "Transfers", stop: Stop) -> None:
    """Fetch objects, and of folders what is in them; in any thread."""
    remote, cache, objects = wanted
    # NOTE: who waits here finds them in the cache, and fetches nothing
    with transfers.of({oid.value for oid in objects if oid.value}):
        try:
            folders = {oid for oid in objects if oid.isdir}
            for some in (folders, objects):
                copy_objects(cache, remote, some, stop, uploads=False)
                objects = {one for oid in objects for one in with_files(cache, oid)}
        except (FileNotFoundError, ObjectFormatError):
            pass  # a folder that the remote does not have
        except Exception as exc:  # noqa: BLE001
            logger.debug("cannot fetch", exc_info=exc)


def _by_source(
    repo: "Repo", remote: Optional[str], objects: "set[HashInfo]"
) -> "list[Wanted]":
    """Where in a remote objects are; nothing if they are not there by their hashes."""
    try:
        found = repo.cloud.get_remote(remote, "pull")
        if found.worktree or found.fs.version_aware:
            return []
    except Exception as exc:  # noqa: BLE001
        logger.debug("cannot fetch", exc_info=exc)
        return []
    caches = by_hash_name(repo.cache, "legacy", "local")
    sources = by_hash_name(found, "legacy_odb", "odb")
    wanted = []
    for name, cache in caches.items():
        if own := {oid for oid in objects if oid.name == name}:
            wanted.append((sources[name], cache, own))
    return wanted


class Downloads(Reporter):
    """Fetches what stages need that are ready and have to wait for a slot.

    Args:
        steps: the stages of the run, by their ranks.
        upstream: those that each of them depends on.
        lock: passes the repo on.
        in_thread: what a thread of the run is in.
        force: whether all stages run.
        allow_missing: whether an unchanged stage needs no data.
    """

    def __init__(
        self,
        steps: "Sequence[Stage]",
        upstream: "Callable[[Stage], Iterable[Stage]]",
        lock: "SharedRepoLock",
        transfers: "Transfers",
        in_thread: Callable[[], AbstractContextManager],
        force: bool,
        allow_missing: bool,
    ):
        self._steps = steps
        self._upstream = upstream
        self._lock = lock
        self._transfers = transfers
        self._in_thread = in_thread
        self._force = force
        self._allow_missing = allow_missing
        repo = steps[0].repo
        self._outs: Mapping[str, Output] = {out.fs_path: out for out in repo.index.outs}
        self._ready: queue.SimpleQueue[Optional[int]] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def phase(self, stage: int, phase: Phase, **_details: Any) -> None:
        if phase is Phase.READY:
            self._ready.put(stage)
            if not self._thread.ident:
                self._thread.start()

    def stages_over(self) -> None:
        """End the thread, which may be waiting for the repo or for a remote."""
        self._stopped.set()
        self._ready.put(None)
        if self._thread.ident:
            self._thread.join(GRACE)

    def _run(self) -> None:
        stop = Stop(self._stopped.is_set)
        with self._in_thread():
            while (rank := self._ready.get()) is not None:
                if self._stopped.is_set():
                    return
                for wanted in self._wanted(self._steps[rank]):
                    _fetch(wanted, self._transfers, stop)

    def _wanted(self, stage: "Stage") -> "list[Wanted]":
        """What a stage would fetch now, as far as that is found out quickly."""
        self._lock.lock()
        try:
            outs = self._needed(stage)
            by_remote: dict[Optional[str], set[HashInfo]] = {}
            for out in outs:
                if out.use_cache and out.hash_info:
                    by_remote.setdefault(out.remote, set()).add(out.hash_info)
            return [
                wanted
                for remote, objects in by_remote.items()
                for wanted in _by_source(stage.repo, remote, objects)
                if _lacks(wanted)
            ]
        except Exception as exc:  # noqa: BLE001
            # NOTE: it comes again when the stage has its turn
            logger.debug("cannot tell what %s needs", stage, exc_info=exc)
            return []
        finally:
            self._lock.unlock()

    def _needed(self, stage: "Stage") -> "list[Output]":
        if stage.frozen or stage.is_import:
            return []
        if any(it.fs.protocol != "local" for it in (*stage.deps, *stage.outs)):
            return []
        missing = [out for out in stage.outs if not out.exists]
        deps = [dep for dep in stage.deps if not dep.exists]
        there = [dep.fs_path for dep in stage.deps if dep not in deps]
        if not (missing or deps) or any(map(is_large, there)):
            return []
        if self._is_changed(stage):
            return [
                self._outs[dep.fs_path] for dep in deps if dep.fs_path in self._outs
            ]
        return [] if self._allow_missing else missing

    def _is_changed(self, stage: "Stage") -> bool:
        if stage.is_data_source:
            return False
        if self._force or stage.always_changed or stage.is_callback:
            return True
        # NOTE: without path locks, as nothing depends on the answer
        changed_deps: Any = unwrap(stage._changed_deps)
        upstream = list(self._upstream(stage))
        return stage.changed_stage() or changed_deps(stage, True, upstream)
