"""Work that needs a folder on the worker."""

import os
from dataclasses import dataclass
from typing import Any

from distributed import get_worker

from dvc_parallel.runners import Output, Runner, remote

NAME = "dvc-parallel"


@dataclass(frozen=True)
class InFolder:
    """Does some work with a folder beside those that Dask makes and removes.

    So it stays when the worker ends, for the next one with the same
    ``--local-directory``.
    """

    work: remote.Work

    def __call__(self, output: Output, runner: Runner) -> Any:
        # NOTE: <local directory>/dask-scratch-space/<of this worker>
        scratch = os.path.dirname(get_worker().local_directory)
        folder = os.path.join(os.path.dirname(scratch), NAME)
        return self.work(folder, output, runner)
