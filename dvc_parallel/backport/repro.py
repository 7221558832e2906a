"""``Repo.reproduce(jobs=..., output=..., load_average=...)``, and the config."""

from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from dvc.exceptions import DvcException, InvalidArgumentError

from dvc_parallel import jobs as parallel_jobs
from dvc_parallel import load, output_modes

from . import seams

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

    from dvc_parallel.executor import ParallelExecutor

    Executor = Callable[..., Optional[ParallelExecutor]]


def reproduce(
    original: Callable,
    stages: list["Stage"],
    graph=None,
    *,
    jobs: Union[int, str, None] = None,
    output: Optional[str] = None,
    load_average: Optional[float] = None,
    **kwargs,
) -> list["Stage"]:
    """``dvc.repo.reproduce._reproduce``: reproduce stages, ``jobs`` at a time.

    Raises:
        InvalidArgumentError: one of these options is none of what it can be.
    """

    def executor(count: int, **options) -> Optional["ParallelExecutor"]:
        # NOTE: a single item has no graph that tells what may run side by side, and
        # there is nothing to run in a dry run.
        if graph is None or kwargs.get("dry"):
            return None
        from dvc.repo.reproduce import _reproduce_stage

        from dvc_parallel.executor import ParallelExecutor

        kwargs.setdefault("repro_fn", _reproduce_stage)
        return ParallelExecutor(stages, graph, count, **options, **kwargs)

    serially = partial(original, stages, graph=graph, **kwargs)
    return run_stages(jobs, output, load_average, stages, serially, executor)


def run_stages(
    jobs: Union[int, str, None],
    output: Optional[str],
    load_average: Optional[float],
    stages: list["Stage"],
    serially: Callable[[], list["Stage"]],
    executor: "Executor",
) -> list["Stage"]:
    """Reproduce stages, ``jobs`` at a time.

    Args:
        jobs: a positive integer, "auto", or None for what the config says.
        output: how their output is shown, or None for what the config says.
        load_average: start nothing while the load is as high, unless nothing runs.
        stages: some stages of the repo.
        serially: does it as DVC does.
        executor: makes the executor for a number of jobs and other options, or None
            where stages have to run one after the other.

    Raises:
        InvalidArgumentError: one of these options is none of what it can be.
        DvcException: this DVC is not as its release was.
    """
    config = stages[0].repo.config["core"] if stages else {}
    if jobs is None:
        jobs = config.get(parallel_jobs.CONFIG_OPTION, 1)
    if output is None:
        output = config.get(output_modes.CONFIG_OPTION, output_modes.PREFIXED)
    count = _checked("jobs", parallel_jobs.count_jobs, jobs)
    output = _checked("output", output_modes.parse_output, output)
    if load_average is not None:
        load_average = _checked("load_average", load.parse_load, load_average)
    if not stages:
        return serially()

    executor = partial(executor, load_average=load_average)
    parallel = _parallel(count, output, stages[0].repo, executor)
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


def _parallel(
    count: int, output: str, repo: "Repo", executor: "Executor"
) -> Optional["ParallelExecutor"]:
    if count == 1:
        return None
    from dvc_parallel.reporters.choice import reporters

    return executor(count, reporters=reporters(repo.tmp_dir, output))


def _checked(name: str, check: Callable[[Any], Any], value: Any) -> Any:
    try:
        return check(value)
    except ValueError as exc:
        raise InvalidArgumentError(f"{name}: {exc}") from None
