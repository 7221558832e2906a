"""What stages ask Slurm for: ``meta.parallel.slurm``, and what holds for all of them.

``core.parallel_slurm`` or ``DVC_PARALLEL_SLURM`` is a text such as
``partition=gpu time=2:00:00 mem=16G``; a stage has a mapping of the same keys, which
wins.  dvc.yaml comes with a clone: nothing but these keys, with values of these forms,
gets to ``sbatch``, each as one argument ``--key=value``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dvc_parallel.engine.settings import checked, lookup

ENV = "DVC_PARALLEL_SLURM"
CONFIG_OPTION = "parallel_slurm"

_NAMES = r"[\w.@+-]+(,[\w.@+-]+)*"
_NODES = r"[\w.,\[\]-]+"
_THINGS = r"[\w.:,()*=/@-]+"
_TIME = r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}"

# By key: the option of sbatch, the form of its values, and what errors expect.
_OPTIONS = {
    "partition": ("partition", _NAMES, "a name, or several as in 'gpu,long'"),
    "time": ("time", _TIME, "minutes, or a time such as '2:00:00' or '1-12'"),
    "mem": ("mem", r"\d+[KMGT]?", "a size such as '16G'"),
    "cpus": ("cpus-per-task", r"[1-9]\d*", "a positive integer"),
    "gpus": ("gpus", r"[\w.:,-]+", "a number, or a type as in 'a100:2'"),
    "gres": ("gres", _THINGS, "resources as in 'gpu:a100:1'"),
    "licenses": ("licenses", _THINGS, "licenses as in 'matlab:1'"),
    "account": ("account", _NAMES, "a name"),
    "qos": ("qos", _NAMES, "a name"),
    "reservation": ("reservation", _NAMES, "a name"),
    "constraint": ("constraint", r"[\w.&|*()\[\]!:,+-]+", "features as in 'ssd&avx'"),
    "nodelist": ("nodelist", _NODES, "nodes as in 'n[1-4]'"),
    "exclude": ("exclude", _NODES, "nodes as in 'n[1-4]'"),
}


def read_mapping(values: Any) -> dict[str, str]:
    """Check the keys and values of a stage.

    Raises:
        ValueError: says what would be right.
    """
    if not isinstance(values, Mapping):
        expected = "a mapping such as {partition: gpu, time: 2:00:00}"
        raise ValueError(expected)  # noqa: TRY004
    return _read(values.items())


def parse_slurm(text: str) -> dict[str, str]:
    """Check the text that holds for all stages.

    Raises:
        ValueError: names the part that is wrong.
    """
    parts = [part.partition("=") for part in text.split()]
    try:
        return _read((key, value) for key, _, value in parts)
    except ValueError as exc:
        raise ValueError(f"expected {exc}, got '{text}'") from None


def defaults(config: Mapping[str, Any]) -> dict[str, str]:
    """What holds for all stages.

    Raises:
        InvalidArgumentError: names the setting, and what is wrong in it.
    """
    name, text = lookup(CONFIG_OPTION, ENV, config)
    return checked(name, parse_slurm, text or "")


def _read(items: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    read: dict[str, str] = {}
    for key, value in items:
        if key not in _OPTIONS:
            raise ValueError(f"any of {', '.join(_OPTIONS)}, not {key!r}")
        if key in read:
            raise ValueError(f"'{key}' only once")
        _, form, expected = _OPTIONS[key]
        is_plain = isinstance(value, (str, int)) and not isinstance(value, bool)
        if not is_plain or not re.fullmatch(form, str(value), re.ASCII):
            raise ValueError(f"for '{key}' {expected}, not {value!r}")
        read[key] = str(value)
    return read


def arguments(requests: Mapping[str, str]) -> list[str]:
    """The arguments for ``sbatch``."""
    return [f"--{_OPTIONS[key][0]}={value}" for key, value in requests.items()]
