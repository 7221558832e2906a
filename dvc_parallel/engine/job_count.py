"""How many stages to run at a time."""

import os
import sys
from argparse import ArgumentParser
from typing import Optional, Union

from . import logger
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


def available_cpus() -> int:
    """CPUs that this process may use: affinity and cgroup limits included."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = _cgroup_cpus()
    return max(1, min(cpus, int(quota)) if quota else cpus)


def _cgroup_cpus(root: str = "/") -> Optional[float]:
    """Tightest CPU quota on the way from this process's cgroup to the root.

    Formats: Linux kernel documentation, admin-guide/cgroup-v2.rst ("cpu.max")
    and scheduler/sched-bwc.rst ("cpu.cfs_quota_us").
    """
    mount = os.path.join(root, "sys/fs/cgroup")
    quotas = []
    for line in (_read(os.path.join(root, "proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, read_quota = mount, _quota_v2
        elif "cpu" in controllers.split(","):
            folder, read_quota = os.path.join(mount, controllers), _quota_v1
        else:
            continue
        quotas.append(read_quota(folder))
        for name in path.strip("/").split("/"):
            folder = os.path.join(folder, name)
            quotas.append(read_quota(folder))
    return min((quota for quota in quotas if quota), default=None)


def _quota_v2(folder: str) -> Optional[float]:
    return _ratio((_read(os.path.join(folder, "cpu.max")) or "").split())


def _quota_v1(folder: str) -> Optional[float]:
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    return _ratio([_read(os.path.join(folder, name)) or "" for name in names])


def _ratio(values: list[str]) -> Optional[float]:
    try:
        quota, period = map(int, values)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8") as fobj:
            return fobj.read().strip()
    except OSError:
        return None


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
