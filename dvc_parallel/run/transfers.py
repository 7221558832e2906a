"""Data that jobs copy into the cache at the same time.

DVC looks which objects the cache lacks, and then puts them there: two jobs whose
outputs have the same content would both put the same object, and one can find what the
other has half written.  So the second waits, and then finds it whole.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Transfers:
    """Which objects jobs put into the cache right now.

    Any thread may call any method at any time.
    """

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._changed = threading.Condition()

    def free(self, oids: set[str]) -> bool:
        """Whether no job puts one of the objects there at the moment."""
        with self._changed:
            return self._busy.isdisjoint(oids)

    @contextmanager
    def of(self, oids: set[str]) -> Iterator[None]:
        """Be the only one who puts the objects there; wait for others who do.

        Nobody may wait for the repo in here: its owner may be waiting to get in.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._busy.isdisjoint(oids))
            self._busy |= oids
        try:
            yield
        finally:
            with self._changed:
                self._busy -= oids
                self._changed.notify_all()
