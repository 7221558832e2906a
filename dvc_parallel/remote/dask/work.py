"""Work for a worker: a command, or something that needs a folder."""

import os
import re
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import translate
from typing import Any

from dvc.exceptions import DvcException

from dvc_parallel.engine import remote_runner
from dvc_parallel.engine.runner import Command, Output, Runner

FOLDER = "dvc-parallel"

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
class OneCommand:
    """Runs a command with the worker's runner.

    Attributes:
        command: its environment is all but what the worker knows better.
    """

    command: Command

    def __call__(self, output: Output, runner: Runner) -> int:
        machine = {k: v for k, v in os.environ.items() if is_of_a_machine(k)}
        env = {**machine, **(self.command.env or {})}
        return runner.run(replace(self.command, env=env), output)


# NOTE: for each variable of each command, so in one step
_of_a_machine = re.compile("|".join(map(translate, OF_A_MACHINE))).match


def is_of_a_machine(variable: str) -> bool:
    return _of_a_machine(variable) is not None


def portable(env: Mapping[str, str]) -> dict[str, str]:
    """The part of its environment that a command gets on another machine.

    All of it, but for variables about this machine which are as this process has them.
    """
    return {
        name: value
        for name, value in env.items()
        if not (is_of_a_machine(name) and os.environ.get(name) == value)
    }


@dataclass(frozen=True)
class InFolder:
    """Does some work with a folder beside those that Dask makes and removes.

    So it stays when the worker ends, for the next one with the same
    ``--local-directory``.
    """

    work: remote_runner.Work

    def __call__(self, output: Output, runner: Runner) -> Any:
        from distributed import get_worker

        # NOTE: <local directory>/dask-scratch-space/<of this worker>
        scratch = get_worker().local_directory
        name = f"{FOLDER}-{_user_id()}"
        folder = os.path.join(os.path.dirname(os.path.dirname(scratch)), name)
        have_alone(folder)
        return self.work(folder, output, runner)


def _user_id() -> int:
    """Of who runs this; 0 on Windows, where all files are of that user."""
    if sys.platform == "win32":
        return 0
    return os.getuid()


def have_alone(folder: str) -> None:
    """Make a folder, or see that nobody else can have put anything into it.

    By default it is in /tmp, and git runs what the config of a clone says.

    Raises:
        DvcException: somebody else can.
    """
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == _user_id()
    if not own or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DvcException(
            f"'{folder}' on the worker has to be a folder that only its user can write "
            "to; remove it, or give each worker its own --local-directory"
        )
