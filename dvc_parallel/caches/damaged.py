"""Objects in the cache that are there by name only, as after a power cut.

DVC takes an object for good that nobody may write to.  Here, its size is looked at as
well, and where that cannot be right, its hash: what is damaged is not used.
"""

import os
import threading
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_data.hashfile.hash import hash_file
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError

from dvc_parallel.engine import logger

from .bookkeeping import current_books

if TYPE_CHECKING:
    from dvc.output import Output

NOT_USED = "'%s' in the cache is damaged, perhaps by a power cut, and is not used"
REMOVED = "'%s' in the cache was damaged, perhaps by a power cut, and has been removed"

_local = threading.local()


def changed_cache(original: Callable, out: "Output", *args, **kwargs) -> bool:
    """``Output.changed_cache``: whether it is not in the cache as it was recorded."""
    _local.size = out.meta.size
    try:
        return original(out, *args, **kwargs)
    finally:
        _local.size = None


def check(original: Callable, odb: Any, obj: Any, **kwargs) -> None:
    """``ocheck`` in ``dvc.output``: see that the objects of an output are there.

    Raises:
        FileNotFoundError, ObjectFormatError: they are not, or not whole.
    """
    original(odb, obj, **kwargs)
    books = current_books()
    if books is None or odb.fs.protocol != "local":
        return
    is_folder = isinstance(obj, Tree)
    oids = [oid.value for _, _, oid in obj] if is_folder else [obj.oid]
    size = getattr(_local, "size", None)
    sizes = [os.stat(odb.oid_to_path(oid)).st_size for oid in oids]
    if sum(sizes) == size:
        return
    damaged = {
        odb.oid_to_path(oid): (odb, oid)
        for oid, found in zip(oids, sizes)
        if (size is not None or not found) and _is_damaged(odb, oid)
    }
    for path in damaged.keys() - books.damaged.keys():
        logger.warning(NOT_USED, path)
    books.damaged.update(damaged)
    if damaged:
        raise ObjectFormatError(f"{obj} is damaged")


def _is_damaged(odb: Any, oid: str) -> bool:
    # NOTE: sizes may differ where line breaks do not count
    _, found = hash_file(odb.oid_to_path(oid), odb.fs, odb.hash_name)
    return found.value != oid.partition(".")[0]


def remove_damaged(odb: Any, oid: str, size: Optional[int] = None) -> None:
    """Remove an object if it is there and damaged.

    Args:
        odb: the cache.
        oid: the object.
        size: that it should have, if that is known.

    Raises:
        OSError: it cannot be removed.
    """
    path = odb.oid_to_path(oid)
    try:
        if os.stat(path).st_size != size and _is_damaged(odb, oid):
            os.unlink(path)
            logger.warning(REMOVED, path)
    except FileNotFoundError:
        pass
