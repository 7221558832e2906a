"""Running the commands of a stage on a worker with a clone."""

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.stage.exceptions import StageCmdFailedError

from dvc_parallel.engine import logger
from dvc_parallel.engine.reporter_events import Phase
from dvc_parallel.engine.runner import CommandLostError
from dvc_parallel.remote.clones.coordinator import Coordinator
from dvc_parallel.remote.clones.requests import (
    COMMAND,
    LacksCommitsError,
    Request,
    Result,
    WorkerError,
)
from dvc_parallel.scheduling.retries import StageLostError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dvc.stage import Stage

    from dvc_parallel.engine.runner import Output

    from .parallel_run import FastJob


# Has a worker `perform` a request, and returns when it has: with the same output in the
# same order, the same result, and the same errors.  Called by many threads at a time,
# each with the job that it runs.
Carrier = Callable[[Request, "Output", "FastJob"], Result]

# Times that a request is sent with a pack: another worker may lack other commits.
PACKS = 10


def run_elsewhere(
    job: "FastJob",
    coordinator: Coordinator,
    stage: "Stage",
    run_env: "Optional[Mapping[str, str]]" = None,
    **_kwargs: Any,
) -> None:
    """Stands in for ``cmd_run``, the thread being the owner of the repo.

    Raises:
        StageCmdFailedError: a command has failed.
        DvcException: the worker could not do it, or its outputs did not arrive.
    """
    request = coordinator.pack(stage, {**(run_env or {}), **job.env})
    logger.info("Running stage '%s':", stage.addressing)
    with job.away():
        coordinator.put(request)
        job.tell(Phase.QUEUED)
        with job.attempts.commands(on_end=job.command_ended):
            request = replace(request, timeout=job.attempts.seconds_left())
            result = _send(job, coordinator, request)
            if result.timed_out is not None:
                raise job.attempts.timeout(result.timed_out)
            if result.failed is not None:
                raise StageCmdFailedError(*result.failed)
        coordinator.get(stage, result)
    job.start_saving()
    coordinator.take(stage, result)


def _send(job: "FastJob", coordinator: Coordinator, request: Request) -> Result:
    assert job.run.carry
    for _ in range(PACKS):
        try:
            return job.run.carry(request, partial(_show, job), job)
        except LacksCommitsError as exc:
            request = coordinator.with_pack(request, exc.have)
        except CommandLostError as exc:
            raise StageLostError(f"stage '{request.addressing}'", exc) from None
    raise WorkerError(f"no worker could take commit {request.state.commit}")


def _show(job: "FastJob", stream: str, data: bytes) -> None:
    if stream == COMMAND:
        job.command_started(os.fsdecode(data), job.worker)
    else:
        job.run.reporter.output(job.rank, stream, data)
