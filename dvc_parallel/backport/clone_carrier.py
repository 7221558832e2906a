"""The carrier of requests to workers, whose DVC runs the stage in a clone."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

from dvc_parallel.remote.clones.requests import (
    LacksCommitsError,
    Request,
    Result,
    WorkerError,
)
from dvc_parallel.remote.typed import MalformedError, plain, typed

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


@dataclass(frozen=True)
class Outcome:
    """What comes back from a worker.

    Attributes:
        result: of what it has done,
        have: or which commits it has, as it needs a pack,
        error: or why it could not be done.
    """

    result: Optional[Result] = None
    have: Optional[tuple[str, ...]] = None
    error: Optional[str] = None


def _answer(
    request: Request, folder: str, output: "Output", runner: "Runner"
) -> dict[str, Any]:
    """The outcome as plain data: workers are strangers, and pickles would run."""
    try:
        return plain(Outcome(perform(request, folder, output, runner)))
    except LacksCommitsError as exc:
        return plain(Outcome(have=exc.have))
    except WorkerError as exc:
        return plain(Outcome(error=str(exc)))


def carrier(runner: "RemoteRunner") -> "Carrier":
    """A carrier that lets the workers of a runner perform requests."""

    def carry(request: Request, output: "Output", stage_run: "StageRun") -> Result:
        on_start = partial(setattr, stage_run, "worker")
        work = partial(_answer, request)
        answer = runner.perform(work, output, stage_run.place, on_start)
        try:
            outcome = typed(Outcome, answer)
        except MalformedError as exc:
            raise WorkerError(f"the answer of a worker makes no sense: {exc}") from None
        if outcome.have is not None:
            raise LacksCommitsError(outcome.have)
        if outcome.result is None:
            raise WorkerError(outcome.error or "a worker has answered nothing")
        return outcome.result

    return carry
