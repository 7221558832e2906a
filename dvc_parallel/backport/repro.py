"""``Repo.reproduce(jobs=...)`` and ``core.parallel_jobs``."""

from functools import partial
from typing import TYPE_CHECKING, Callable, Optional, Union

from dvc.exceptions import InvalidArgumentError

from dvc_parallel.jobs import CONFIG_OPTION, count_jobs

from . import seams

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage


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
    count = _count_jobs(jobs, stages)
    if not stages:
        return original(stages, graph=graph, **kwargs)

    # NOTE: a single item has no graph that tells what may run side by side, and
    # there is nothing to run in a dry run.
    if count == 1 or graph is None or kwargs.get("dry"):
        run = partial(original, stages, graph=graph, **kwargs)
        return _reproduce_serially(stages[0].repo, run)

    from dvc.repo.reproduce import _reproduce_stage

    from dvc_parallel.executor import ParallelExecutor

    kwargs.setdefault("repro_fn", _reproduce_stage)
    with seams.installed((*seams.IN_RUNS, *seams.IN_JOBS)):
        return ParallelExecutor(stages, graph, count, **kwargs).run()


def _reproduce_serially(repo: "Repo", reproduce: Callable) -> list["Stage"]:
    from dvc_parallel.bookkeeping import Bookkeeping
    from dvc_parallel.state import state_kept_open

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
