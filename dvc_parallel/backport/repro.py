"""``Repo.reproduce(jobs=...)`` and ``core.parallel_jobs``."""

from functools import partial
from typing import TYPE_CHECKING, Callable, Optional, Union

from dvc.exceptions import DvcException, InvalidArgumentError

from dvc_parallel.jobs import CONFIG_OPTION, count_jobs

from . import seams

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

    from dvc_parallel.executor import ParallelExecutor


def reproduce(
    original: Callable,
    stages: list["Stage"],
    graph=None,
    *,
    jobs: Union[int, str, None] = None,
    **kwargs,
) -> list["Stage"]:
    """``dvc.repo.reproduce._reproduce``: reproduce stages, ``jobs`` at a time.

    Raises:
        InvalidArgumentError: ``jobs`` is not a positive integer or "auto".
    """

    def executor(count: int, **parts) -> Optional["ParallelExecutor"]:
        # NOTE: a single item has no graph that tells what may run side by side, and
        # there is nothing to run in a dry run.
        if graph is None or kwargs.get("dry"):
            return None
        from dvc.repo.reproduce import _reproduce_stage

        from dvc_parallel.executor import ParallelExecutor

        kwargs.setdefault("repro_fn", _reproduce_stage)
        return ParallelExecutor(stages, graph, count, **parts, **kwargs)

    serially = partial(original, stages, graph=graph, **kwargs)
    return run_stages(jobs, stages, serially, executor)


def run_stages(
    jobs: Union[int, str, None],
    stages: list["Stage"],
    serially: Callable[[], list["Stage"]],
    executor: Callable[..., Optional["ParallelExecutor"]],
) -> list["Stage"]:
    """Reproduce stages, ``jobs`` at a time.

    Args:
        jobs: a positive integer, "auto", or None for what the config says.
        stages: some stages of the repo.
        serially: does it as DVC does.
        executor: makes the executor for a number of jobs and with parts such as the
            runner, or None where stages have to run one after the other.

    Raises:
        InvalidArgumentError: ``jobs`` is not a positive integer or "auto".
        DvcException: this DVC is not as its release was.
    """
    count = _count_jobs(jobs, stages)
    if not stages:
        return serially()

    from dvc_parallel.runners.warded import WardedRunner

    parallel = executor(count, runner=WardedRunner()) if count > 1 else None
    if parallel is None:
        return _reproduce_serially(stages[0].repo, serially)

    needed = (*seams.IN_RUNS, *seams.IN_JOBS)
    for misfit in seams.misfits(needed):
        raise DvcException(f"cannot run stages in parallel: {misfit}")
    with seams.installed(needed):
        return parallel.run()


def _reproduce_serially(
    repo: "Repo", reproduce: Callable[[], list["Stage"]]
) -> list["Stage"]:
    from dvc_parallel.bookkeeping import Bookkeeping
    from dvc_parallel.state import state_kept_open

    if seams.misfits(seams.IN_RUNS):
        return reproduce()
    books = Bookkeeping()
    with (
        seams.installed(seams.IN_RUNS),
        books.in_this_thread(),
        state_kept_open(repo.state),
    ):
        try:
            return reproduce()
        finally:
            books.flush()


def _count_jobs(jobs: Union[int, str, None], stages: list["Stage"]) -> int:
    setting: Optional[Union[int, str]] = jobs
    if setting is None and stages:
        setting = stages[0].repo.config["core"].get(CONFIG_OPTION)
    try:
        return count_jobs(1 if setting is None else setting)
    except ValueError as exc:
        raise InvalidArgumentError(f"jobs: {exc}") from None
