"""The run cache: a folder of it is never there without its entry, nor half of one.

DVC makes the folder first, then a file in it under another name.  If it is killed in
between, every later `dvc repro` fails at the stage: DVC looks for the newest entry of
the folder, and finds none.
"""

import os
import shutil
from copy import copy
from typing import TYPE_CHECKING, Any, Callable

from dvc.stage import cache as stage_cache
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.db.local import LocalHashFileDB

from dvc_parallel.engine.atomic import temporary_name

from .bookkeeping import in_runs

if TYPE_CHECKING:
    from dvc.stage import Stage
    from dvc.stage.cache import StageCache


@in_runs
def save(books: Any, original: Callable, cache: "StageCache", stage: "Stage") -> None:
    """``StageCache.save``: save the entry of a stage.

    DVC saves it somewhere else, and what it has made is moved as a whole.
    """
    # NOTE: not in the run cache, all of which can be pushed
    parent = os.path.dirname(cache.cache_dir)
    if os.path.isdir(parent) and not os.access(parent, os.W_OK):
        # NOTE: in a cache that is shared, only what DVC writes to may be writable
        original(cache, stage)
        books.written.add(cache.cache_dir)
        return
    elsewhere: Any = copy(cache)
    # NOTE: where the entry is there already, DVC takes that, or removes a damaged one
    elsewhere._load_cache = cache._load_cache
    elsewhere.cache_dir = os.path.join(parent, temporary_name(""))
    try:
        original(elsewhere, stage)
        _move(elsewhere.cache_dir, cache.cache_dir)
        books.written.add(cache.cache_dir)
    finally:
        shutil.rmtree(elsewhere.cache_dir, ignore_errors=True)


@in_runs
def get_stage_hash(_books: Any, _original: Callable, stage: "Stage") -> str:
    """``dvc.stage.cache._get_stage_hash``: what a stage is found by.

    DVC asserts once more that it has all that this takes, having just asked for that.
    """
    return stage_cache._get_cache_hash(to_single_stage_lockfile(stage), key=True)


def dict_filter(original: Callable, data: Any, exclude: Any = ()) -> Any:
    """``dvc.utils.dict_filter``: leave out keys, for a hash of the rest."""
    return _without(data, exclude) if exclude else original(data, exclude)


def _without(data: Any, keys: Any) -> Any:
    if isinstance(data, list):
        return [it if type(it) is str else _without(it, keys) for it in data]
    if not isinstance(data, dict):
        return data
    return {
        key: it if type(it) in (str, int, bool) else _without(it, keys)
        for key, it in data.items()
        if key not in keys
    }


def move(original: Callable, odb: Any, from_path: str, to_path: str) -> None:
    """``LocalHashFileDB.move``: move an entry from beside its place."""
    if type(odb) is not LocalHashFileDB or os.path.lexists(to_path):
        original(odb, from_path, to_path)
        return
    try:
        os.rename(from_path, to_path)
    except OSError:
        original(odb, from_path, to_path)
    else:
        os.chmod(to_path, odb._file_mode)


def _move(src: str, dst: str) -> None:
    """Move a tree into another one; of what is in both, leave that of the other.

    No folder is made, as each has the permissions that DVC has given it.
    """
    if not os.path.exists(src):
        return
    if not os.path.exists(dst):
        try:
            os.rename(src, dst)
            return
        except OSError:
            # NOTE: repos may share a cache, and save the same at the same time
            if not os.path.exists(dst):
                raise
    if os.path.isdir(src):
        for name in os.listdir(src):
            _move(os.path.join(src, name), os.path.join(dst, name))
