"""Which stage of another machine the calling thread performs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .clone_worker import Performance

_local = threading.local()


def current_performance() -> Optional["Performance"]:
    """The performance that the calling thread belongs to, if any."""
    return getattr(_local, "performance", None)


@contextmanager
def in_this_thread(performance: "Performance") -> Iterator[None]:
    _local.performance = performance
    try:
        yield
    finally:
        _local.performance = None
