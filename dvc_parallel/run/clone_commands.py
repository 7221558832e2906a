"""Running the commands of a stage on a worker with a clone."""

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

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

    from .stage_run import StageRun


# Times that a request is sent with a pack: another worker may lack other commits.
PACKS = 10


def run_elsewhere(
    stage_run: "StageRun",
    coordinator: Coordinator,
    run_env: "Optional[Mapping[str, str]]" = None,
    **_kwargs: Any,
) -> None:
    """Stands in for ``cmd_run``, the thread being the owner of the repo.

    Raises:
        StageCmdFailedError: a command has failed.
        DvcException: the worker could not do it, or its outputs did not arrive.
    """
    stage, job, attempts = stage_run.stage, stage_run.job, stage_run.attempts
    request = coordinator.pack(stage, {**(run_env or {}), **stage_run.env})
    logger.info("Running stage '%s':", stage_run.name)
    stage_run.used = None
    with job.away():
        coordinator.put(request)
        job.tell(Phase.QUEUED)
        with attempts.commands(on_end=job.command_ended):
            request = replace(request, timeout=attempts.seconds_left())
            result = _send(stage_run, coordinator, request)
            if result.timed_out is not None:
                raise attempts.timeout(result.timed_out)
            if result.failed is not None:
                raise stage_run.failure(*result.failed)
        coordinator.get(stage, result)
    stage_run.start_saving()
    coordinator.take(stage, result)


def _send(stage_run: "StageRun", coordinator: Coordinator, request: Request) -> Result:
    assert stage_run.carry
    for _ in range(PACKS):
        try:
            return stage_run.carry(request, partial(_show, stage_run), stage_run)
        except LacksCommitsError as exc:
            request = coordinator.with_pack(request, exc.have)
        except CommandLostError as exc:
            raise StageLostError(f"stage '{request.addressing}'", exc) from None
    raise WorkerError(f"no worker could receive commit {request.state.commit}")


def _show(stage_run: "StageRun", stream: str, data: bytes) -> None:
    if stream == COMMAND:
        stage_run.command_started(os.fsdecode(data), stage_run.worker)
    else:
        stage_run.show(stream, data)
