"""How many stages to run at a time."""

import sys
from argparse import ArgumentParser
from typing import Union

from . import logger
from .machine import available_cpus
from .settings import argument_type

AUTO = "auto"
CONFIG_OPTION = "parallel_jobs"


def parse_jobs(value: Union[int, str]) -> Union[int, str]:
    """Check a number of jobs as users write it.

    Returns:
        int or str: a positive number, or "auto".

    Raises:
        ValueError: it is neither; the message says so.
    """
    text = str(value).strip().lower()
    if text == AUTO:
        return AUTO
    if not isinstance(value, bool) and text.isdecimal() and int(text) > 0:
        return int(text)
    raise ValueError(f"expected a positive integer or '{AUTO}', got '{value}'")


def add_argument(parser: ArgumentParser) -> None:
    """Add ``--jobs`` to a command that runs stages."""
    parser.add_argument(
        "-j",
        "--jobs",
        type=argument_type(parse_jobs),
        help=(
            "Number of stages whose commands run at the same time, or 'auto' for the "
            "number of CPUs. The default value is 'core.parallel_jobs' of the config, "
            "or 1."
        ),
        metavar="<number>",
    )


def count_jobs(value: Union[int, str]) -> int:
    """Number of jobs that a setting stands for.

    Raises:
        ValueError: as :func:`parse_jobs`.
    """
    jobs = parse_jobs(value)
    return jobs if isinstance(jobs, int) else available_cpus()


# What a job needs at most: two pipes, a pidfd, its log, the databases that its thread
# has open, files that it reads and writes.  And what a run needs besides.
PER_JOB = 8
OTHERS = 128


def make_room(jobs: int) -> int:
    """Raise the limit of files that this process may have open, as far as jobs need it.

    Systems let a process have 1,024 by default, for the sake of programs that ask
    ``select`` about them, and more if it says so.  This one asks ``poll``.  Commands
    inherit the limit.

    Returns:
        int: how many jobs there is room for, at least 1.
    """
    if sys.platform == "win32":
        return jobs  # NOTE: there is no such limit
    import resource

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
        "-j %d instead of -j %d, as this process may open only %d files (ulimit -n)",
        room,
        jobs,
        limit,
    )
    return room
