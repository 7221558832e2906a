"""The run cache: a folder of it is never there without its entry, nor half of one.

DVC makes the folder first, then a file in it under another name.  If it is killed in
between, every later `dvc repro` fails at the stage: DVC looks for the newest entry of
the folder, and finds none.
"""

import os
import shutil
from copy import copy
from typing import TYPE_CHECKING, Any, Callable

import shortuuid

from .stand_ins import in_runs

if TYPE_CHECKING:
    from dvc.stage import Stage
    from dvc.stage.cache import StageCache


@in_runs
def save(_books: Any, original: Callable, cache: "StageCache", stage: "Stage") -> None:
    """``StageCache.save``: save the entry of a stage.

    DVC saves it somewhere else, and what it has made is moved as a whole.
    """
    elsewhere = copy(cache)
    # NOTE: not in the run cache, all of which can be pushed
    parent = os.path.dirname(cache.cache_dir)
    elsewhere.cache_dir = os.path.join(parent, f".{shortuuid.uuid()}.tmp")
    try:
        original(elsewhere, stage)
        _move(elsewhere.cache_dir, cache.cache_dir)
    finally:
        shutil.rmtree(elsewhere.cache_dir, ignore_errors=True)


def _move(src: str, dst: str) -> None:
    """Move a tree into another one; of what is in both, leave that of the other."""
    if not os.path.exists(src):
        return
    os.makedirs(dst, exist_ok=True)
    for entry in os.scandir(src):
        target = os.path.join(dst, entry.name)
        if not os.path.exists(target):
            try:
                os.rename(entry.path, target)
            except OSError:
                # NOTE: repos may share a cache, and save the same at the same time
                if not os.path.exists(target):
                    raise
        elif entry.is_dir():
            _move(entry.path, target)
