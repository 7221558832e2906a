"""Hashing and copying large data without keeping the repo from other stages.

A stage that saves an output of 50 GB would own the repo for minutes; nothing
else could start.  So it gives the repo away for as long as DVC reads or copies
data that takes a while.  Small data is not worth the change of owners.

As the repo lock is free meanwhile, another process can run ``dvc gc`` and remove
objects from the cache that no dvc.lock refers to yet.  Where that may have
happened, the outputs are committed once more before they are recorded.

Each function stands in for one of DVC's, which it gets as ``original``.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.dependency import Dependency
from dvc.exceptions import DvcException
from dvc.utils import relpath
from dvc_data.hashfile import checkout as dvc_checkout
from dvc_data.hashfile import load
from dvc_data.hashfile.obj import HashFile

from dvc_parallel.caches import plain_files
from dvc_parallel.caches.bookkeeping import current_books
from dvc_parallel.caches.damaged import remove_damaged
from dvc_parallel.engine.durable import write_out

from .stage_run import current_stage_run

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.stage import Stage
    from dvc.stage.cache import StageCache
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    from dvc_parallel.caches.bookkeeping import Bookkeeping
    from dvc_parallel.caches.hashes import KnownHashes
    from dvc_parallel.caches.path_facts import LinkTypes

# What takes longer than a change of owners: 8 MiB are hashed in some 10 ms.
LARGE_SIZE = 8 * 2**20
MANY_FILES = 200

_local = threading.local()


def is_large(path: str) -> bool:
    """Whether reading the file or folder takes a while.

    Looks at ``MANY_FILES`` files at most.
    """
    size = files = 0
    folders = [path]
    try:
        if not os.path.isdir(path):
            return os.path.getsize(path) >= LARGE_SIZE
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        size += entry.stat().st_size
                    files += 1
                    if files >= MANY_FILES or size >= LARGE_SIZE:
                        return True
    except OSError:
        # NOTE: DVC's own code runs into the same error, and says so
        return False
    return False


def hash_meta(original: Callable, out: "Output") -> tuple:
    """``Output._get_hash_meta``: what a file or folder in the workspace is."""
    books = current_books()
    return (books and _find(books, out)) or original(out)


def _find(books: "Bookkeeping", out: "Output") -> "Optional[tuple[Meta, HashInfo]]":
    if out.fs.protocol != "local":
        return None
    odb = _odb_of(out)
    return books.known_hashes.find(odb, out.fs_path, out.fs, out.hash_name)


def _odb_of(out: "Output") -> "HashFileDB":
    # NOTE: what they know of files in the workspace is the same for all
    return out.cache if out.use_cache else out.repo.cache.local


def save_dependency(original: Callable, dep: "Dependency") -> None:
    """``Dependency.save``: take note of what a file is.

    DVC does so three times for a stage that runs.  A file whose hash is known is a
    regular one which is there, so what remains is whether it is empty.
    """
    books = current_books()
    if books is not None and type(dep) is Dependency and dep.fs.protocol == "local":
        # NOTE: DVC hashes a file as ever if it is recorded so
        name = dep.hash_name if dep.hash_info else "md5"
        odb = _odb_of(dep)
        found = books.known_hashes.find(odb, dep.fs_path, dep.fs, name)
        if name == "md5" and found is not None and found[0].size:
            dep.meta, dep.hash_info = found
            dep.hash_name = name
            dep.obj = HashFile(dep.fs_path, dep.fs, dep.hash_info)
            dep.files = None
            return
    original(dep)


def build(original: Callable, out: "Output", odb, path, fs, *args, **kwargs):
    """``Output._build``: hash a file or folder."""
    books = current_books()
    if books is None:
        return original(out, odb, path, fs, *args, **kwargs)
    stage_run = current_stage_run()
    if stage_run is not None and not kwargs.get("dry_run"):
        stage_run.data_is_large = fs.protocol == "local" and is_large(path)
    hash_it = partial(_build, partial(original, out), out, books.known_hashes)
    return books.known_hashes.build(hash_it, odb, path, fs, *args, **kwargs)


def _build(
    original: Callable,
    out: "Output",
    known: "KnownHashes",
    odb,
    path,
    fs,
    *args,
    **kwargs,
):
    stage_run = current_stage_run()
    is_folder = fs.protocol == "local" and os.path.isdir(path)
    if stage_run is None or fs.protocol != "local":
        look = known.build_folder if is_folder else plain_files.build
        return look(original, odb, path, fs, *args, **kwargs)

    large = is_large(path)
    if large and not is_folder:
        # a file whose hash is known takes no time
        large = odb.state.get(path, fs)[1] is None
    job, reads, name = stage_run.job, stage_run.reads, stage_run.name
    # NOTE: a file that a stage has made is its own; what changes it is an error
    may_move = is_folder or kwargs.get("dry_run")
    if not large and not is_folder:
        original = partial(plain_files.build, original)
    hash_it = original
    if may_move and (large or reads.others(name)):

        def hash_it(odb, path, fs, *args, **kwargs):
            build = partial(original, odb, path, fs, *args, **kwargs)
            pause = time.sleep if large else job.pause
            return reads.build(build, fs, path, kwargs.get("ignore"), pause)

    if not is_folder:
        with job.away_if(large):
            return hash_it(odb, path, fs, *args, **kwargs)
    with job.away_if(large), known.turn(path) if large else nullcontext():
        result = known.build_folder(hash_it, odb, path, fs, *args, **kwargs)
    if kwargs.get("dry_run"):
        files = [key for key, _, _ in result[2]] if result[2].hash_info.isdir else []
        reads.watch(path, str(out or relpath(path)), name, files)
    return result


def transfer(original: Callable, src, dest, obj_ids, *args, **kwargs):
    """``otransfer`` in ``dvc.output``: copy what was just hashed into the cache."""
    books = current_books()
    if books is not None and dest.fs.protocol == "local":
        stage_run = current_stage_run()
        is_small = stage_run is None or not stage_run.data_is_large
        original = partial(_copy, original, books.link_types if is_small else None)
    result = _transfer(original, src, dest, obj_ids, *args, **kwargs)
    if books is not None:
        books.written.add(dest.path)
    if not result.failed:
        _put().update(obj_ids)
    return result


def _put() -> set[Any]:
    """Hashes of what the calling thread has put into the cache for a stage."""
    return vars(_local).setdefault("put", set())


def _transfer(original: Callable, src, dest, obj_ids, *args, **kwargs):
    stage_run = current_stage_run()
    if stage_run is None:
        return original(src, dest, obj_ids, *args, **kwargs)
    job, transfers = stage_run.job, stage_run.transfers

    def copy():
        with transfers.of(_oids(src, obj_ids)):
            return original(src, dest, obj_ids, *args, **kwargs)

    before = job.intrusions
    with job.away_if(
        stage_run.data_is_large or not transfers.free(_oids(src, obj_ids))
    ):
        result = copy()
    if job.intrusions != before:
        # what is missing now, is copied again
        result = copy()
    return result


def _copy(
    original: Callable,
    links: "Optional[LinkTypes]",
    src,
    dest,
    obj_ids,
    *args,
    **kwargs,
):
    """Have what is in the cache then whole, and on the disk."""
    oids = _oids(src, obj_ids)
    for oid in oids:
        if os.path.isfile(dest.oid_to_path(oid)):
            remove_damaged(dest, oid, _size(src, oid))
    result = None
    if links is not None and not kwargs.get("hardlink"):
        result = plain_files.transfer(links, src, dest, obj_ids)
    if result is None:
        result = original(src, dest, obj_ids, *args, **kwargs)
    # NOTE: also what was there, as another stage may just have put it there
    write_out(map(dest.oid_to_path, oids))
    return result


def _size(src, oid: str) -> Optional[int]:
    """Size of what is about to be put into the cache."""
    obj = src.get(oid)
    try:
        return obj.fs.size(obj.path)
    except FileNotFoundError:
        return None  # DVC tells what is missing


def _oids(src, hash_infos: Iterable) -> set[str]:
    """The objects that DVC copies: folders with what is in them."""
    oids = set()
    for hash_info in hash_infos:
        oids.add(hash_info.value)
        if hash_info.isdir:
            with suppress(FileNotFoundError):  # DVC tells what is missing
                tree: Any = load(src, hash_info)
                oids.update(entry.value for _, _, entry in tree)
    return oids


def checkout(original: Callable, out: "Output", *args, **kwargs):
    """``Output._checkout``: copy or link from the cache."""
    stage_run, meta = current_stage_run(), out.meta
    large = (meta.size or 0) >= LARGE_SIZE or (meta.nfiles or 0) >= MANY_FILES
    if stage_run is None:
        return original(out, *args, **kwargs)

    # NOTE: the owner's ignore rules, before it is no longer the owner
    kwargs.setdefault("ignore", out.dvcignore)
    # NOTE: to link what was just saved takes no time
    with stage_run.job.away_if(large and not kwargs.get("relink")):
        return original(out, *args, **kwargs)


def checkout_object(original: Callable, *args, **kwargs):
    """``dvc.output.checkout``: what there is a short way for takes that.

    It stands for the function of dvc_data; what others have put there is called.
    """
    is_known = current_books() is not None and original is dvc_checkout.checkout
    leave = partial(plain_files.leave, dvc_checkout.test_links)
    if is_known and leave(*args, **kwargs):
        return False
    return original(*args, **kwargs)


def save_outs(original: Callable, stage: "Stage", *args, **kwargs) -> None:
    """``Stage.save_outs``: hash outputs, before any goes into a cache."""
    original(stage, *args, **kwargs)
    stage_run = current_stage_run()
    if stage_run is not None:
        stage_run.outputs_hashed()


def commit(original: Callable, stage: "Stage", *args, **kwargs) -> None:
    """``Stage.commit``: put the outputs into the cache.

    Where an object cannot be put there, DVC logs an error and goes on.  It notices when
    it has to link or copy the output from the cache, but not for files that stay as
    they are, nor for the list of a folder.

    Raises:
        DvcException: an output is not in the cache, or has changed meanwhile.
    """
    _put().clear()
    if books := current_books():
        while books.damaged:
            _, (odb, oid) = books.damaged.popitem()
            with suppress(PermissionError):  # it has been told, and is not used
                remove_damaged(odb, oid)
    _commit(original, stage, *args, **kwargs)
    for out in stage.outs:
        # NOTE: with `allow_missing`, there may be nothing to put
        if not out.use_cache or not out.hash_info or out.hash_info in _put():
            continue
        if out.exists and out.changed_cache():
            raise DvcException(
                f"output '{out}' of {stage} is not in the cache as recorded: it could "
                "not be copied there (see the error above), or it changed while it "
                "was being saved"
            )


def _commit(original: Callable, stage: "Stage", *args, **kwargs) -> None:
    original(stage, *args, **kwargs)
    stage_run = current_stage_run()
    if stage_run is None or not stage_run.disturbed:
        return

    with stage_run.job.pinned():
        for out in stage.outs:
            if out.hash_info and out.exists and out.changed_checksum():
                raise DvcException(
                    f"output '{out}' of {stage} was changed by another process "
                    "while it was being saved"
                )
        _put().clear()
        original(stage, *args, **kwargs)


@contextmanager
def copy_links(original: Callable, stage_cache: "StageCache") -> Iterator[None]:
    """``StageCache._cache_type_copy``: changes the repo's cache for a moment."""
    stage_run = current_stage_run()
    if stage_run is None:
        with original(stage_cache):
            yield
        return
    with stage_run.job.pinned(), original(stage_cache):
        yield
