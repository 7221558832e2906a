"""A parallel run, put together: what its executor is given, and why."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.exceptions import DvcException
from dvc.repo import reproduce

from dvc_parallel.caches.bookkeeping import Bookkeeping
from dvc_parallel.caches.path_facts import state_kept_open
from dvc_parallel.engine import logger
from dvc_parallel.engine.executor import Executor
from dvc_parallel.engine.job import QueueAgainError
from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.ordered_writes import SerialOrder, names_of
from dvc_parallel.engine.path_conflicts import PathOrder
from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.engine.remote_runner import RemoteRunner
from dvc_parallel.engine.repo_lock import SharedRepoLock
from dvc_parallel.engine.reporter_events import Reporter, Reporters, RunInfo
from dvc_parallel.engine.run_info import describe, plan_of
from dvc_parallel.engine.runner import LastingRunner, Runner
from dvc_parallel.engine.stage_paths import StagePaths
from dvc_parallel.processes.forks import ForkServers
from dvc_parallel.processes.supervisor import RunSupervisor
from dvc_parallel.scheduling.durations import Durations
from dvc_parallel.scheduling.path_waits import PathWaits
from dvc_parallel.scheduling.resources import Provision
from dvc_parallel.scheduling.retries import Attempts, StageOutOfMemoryError

from .downloads import Downloads
from .missing_files import MissingFiles
from .refresh import catch_up
from .stable_reads import StableReads
from .stage_run import Carrier, StageRun
from .transfers import Transfers

if TYPE_CHECKING:
    from dvc.stage import Stage
    from networkx import DiGraph

    from dvc_parallel.engine.job import Job
    from dvc_parallel.remote.clones.coordinator import Coordinator

    from .uploads import Uploads

CLONES = "Workers do not see the workspace; they use clones, and data goes through %s."


class ParallelRun:
    """Reproduces stages in parallel, and leaves what serial DVC would.

    To be used once, by the thread that holds ``repo.lock``.

    Args:
        steps: stages to reproduce, in the order of serial DVC.
        graph: the graph whose edges run from stages to their upstreams.
        jobs: how many stages may run a command at a time.
        on_error, force, force_downstream: as for ``Repo.reproduce``.
        repro_fn: reproduces one stage, as DVC's does.
        raise_error: raises an error for a cause, or None, and failed stages, instead of
            DVC's.
        on_unchanged: called at the end with the stages that have not changed.
        reporters: show what goes on, instead of plain lines.
        load_average: start nothing while the load of the machine is as high.
        runner: where commands run, if not as processes of this run.
        carry: has commands run in clones of the repo, where workers do not share the
            workspace.
        elsewhere: whether commands would run elsewhere, though no worker is asked for
            anything.
        uploads: upload what stages make.
        kwargs: for ``repro_fn``.  Its ``jobs`` are others, those of a transfer.

    Attributes:
        info: what is known of it beforehand.
        provision: what its stages are given.
        executor: runs them; this is its :class:`Work`.
        coordinator: sends them to other machines, if that is where they run.
        workers: where commands run, if on those of another engine.

    Raises:
        DvcException: a stage asks for what makes no sense, or for more than there is.
    """

    def __init__(  # noqa: PLR0913
        self,
        steps: Sequence["Stage"],
        graph: "DiGraph",
        jobs: int,
        /,
        *,
        repro_fn: Callable[..., Optional["Stage"]],
        on_error: str = "fail",
        force: bool = False,
        force_downstream: bool = False,
        raise_error: Optional[Callable[..., Any]] = None,
        on_unchanged: Optional[Callable[[list["Stage"]], None]] = None,
        reporters: Sequence[Reporter] = (),
        load_average: Optional[float] = None,
        runner: Optional[Runner] = None,
        carry: Optional[Carrier] = None,
        elsewhere: bool = False,
        uploads: "Optional[Uploads]" = None,
        **kwargs: Any,
    ):
        self.steps, self.graph, self.kwargs = steps, graph, kwargs
        self._repro_fn, self._on_unchanged = repro_fn, on_unchanged
        self._raise_error = raise_error or reproduce._raise_error
        self._on_error = on_error
        self._repo = repo = steps[0].repo
        tmp_dir = repo.tmp_dir

        # who runs commands, and what there is for them
        self.runner = runner or LocalRunner(RunSupervisor(tmp_dir), ForkServers())
        self.carry = carry
        self._uploads = uploads
        self.coordinator: Optional[Coordinator] = None
        self.workers = runner if isinstance(runner, RemoteRunner) else None
        offers = self.workers.offers() if self.workers else () if elsewhere else None
        # NOTE: jobs that run already count among those that may
        first: Sequence[int] = ()
        if isinstance(runner, LastingRunner):
            has_left = [runner.has_left(stage.addressing) for stage in steps]
            first = [rank for rank, has in enumerate(has_left) if has]
        self.provision = Provision(steps, jobs, load_average, self._wake, offers, first)

        # of stages that have to start again, with other slots
        self._attempts: dict[int, Attempts] = {}

        # what stages are, and in which order they go
        self._durations = Durations(tmp_dir)
        self.path_order = PathOrder(steps)
        stages = describe(steps, graph, self.path_order, self._durations.load())
        self._missing = MissingFiles(steps, graph, tmp_dir, self._has_run)
        self.info = RunInfo(stages, jobs, on_error, self._hints)
        plan = plan_of(
            self.info,
            force=force,
            force_downstream=force_downstream,
            found_late=self._found_late,
            ready=self.provision.ready,
        )

        # what they share
        self.books = Bookkeeping(tmp_dir, goes_on=lambda: not self.executor.is_stopping)
        self.books.pulls = bool(kwargs.get("pull"))
        self.order = SerialOrder(tmp_dir, names_of(steps), self.books.lockfiles)
        self.transfers = Transfers()
        self.reads = StableReads()

        reporters = reporters or [PlainReporter()]
        self._lock = SharedRepoLock(repo, before_unlock=self.books.flush)
        if self.books.pulls:
            downloads = Downloads(
                steps,
                graph.successors,
                self._lock,
                self.transfers,
                self.in_thread,
                force=force,
                allow_missing=bool(kwargs.get("allow_missing")),
            )
            reporters = [*reporters, downloads]
        reporter = Reporters(*reporters)
        path_waits = PathWaits(tmp_dir, repo.fs, reporter.waiting_for_paths)
        self.executor = Executor(
            plan,
            lock=self._lock,
            runner=self.runner,
            reporter=reporter,
            work=self,
            supplies=self.provision,
            wakers=[self.provision.ready, path_waits],
            postpone=path_waits.add,
        )

    def run(self) -> list["Stage"]:
        """Reproduce the stages.

        Returns:
            list: those that have been reproduced, in the order of serial DVC.

        Raises:
            ReproductionError: as serial DVC, naming all stages that failed.
            KeyboardInterrupt: for Ctrl-C.
        """
        with (
            # NOTE: the loop gives up the repo as well
            self.books.in_this_thread(),
            state_kept_open(self._repo.state) as self._close_state,
            self._coordinated(),
            self.provision.slots(),
        ):
            outcome = self.executor.run(self.info)
        if self._uploads is not None:
            self._uploads.finish(self.is_interrupted)
        jobs = self.executor.jobs
        busy = {
            self.steps[rank].addressing: jobs[rank].busy
            for rank in outcome.results
            if rank not in outcome.restored
        }
        self._durations.save(busy)
        reproduced = outcome.conclude(self.steps, self._on_error, self._raise_error)
        if self._on_unchanged is not None:
            ran = outcome.results
            self._on_unchanged(
                [stage for rank, stage in enumerate(self.steps) if rank not in ran]
            )
        return reproduced

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal is ending the run."""
        return self.executor.outcome.signal is not None

    @contextmanager
    def _coordinated(self) -> Iterator[None]:
        if self._has_workspace():
            yield
            return
        from dvc_parallel.remote.clones.coordinator import Coordinator

        coordinator = Coordinator(self._repo, self.steps, self.transfers.of)
        with closing(coordinator) as self.coordinator:
            logger.info(CLONES, self.coordinator.exchange)
            yield

    def _has_workspace(self) -> bool:
        """Whether commands see the workspace, wherever they run."""
        if self.workers is None:
            return self.carry is None
        return self.workers.check(map(self.provision.place, range(len(self.steps))))

    def _found_late(self, ranks: Sequence[int]) -> dict[int, set[int]]:
        # NOTE: paths lead to where they did when the run began, until somebody may have
        # made links
        if not self.reads.any_command and not self._lock.intrusions:
            return {}
        return self.path_order.found_late(ranks)

    def _has_run(self, stage: "Stage") -> bool:
        rank = self.steps.index(stage)
        job = self.executor.jobs.get(rank)
        return job is not None and job.ran and rank not in self.executor.outcome.failed

    def _hints(self, rank: int, lines: Iterable[bytes]) -> Iterator[str]:
        """Why a stage has failed, as far as that is known."""
        yield from self._missing.hints(rank, lines)
        error = self.executor.outcome.failed.get(rank)
        if isinstance(error, StageOutOfMemoryError):
            yield error.why

    def _wake(self) -> None:
        self.executor.wake()

    @contextmanager
    def in_thread(self) -> Iterator[None]:
        """What each of the threads is in."""
        # NOTE: the repo is passed on between jobs, too, and that flushes the books
        with self.books.in_this_thread():
            try:
                yield
            finally:
                self._close_state()

    def reproduce(self, job: "Job") -> Optional["Stage"]:
        """Reproduce a stage, in a thread that owns the repo."""
        stage_run = self._stage_run(job)
        stage = stage_run.stage
        # NOTE: an import, a data source or a frozen stage has no command to run
        job.ran = stage.frozen or not stage.cmd
        once = partial(
            self._repro_fn,
            stage,
            upstream=list(self.graph.successors(stage)),
            **self.kwargs,
        )
        with stage_run.in_this_thread():
            # NOTE: the repo was free while workers were waited for
            if self.runner.has_queue or job.intrusions:
                catch_up(stage, self.books.lockfiles)
            stage_run.take_up()
            force = job.force or stage_run.is_taken_up
            try:
                reproduced = stage_run.attempts.run(once, force, stage_run.retrying)
            except QueueAgainError:
                self._attempts[job.rank] = stage_run.attempts
                raise
            if isinstance(self.runner, LastingRunner):
                self.runner.forget(stage.addressing)
            if reproduced is not None and self._uploads is not None:
                self._uploads.add(reproduced)
            return reproduced

    def _attempts_of(self, rank: int) -> Attempts:
        if rank in self._attempts:
            return self._attempts.pop(rank)
        return Attempts(
            self.provision.needs(rank),
            lambda: self.executor.is_stopping,
            partial(self.provision.grows, rank),
        )

    def _stage_run(self, job: "Job") -> StageRun:
        rank = job.rank
        # NOTE: `pull` gets outputs before DVC knows whether the stage has to run, and
        # nobody wants to be asked twice
        at_once = self.kwargs.get("pull") or self.kwargs.get("interactive")
        return StageRun(
            job,
            self.steps[rank],
            env={**job.env, **self.order.environment(rank)},
            attempts=self._attempts_of(rank),
            paths=StagePaths(
                self.books.path_locks,
                looks_first=not at_once,
                names=self.path_order.other_names(rank),
            ),
            place=self.provision.place(rank),
            runner=self.runner,
            coordinator=self.coordinator,
            carry=self.carry,
            requests=self.provision.requests(rank),
            has_queue=self.runner.has_queue,
            inherited=tuple(self.provision.inherited),
            order=self.order,
            reads=self.reads,
            transfers=self.transfers,
            ask=self.executor.ask,
            is_interrupted=lambda: self.is_interrupted,
        )

    def failed(self, rank: int, error: Exception) -> None:
        """Tell of a stage that has failed, while the run goes on."""
        stage = self.steps[rank]
        # NOTE: serial DVC has said before which stage it runs
        named = DvcException(f"{stage.addressing} | {error}")
        reproduce.handle_error(self.graph, self._on_error, named, stage)

    def come_to_end(self) -> None:
        """Take note that no stage has been left out."""
        self.order.come_to_end()
