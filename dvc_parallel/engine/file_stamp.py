"""Telling whether a file has changed since it was read."""

import os
import time
from typing import Optional

# Nanoseconds that a file must have been left alone. One that is written again in the
# same tick of the clock, as long as before, looks the same.
SETTLED = 100_000_000

Signature = tuple[int, int, int, int]


def signature_of(path: str) -> Optional[Signature]:
    """Values that differ once a file has been replaced or written to; None without one.

    Raises:
        OSError: it cannot be told whether there is one.
    """
    try:
        stat = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def is_settled(signature: Signature) -> bool:
    """Whether any change after a signature was taken shows in the next one.

    To be asked right after it was taken.
    """
    return time.time_ns() - max(signature[2:]) > SETTLED
