"""What ``auto`` stands for among pools: what this process may use of its machine.

``mem`` is in GiB, ``cpu`` counts CPUs, both with the limits of cgroups; ``gpu`` has the
names of the GPUs that ``nvidia-smi`` lists, or of their MIG devices.

``CUDA_VISIBLE_DEVICES`` says which of them programs see, and has the last word.
``NVIDIA_VISIBLE_DEVICES`` says which ones a container has: there, they are the only
ones listed, and have other numbers.

Formats: NVIDIA, "nvidia-smi -L"; CUDA C++ Programming Guide, "CUDA Environment
Variables"; NVIDIA Container Toolkit, "Environment variables (OCI spec)"; MIG User
Guide, "CUDA_VISIBLE_DEVICES".
"""

import os
import re
import subprocess
from typing import Callable, Optional

from dvc_parallel.engine import logger
from dvc_parallel.engine.machine import available_cpus, available_memory

from .pools import CUDA, GPU, Size

MEM, CPU = "mem", "cpu"
GIB = 2**30
NVIDIA = "NVIDIA_VISIBLE_DEVICES"

# Seconds in which a driver that is not stuck has answered.
PATIENCE = 60.0
_LISTED = re.compile(r"^(?:GPU (\d+)|  MIG ).*\(UUID: ([^)]+)\)$", re.MULTILINE)


def machine_sizes(takes_gpu: Callable[[], bool] = lambda: True) -> dict[str, Size]:
    """The pools of this machine.

    Args:
        takes_gpu: whether it is worth the time to ask for GPUs.
    """
    memory = max(1, available_memory() // GIB)
    sizes = {MEM: Size(memory), CPU: Size(available_cpus())}
    if takes_gpu() and (names := gpus()) is not None:
        sizes[GPU] = Size(len(names), names)
    return sizes


def gpus() -> Optional[tuple[str, ...]]:
    """Names of the GPUs that programs see; None where there is nobody to tell."""
    if CUDA in os.environ:
        return _visible(os.environ[CUDA])
    granted = os.environ.get(NVIDIA)
    if granted is not None and granted.strip() in ("", "none", "void"):
        return ()
    listed = _listed()
    if listed is None:
        return None
    if not granted:
        return tuple(listed)
    chosen = granted.split(",")
    names = {name: name for name in listed}
    names.update({uuid: name for name, uuid in listed.items()})
    # NOTE: those of a container go by the numbers that they have outside
    if all(name in names for name in chosen):
        return tuple(dict.fromkeys(names[name] for name in chosen))
    return tuple(listed)


def _visible(text: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for name in text.replace(" ", "").split(","):
        # NOTE: CUDA stops at the first one that there is not
        if not re.fullmatch(r"\d+|(?:GPU|MIG)-[\w/-]+", name):
            break
        names[name] = None
    return tuple(names)


def _listed() -> Optional[dict[str, str]]:
    """Names and UUIDs of GPUs, or of the MIG devices of those that have some."""
    try:
        text = subprocess.run(
            ["nvidia-smi", "-L"],  # noqa: S607
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        ).stdout
    except FileNotFoundError:
        return None
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        logger.warning("cannot tell which GPUs there are: %s", exc)
        return None
    found: dict[str, str] = {}
    parent = ""
    for index, uuid in _LISTED.findall(text):
        if index:
            parent = index
            found[index] = uuid
        else:
            found.pop(parent, None)
            found[uuid] = uuid
    return found
