"""``Repo.reproduce(jobs=...)`` and ``core.parallel_jobs``."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from dvc.exceptions import DvcException, InvalidArgumentError

from dvc_parallel.jobs import CONFIG_OPTION, count_jobs

from . import seams

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

    from dvc_parallel.bookkeeping import Bookkeeping
    from dvc_parallel.executor import ParallelExecutor


@dataclass(frozen=True)
class Run:
    """A run that ``Repo.reproduce`` is about to begin.

    Attributes:
        repo: its repo, which is locked.
        jobs: how many stages at a time.
    """

    repo: "Repo"
    jobs: int
    _serially: Callable[[], list["Stage"]]
    _executor: Callable[[int], Optional["ParallelExecutor"]]

    def executor(self) -> Optional["ParallelExecutor"]:
        """What runs the stages side by side; None where they run one after another."""
        return self._executor(self.jobs)

    def rehearse(self, books: "Bookkeeping") -> None:
        """Go through the stages as serial DVC does, and run none of them.

        Raises:
            DvcException: this DVC is not as its release was.
        """
        needed = (*seams.IN_RUNS, *seams.IN_REHEARSALS)
        for misfit in seams.misfits(needed):
            raise DvcException(f"cannot tell what would run: {misfit}")
        with seams.installed(needed):
            _keep_books(self.repo, books, self._serially)

    def perform(self, executor: "ParallelExecutor") -> list["Stage"]:
        """Run the stages.

        Raises:
            DvcException: this DVC is not as its release was.
        """
        needed = (*seams.IN_RUNS, *seams.IN_JOBS)
        for misfit in seams.misfits(needed):
            raise DvcException(f"cannot run stages in parallel: {misfit}")
        with seams.installed(needed):
            return executor.run()


Instead = Optional[Callable[[Run], Any]]


def reproduce(
    original: Callable,
    stages: list["Stage"],
    graph=None,
    *,
    jobs: Union[int, str, None] = None,
    instead: Instead = None,
    **kwargs,
) -> list["Stage"]:
    """``dvc.repo.reproduce._reproduce``: reproduce stages, ``jobs`` at a time.

    Args:
        instead: called with the :class:`Run` to do something else with it.

    Raises:
        InvalidArgumentError: ``jobs`` is not a positive integer or "auto".
    """

    def executor(count: int) -> Optional["ParallelExecutor"]:
        # NOTE: a single item has no graph that tells what may run side by side
        if graph is None:
            return None
        from dvc.repo.reproduce import _reproduce_stage

        from dvc_parallel.executor import ParallelExecutor

        kwargs.setdefault("repro_fn", _reproduce_stage)
        return ParallelExecutor(stages, graph, count, **kwargs)

    serially = partial(original, stages, graph=graph, **kwargs)
    dry = kwargs.get("dry", False)
    return run_stages(jobs, stages, serially, executor, dry=dry, instead=instead)


def run_stages(
    jobs: Union[int, str, None],
    stages: list["Stage"],
    serially: Callable[[], list["Stage"]],
    executor: Callable[[int], Optional["ParallelExecutor"]],
    *,
    dry: bool = False,
    instead: Instead = None,
) -> list["Stage"]:
    """Reproduce stages, ``jobs`` at a time.

    Args:
        jobs: a positive integer, "auto", or None for what the config says.
        stages: some stages of the repo.
        serially: does it as DVC does.
        executor: makes the executor for a number of jobs, or None where stages have
            to run one after the other.

    Raises:
        InvalidArgumentError: ``jobs`` is not a positive integer or "auto".
        DvcException: this DVC is not as its release was.
    """
    count = _count_jobs(jobs, stages)
    if not stages:
        return serially()

    run = Run(stages[0].repo, count, serially, executor)
    if instead is not None:
        instead(run)
        return []
    parallel = run.executor() if count > 1 and not dry else None
    if parallel is not None:
        return run.perform(parallel)
    return _reproduce_serially(run.repo, serially)


def _reproduce_serially(
    repo: "Repo", reproduce: Callable[[], list["Stage"]]
) -> list["Stage"]:
    from dvc_parallel.bookkeeping import Bookkeeping

    if seams.misfits(seams.IN_RUNS):
        return reproduce()
    with seams.installed(seams.IN_RUNS):
        return _keep_books(repo, Bookkeeping(), reproduce)


def _keep_books(
    repo: "Repo", books: "Bookkeeping", reproduce: Callable[[], list["Stage"]]
) -> list["Stage"]:
    from dvc_parallel.state import state_kept_open

    with books.in_this_thread(), state_kept_open(repo.state):
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
