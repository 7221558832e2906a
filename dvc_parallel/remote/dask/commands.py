"""A command as a worker gets it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Union

from dvc_parallel.engine.runner import Output, Runner

# Variables that are about a machine, or about what a batch system has given there.
OF_A_MACHINE = (
    "*_VISIBLE_DEVICES",
    "HOSTNAME",
    "LSB_*",
    "PBS_*",
    "SLURM*",
    "TMPDIR",
)


@dataclass(frozen=True)
class Command:
    """A command, to be run with the worker's runner.

    Attributes:
        args: as for :class:`subprocess.Popen`.
        env: its environment, but for what the worker knows better.
        kwargs: as for :meth:`Runner.run`.
    """

    args: Union[str, Sequence[str]]
    env: Mapping[str, str]
    kwargs: Mapping[str, Any]

    def __call__(self, output: Output, runner: Runner) -> int:
        machine = {k: v for k, v in os.environ.items() if is_of_a_machine(k)}
        return runner.run(self.args, output, env={**machine, **self.env}, **self.kwargs)


def is_of_a_machine(variable: str) -> bool:
    return any(fnmatchcase(variable, pattern) for pattern in OF_A_MACHINE)


def portable(env: Mapping[str, str]) -> dict[str, str]:
    """What a command gets of its environment on another machine.

    All of it, but for variables about this machine which are as this process has them.
    """
    return {
        name: value
        for name, value in env.items()
        if not (is_of_a_machine(name) and os.environ.get(name) == value)
    }
