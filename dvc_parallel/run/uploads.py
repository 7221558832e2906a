"""Outputs of stages, uploaded beside the run as they are recorded.

    owner of the repo ── add: hashes ──> Uploads ── the thread: cache -> remote

The thread has a repo of its own, with connections of its own to the state database and
to the remote, and shares nothing else with the run: it reads objects of the cache,
which do not change, as ``dvc push`` does.  The entry in the run cache goes last, so
that whoever finds it in the remote finds its data there, too.

An upload that fails costs no result.  It is tried again, and told at the end.
"""

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from dvc.repo import Repo
from dvc.stage import cache as stage_cache
from dvc_objects.errors import ObjectFormatError
from dvc_objects.fs import generic

from dvc_parallel.engine import logger
from dvc_parallel.engine.lock_wait import given_away
from dvc_parallel.engine.terminal import plural
from dvc_parallel.remote.clones.exchange import by_hash_name, with_files

from .transfers import GRACE, Stop, copy_objects

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dvc.output import Output
    from dvc.stage import Stage
    from dvc_data.hashfile.hash_info import HashInfo

# Seconds before each further attempt.
PAUSES = (1.0, 5.0)

NOT_PUSHED = (
    "not pushed: what %s made (%s). It is recorded, and in the cache; `dvc push` "
    "uploads it"
)


@dataclass(eq=False)
class _Upload:
    """What a stage has made, by the names of remotes; None is the default one."""

    stage: str
    objects: "dict[Optional[str], set[HashInfo]]"
    entries: Optional[str]  # folder in the run cache
    attempts: int = 0
    error: str = "interrupted"


