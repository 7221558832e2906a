"""Telling whether a file has changed since it was read."""

import os
import time
from secrets import randbelow
from typing import Optional

from .durable import is_local

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


def mark_time(fd: int) -> Optional[tuple[int, int, int]]:
    """Give a file that was just written a time of change of its own.

    That time is over: nobody who writes to it from now on leaves it with the same one,
    not even in the same tick of the clock.

    Returns:
        what its signature begins with; None where others may change it without that
        being seen here at once, or where times are kept too coarsely.
    """
    stat = os.fstat(fd)
    if not is_local(stat.st_dev):
        return None
    time_ns = stat.st_mtime_ns - 1 - randbelow(1000)
    os.utime(fd, ns=(stat.st_atime_ns, time_ns))
    stat = os.fstat(fd)
    is_kept = stat.st_mtime_ns == time_ns
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns) if is_kept else None
