"""What this process may use of its machine, and what its cgroups tell.

Formats: Linux kernel documentation, admin-guide/cgroup-v2.rst ("cpu.max", "memory.max",
"memory.events"), scheduler/sched-bwc.rst ("cpu.cfs_quota_us"), and
admin-guide/cgroup-v1/memory.rst ("memory.limit_in_bytes", "memory.oom_control").
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Optional

import psutil


def available_cpus() -> int:
    """CPUs that this process may use: affinity and cgroup limits included."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = _cgroup_cpus()
    return max(1, min(cpus, int(quota)) if quota else cpus)


def available_memory(root: str = "/") -> int:
    """Bytes of memory that this process may use: cgroup limits included."""
    limits = [psutil.virtual_memory().total]
    for folder, is_v2 in _cgroups("memory", root):
        name = "memory.max" if is_v2 else "memory.limit_in_bytes"
        with suppress(ValueError):  # "max", or no such file
            limits.append(int(_read(os.path.join(folder, name)) or ""))
    return min(limits)


def oom_kills(root: str = "/") -> Optional[int]:
    """How many processes the kernel has killed as memory ran out; None if not known.

    Those of this process's cgroup, in which its children are as well, or else of all of
    the machine.
    """
    paths = [os.path.join(root, "proc/vmstat")]
    for folder, is_v2 in _cgroups("memory", root):
        name = "memory.events" if is_v2 else "memory.oom_control"
        paths.append(os.path.join(folder, name))
    # NOTE: a container may not see all of the way to its cgroup
    for path in reversed(paths):
        for line in (_read(path) or "").splitlines():
            key, _, count = line.partition(" ")
            if key == "oom_kill" and count.isdecimal():
                return int(count)
    return None


def _cgroup_cpus(root: str = "/") -> Optional[float]:
    """Tightest CPU quota on the way from this process's cgroup to the root."""
    quotas = [
        _quota_v2(folder) if is_v2 else _quota_v1(folder)
        for folder, is_v2 in _cgroups("cpu", root)
    ]
    return min((quota for quota in quotas if quota), default=None)


def _cgroups(controller: str, root: str) -> Iterator[tuple[str, bool]]:
    """Folders from the root of cgroups to that of this process, and if it is of v2."""
    mount = os.path.join(root, "sys/fs/cgroup")
    for line in (_read(os.path.join(root, "proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder = mount
        elif controller in controllers.split(","):
            folder = os.path.join(mount, controllers)
        else:
            continue
        yield folder, not controllers
        for name in path.strip("/").split("/"):
            folder = os.path.join(folder, name)
            yield folder, not controllers


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
