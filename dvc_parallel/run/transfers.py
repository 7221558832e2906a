"""Data that is copied into the cache, and between it and remotes.

DVC looks which objects the cache lacks, and then puts them there: two jobs whose
outputs have the same content would both put the same object, and one can find what the
other has half written.  So the second waits, and then finds it whole.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any, Callable

from dvc_data.hashfile.db import get_index
from dvc_data.hashfile.transfer import transfer
from fsspec.callbacks import Callback, NoOpCallback  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.hash_info import HashInfo

# Seconds for a file that is on its way, after Ctrl-C or at the end of a run.
GRACE = 2.0

# NOTE: older releases of dvc-data have none, or one of dvc-objects' own
_CALLBACK = signature(transfer).parameters.get("callback")
_CAN_STOP = _CALLBACK is not None and type(_CALLBACK.default) is NoOpCallback


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


class Stop(Callback):
    """Ends a transfer with the next file or piece of one, when that is asked for.

    With older releases of dvc-data, it ends with the last file.
    """

    def __init__(self, is_asked_for: Callable[[], bool]):
        super().__init__()
        self._is_asked_for = is_asked_for

    def relative_update(self, inc: int = 1) -> None:  # noqa: ARG002
        if self._is_asked_for():
            raise InterruptedError

    absolute_update = relative_update

    def branched(self, *_args: Any, **_kwargs: Any) -> "Stop":
        self.relative_update()
        return self


def copy_objects(
    cache: "HashFileDB",
    remote: "HashFileDB",
    objects: "set[HashInfo]",
    stop: Stop,
    *,
    uploads: bool,
) -> "set[HashInfo]":
    """Copy objects between a cache and a remote.

    Args:
        uploads: whether that is to the remote, or from there.

    Returns:
        set: those that could not be copied, or that neither of them has.
    """
    failed: set[HashInfo] = set()

    def note(status: Any) -> None:
        failed.update(status.missing)

    kwargs: dict[str, Any] = {"callback": stop} if _CAN_STOP else {}
    index = get_index(remote)
    kwargs["dest_index" if uploads else "src_index"] = index
    try:
        result = transfer(
            *((cache, remote) if uploads else (remote, cache)),
            objects,
            verify=not uploads and remote.verify,
            cache_odb=cache,
            validate_status=note,
            **kwargs,
        )
    finally:
        # NOTE: in older releases, it closes with the last reference
        getattr(index, "close", lambda: None)()
    return failed | result.failed
