"""What DVC finds out anew for every output, found out once.

Owned by the owner of the repo.
"""

import os
from bisect import bisect_left
from typing import Callable, Optional

from .signature import signature_of


class LinkTypes:
    """Which types of links work between a cache and a disk.

    DVC makes a file in the cache and links to it beside each output.
    """

    def __init__(self) -> None:
        self._known: dict[tuple, list[str]] = {}

    def test_links(
        self, original: Callable, links: list[str], from_fs, from_path, to_fs, to_path
    ) -> list[str]:
        """As :func:`dvc_objects.fs.generic.test_links`, which is ``original``."""
        try:
            disk = os.stat(to_fs.parent(to_path)).st_dev
        except OSError:  # DVC makes the folder
            return original(links, from_fs, from_path, to_fs, to_path)
        key = (*links, from_path, disk)
        if key not in self._known:
            self._known[key] = original(links, from_fs, from_path, to_fs, to_path)
        return list(self._known[key])


class TrackedPaths:
    """Which paths git tracks, for as long as its index does not change.

    DVC reads the index for each output, and goes through all of it.
    """

    def __init__(self) -> None:
        self._signature: Optional[tuple] = None
        self._paths: list[bytes] = []

    def is_tracked(self, original: Callable, backend, path: str) -> bool:
        """As ``DulwichBackend.is_tracked``, which is ``original``."""
        signature = signature_of(backend.repo.index_path())
        if signature is None:
            return original(backend, path)
        if signature != self._signature:
            self._paths = sorted(backend.repo.open_index())
            self._signature = signature

        relpath = os.path.relpath(path, backend.root_dir).replace(os.sep, "/").encode()
        folder = relpath + b"/"
        return self._next(relpath) == relpath or self._next(folder).startswith(folder)

    def _next(self, path: bytes) -> bytes:
        """The first tracked path from this one on, in the order of their bytes."""
        place = bisect_left(self._paths, path)
        return self._paths[place] if place < len(self._paths) else b""
