"""File descriptors for many commands at a time.

Systems let a process have 1,024 by default, for the sake of programs that ask
``select`` about them, and more if it says so.  This one asks ``poll``.
"""

import logging

# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")

# What a job needs at most: two pipes, a pidfd, its log, the databases that its thread
# has open, files that it reads and writes.  And what a run needs besides.
PER_JOB = 8
OTHERS = 128


def make_room(jobs: int) -> int:
    """Raise the limit of this process as far as so many jobs need it.

    Commands inherit it.

    Returns:
        int: how many jobs there is room for, at least 1.
    """
    try:
        import resource
    except ImportError:  # not on Windows, where there is no such limit
        return jobs

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = jobs * PER_JOB + OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return jobs
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):  # macOS has another limit besides
        limit = soft
    if limit >= needed:
        return jobs
    room = max(1, (limit - OTHERS) // PER_JOB)
    logger.warning(
        "%d jobs instead of %d, as this process may have %d files open (ulimit -n)",
        room,
        jobs,
        limit,
    )
    return room
