"""What a worker with clones is given: a stage to be run, by the DVC that it has."""

from typing import TYPE_CHECKING

from dvc_parallel.clones.messages import Request, Result, WorkerError

from . import seams

if TYPE_CHECKING:
    from dvc_parallel.runners import Output, Runner


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