class Uploads:
    """Uploads what stages of a run make, in a thread.

    Made by the owner of the repo.

    Args:
        stages: those of the run.

    Raises:
        DvcException: there is no remote for an output, or one that keeps versions of
            files: these get into dvc.lock, which ``dvc push`` does at the end.
    """

    def __init__(self, repo: Repo, stages: "Iterable[Stage]"):
        self._repo = repo
        for name in {out.remote for stage in stages for out in _pushable(stage)}:
            repo.cloud.get_remote_odb(name, "push")
        self._changed = threading.Condition()  # guards the fields below
        self._waiting: list[_Upload] = []
        self._failed: list[_Upload] = []
        self._busy: list[_Upload] = []
        self._pushed = 0
        self._thread: Optional[threading.Thread] = None
        self._is_last = False
        self._stopped = threading.Event()

    def add(self, stage: "Stage") -> None:
        """Upload what a stage has made; called by the owner of the repo."""
        objects: dict[Optional[str], set[HashInfo]] = {}
        for out in _pushable(stage):
            if out.hash_info:
                objects.setdefault(out.remote, set()).add(out.hash_info)
        entries = None
        if stage_cache._can_hash(stage):
            key = stage_cache._get_stage_hash(stage)
            entries = self._repo.stage_cache._get_cache_dir(key)
        if not objects:
            return
        with self._changed:
            self._waiting.append(_Upload(stage.addressing, objects, entries))
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def finish(self, is_interrupted: bool) -> None:
        """Wait until all is uploaded, without the repo, and tell what is not.

        Raises:
            KeyboardInterrupt: after Ctrl-C, which ends the uploads.
        """
        if self._thread is None:
            return
        with self._changed:
            self._is_last = True
            self._changed.notify_all()
            left = len(self._waiting) + len(self._busy)
        try:
            if not is_interrupted:
                if left:
                    logger.info("Pushing what %s made...", plural(left, "stage"))
                with given_away(self._repo):
                    self._thread.join()
        finally:
            self._stopped.set()
            with self._changed:
                self._changed.notify_all()
            self._thread.join(GRACE)
            self._tell()

    def _tell(self) -> None:
        with self._changed:
            left = [*self._failed, *self._busy, *self._waiting]
            if self._pushed:
                logger.info("Pushed what %s made.", plural(self._pushed, "stage"))
        if left:
            names = ", ".join(f"'{upload.stage}'" for upload in left)
            logger.warning(NOT_PUSHED, names, left[0].error)

    def _run(self) -> None:
        try:
            # NOTE: the commands of the run may be in any folder
            with Repo(self._repo.root_dir) as repo:
                remotes: dict[Optional[str], Any] = {}
                while batch := self._next():
                    for upload in batch:
                        upload.attempts += 1
                    self._upload(repo, remotes, batch)
        except Exception as exc:  # noqa: BLE001
            logger.debug("cannot push", exc_info=exc)
            with self._changed:
                for upload in (*self._busy, *self._waiting):
                    upload.error = str(exc)

    def _next(self) -> list[_Upload]:
        """Wait for uploads: all that are new, or else those that have failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_last)
            if self._waiting and not self._is_to_go_on():
                pause = PAUSES[min(upload.attempts for upload in self._waiting) - 1]
                self._changed.wait_for(self._is_to_go_on, pause)
            if self._stopped.is_set():
                return []
            fresh = [upload for upload in self._waiting if not upload.attempts]
            batch = fresh or self._waiting
            self._waiting = [it for it in self._waiting if it not in batch]
            self._busy = list(batch)
            return batch

    def _is_to_go_on(self) -> bool:
        has_new = any(not upload.attempts for upload in self._waiting)
        return has_new or self._stopped.is_set()

    def _upload(self, repo: Repo, remotes: dict, batch: list[_Upload]) -> None:
        errors: dict[_Upload, str] = {}
        for name in {name for upload in batch for name in upload.objects}:
            uploads = [upload for upload in batch if name in upload.objects]
            wanted = set().union(*(upload.objects[name] for upload in uploads))
            try:
                if name not in remotes:
                    remotes[name] = repo.cloud.get_remote(name, "push")
                failed = self._transfer(repo, remotes[name], wanted)
                text = "some files could not be copied"
            except Exception as exc:  # noqa: BLE001
                logger.debug("cannot push", exc_info=exc)
                failed, text = wanted, str(exc) or type(exc).__name__
            for upload in uploads:
                if not failed.isdisjoint(upload.objects[name]):
                    errors[upload] = text
        for upload in batch:
            error = errors.get(upload) or self._copy_entries(repo, remotes, upload)
            with self._changed:
                self._busy.remove(upload)
                if error is None:
                    self._pushed += 1
                    continue
                if not self._stopped.is_set():
                    upload.error = error
                again = upload.attempts <= len(PAUSES)
                (self._waiting if again else self._failed).append(upload)

    def _transfer(
        self, repo: Repo, remote: Any, objects: "set[HashInfo]"
    ) -> "set[HashInfo]":
        """Copy objects from the cache to a remote; return those that are not there."""
        caches = by_hash_name(repo.cache, "legacy", "local")
        odbs = by_hash_name(remote, "legacy_odb", "odb")
        failed: set[HashInfo] = set()
        for name, cache in caches.items():
            own = {oid for oid in objects if oid.name == name}
            if not own:
                continue
            files = {}
            for oid in own:
                try:
                    files[oid] = with_files(cache, oid)
                except (FileNotFoundError, ObjectFormatError):
                    failed.add(oid)
            stop = Stop(self._stopped.is_set)
            wanted = set().union(*files.values())
            failed |= copy_objects(cache, odbs[name], wanted, stop, uploads=True)
            # NOTE: of a folder, DVC leaves out the list if it lacks a file
            lacking = [oid for oid in files if not failed.isdisjoint(files[oid])]
            failed.update(lacking)
        return failed

    def _copy_entries(
        self, repo: Repo, remotes: dict, upload: _Upload
    ) -> Optional[str]:
        """Copy what the run cache has of a stage; return what is wrong."""
        try:
            if upload.entries is None or not os.path.isdir(upload.entries):
                return None
            if None not in remotes:
                if not repo.config["core"].get("remote"):
                    return None
                remotes[None] = repo.cloud.get_remote(None, "push")
            remote = remotes[None]
            if remote.fs.protocol in ("http", "https"):
                return None  # DVC has no run cache there
            odb = getattr(remote, "legacy_odb", remote.odb)
            *_, short, key = upload.entries.split(os.sep)
            folder = f"{odb.path}/runs/{short}/{key}"
            for name in os.listdir(upload.entries):
                target = f"{folder}/{name}"
                if not odb.fs.exists(target):
                    source = os.path.join(upload.entries, name)
                    odb.fs.makedirs(folder, exist_ok=True)
                    generic.copy(repo.fs, source, odb.fs, target)
        except Exception as exc:  # noqa: BLE001
            logger.debug("cannot push", exc_info=exc)
            return f"run cache: {exc}"
        return None


def _pushable(stage: "Stage") -> "list[Output]":
    """The outputs of a stage that ``dvc push`` uploads."""
    if stage.is_repo_import:
        return []
    return [
        out
        for out in stage.outs
        if out.use_cache and out.can_push and out.fs.protocol == "local"
    ]
