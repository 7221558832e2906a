"""Work that needs a folder on the worker."""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed import get_worker
from dvc.exceptions import DvcException

from dvc_parallel.engine import remote_runner
from dvc_parallel.engine.runner import Output, Runner

NAME = "dvc-parallel"


@dataclass(frozen=True)
class InFolder:
    """Does some work with a folder beside those that Dask makes and removes.

    So it stays when the worker ends, for the next one with the same
    ``--local-directory``.
    """

    work: remote_runner.Work

    def __call__(self, output: Output, runner: Runner) -> Any:
        # NOTE: <local directory>/dask-scratch-space/<of this worker>
        scratch = get_worker().local_directory
        name = f"{NAME}-{os.getuid()}"
        folder = os.path.join(os.path.dirname(os.path.dirname(scratch)), name)
        have_alone(folder)
        return self.work(folder, output, runner)


def have_alone(folder: str) -> None:
    """Make a folder, or see that nobody else can have put anything into it.

    By default it is in /tmp, and git runs what the config of a clone says.

    Raises:
        DvcException: somebody else can.
    """
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not own or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DvcException(
            f"'{folder}' on the worker has to be a folder that its user alone can "
            "write to; remove it, or give workers a --local-directory of their own"
        )
