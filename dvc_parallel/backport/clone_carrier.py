"""The carrier of requests to workers, whose DVC runs the stage in a clone."""

from functools import partial
from typing import TYPE_CHECKING

from dvc_parallel.remote.clones.requests import Request, Result

from . import seams

if TYPE_CHECKING:
    from dvc_parallel.engine.remote_runner import RemoteRunner
    from dvc_parallel.engine.runner import Output, Runner
    from dvc_parallel.run.stage_run import Carrier, StageRun


def perform(
    request: Request, folder: str, output: "Output", runner: "Runner"
) -> Result:
    """As :func:`dvc_parallel.remote.clones.clone_worker.perform`.

    Raises:
        DvcException: this DVC is not as its release was, besides.
    """
    from dvc_parallel.remote.clones.clone_worker import perform as perform_here

    with seams.required(seams.IN_CLONES, "run stages for others"):
        return perform_here(request, folder, output, runner)


def carrier(runner: "RemoteRunner") -> "Carrier":
    """A carrier that lets the workers of a runner perform requests."""

    def carry(request: Request, output: "Output", stage_run: "StageRun") -> Result:
        on_start = partial(setattr, stage_run, "worker")
        work = partial(perform, request)
        return runner.perform(work, output, stage_run.place, on_start)

    return carry
