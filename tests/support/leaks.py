"""What a test must not leave behind: descriptors, threads, and child processes."""

import gc
import os
import sys
import threading
import time
from contextlib import suppress

import psutil

# Seconds until what is on its way to its end has to have come there.
PATIENCE = 60.0
PAUSE = 0.05
# Threads that are there for the rest of the process once they are needed: of tqdm, of
# fsspec, of xdist, of the pool that dvc-objects has for each file system.
LASTING_THREADS = ("TMonitor", "fsspecIO", "execnet", "ThreadPoolExecutor")
# Processes likewise: those of multiprocessing.
LASTING_CHILDREN = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")


def held() -> dict[str, set]:
    """What this process has."""
    return {
        "descriptors": set(_descriptors()),
        "threads": {thread for thread in threading.enumerate() if not _lasts(thread)},
        "child processes": set(_children()),
    }


def _descriptors():
    if sys.platform != "linux":
        return
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            yield int(fd), os.readlink(f"/proc/self/fd/{fd}")


def _lasts(thread) -> bool:
    name = f"{type(thread).__name__} {thread.name}"
    return any(part in name for part in LASTING_THREADS)


def _children():
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            if not any(part in command for part in LASTING_CHILDREN):
                yield child


def leaked(before: dict[str, set]) -> dict[str, set]:
    """What there is more than before; waits for what is just ending."""
    end = time.monotonic() + PATIENCE
    while True:
        more = {kind: now - before[kind] for kind, now in held().items()}
        more = {kind: things for kind, things in more.items() if things}
        if not more or time.monotonic() > end:
            return more
        # NOTE: what is left to the garbage collector is not lost
        gc.collect()
        time.sleep(PAUSE)
