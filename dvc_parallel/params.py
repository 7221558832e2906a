"""Params files, read and parsed once while they do not change.

DVC does it several times for each stage that has params.  Parsing YAML takes a second
for a file of a megabyte.
"""

import os
import time
from typing import Any, Callable

from .signature import signature_of

# Seconds that a file must have been left alone. One that is written again in the same
# tick of the clock looks the same.
SETTLED = 0.1


class ParamsFiles:
    """The params files of a repo.  Owned by the owner of the repo."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple, Any]] = {}

    def load_path(self, original: Callable, path: str, fs: Any, **kwargs: Any) -> Any:
        """As :func:`dvc.utils.serialize.load_path`, which is ``original``.

        What is returned must not be changed.
        """
        signature = None
        if fs.protocol == "local" and not kwargs:
            signature = signature_of(path)
        if signature is None:
            return original(path, fs, **kwargs)

        known, data = self._known.get(path, (None, None))
        if known != signature:
            self._known.pop(path, None)
            data = original(path, fs)
            age = time.time() - os.stat(path).st_mtime
            if age > SETTLED and signature_of(path) == signature:
                self._known[path] = signature, data
        return data
