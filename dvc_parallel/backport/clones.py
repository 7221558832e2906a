"""What a worker with clones is given: a stage to be run, by the DVC that it has."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dvc_parallel.clones.messages import Request, Result, WorkerError

from . import seams

if TYPE_CHECKING:
    from dvc_parallel.clones.elsewhere import Carrier
    from dvc_parallel.fast_executor import FastJob
    from dvc_parallel.runners import Output, Runner
    from dvc_parallel.runners.remote import RemoteRunner


def perform(
    request: Request, folder: str, output: "Output", runner: "Runner"
) -> Result:
    """As :func:`dvc_parallel.clones.worker.perform`.

    Raises:
        WorkerError: this DVC is not as its release was, besides.
    """
    from dvc_parallel.clones.worker import perform as perform_here

    for misfit in seams.misfits(seams.IN_CLONES):
        raise WorkerError(f"cannot run stages for others: {misfit}")
    with seams.installed(seams.IN_CLONES):
        return perform_here(request, folder, output, runner)


@dataclass(frozen=True)
class _Performance:
    request: Request

    def __call__(self, folder: str, output: "Output", runner: "Runner") -> Result:
        return perform(self.request, folder, output, runner)


def carrier(runner: "RemoteRunner") -> "Carrier":
    """Has the workers of a runner perform requests."""

    def carry(request: Request, output: "Output", job: "FastJob") -> Result:
        place = job.run.provision.place(job.rank)
        work = _Performance(request)
        return runner.perform(work, output, place, partial(setattr, job, "worker"))

    return carry
