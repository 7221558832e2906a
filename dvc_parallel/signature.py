"""Telling whether a file has changed since it was read."""

import os
from typing import Optional


def signature_of(path: str) -> Optional[tuple[int, int, int]]:
    """What differs once a file has been replaced or written to; None without one."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
