"""The run cache: a folder of it is never there without its entry, nor half of one.

DVC makes the folder first, then a file in it under another name.  If it is killed in
between, every later `dvc repro` fails at the stage: DVC looks for the newest entry of
the folder, and finds none.
"""

import os
import re
import shutil
from copy import copy
from typing import TYPE_CHECKING, Any, Callable

import shortuuid
from dvc.stage import cache as stage_cache
from dvc.stage.serialize import to_single_stage_lockfile

from .bookkeeping import in_runs

if TYPE_CHECKING:
    from dvc.stage import Stage
    from dvc.stage.cache import StageCache

# Of what a dependency has in an entry
_TYPES = {"path": str, "hash": str, "md5": str, "size": int, "isexec": bool}
_MD5 = re.compile("[0-9a-f]{32}")


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
    elsewhere.cache_dir = os.path.join(parent, f".{shortuuid.uuid()}.tmp")
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


def check_entry(original: Callable, entry: Any) -> Any:
    """``COMPILED_LOCK_FILE_STAGE_SCHEMA``: see that an entry is one.

    That takes long for each dependency; most have nothing but what is plainly right.
    """
    deps = entry.get("deps") if isinstance(entry, dict) else None
    if type(deps) is not list or not all(map(_is_plain, deps)):
        return original(entry)
    return {**original({**entry, "deps": []}), "deps": deps}


def _is_plain(dep: Any) -> bool:
    if type(dep) is not dict or not dep.get("path") or not dep.get("md5"):
        return False
    is_right = all(type(value) is _TYPES.get(key) for key, value in dep.items())
    return is_right and bool(_MD5.fullmatch(dep["md5"]))


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
