"""A parallel run, with all that the executor can do without.

What the plugin does on top of :mod:`dvc_parallel.engine.executor` comes together here:
cheap bookkeeping, the durations of earlier runs, large data that is saved while other
stages go on, and a watchdog over what has been started; and what stages need besides a
slot.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_parallel.caches.bookkeeping import Bookkeeping
from dvc_parallel.caches.path_facts import state_kept_open
from dvc_parallel.engine import logger
from dvc_parallel.engine.executor import ParallelExecutor
from dvc_parallel.engine.file_stamp import signature_of
from dvc_parallel.engine.job import Job, Over, WithdrawnError
from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.lock_wait import TRY_EVERY
from dvc_parallel.engine.plan import Instruction, State
from dvc_parallel.engine.remote_runner import RemoteRunner
from dvc_parallel.engine.repo_lock import SharedRepoLock
from dvc_parallel.engine.reporter_events import Phase
from dvc_parallel.engine.run_info import plan_of
from dvc_parallel.engine.runner import Runner
from dvc_parallel.engine.stage_paths import PathsBusyError, StagePaths
from dvc_parallel.processes.supervisor import RunSupervisor
from dvc_parallel.scheduling.durations import Durations
from dvc_parallel.scheduling.path_waits import PathWaits
from dvc_parallel.scheduling.pooled_plan import (
    LookAgain,
    PooledPlan,
    Postponed,
    Resumed,
)
from dvc_parallel.scheduling.resources import Provision
from dvc_parallel.scheduling.retries import Attempts

from .refresh import catch_up
from .stable_reads import StableReads
from .transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from dvc.repo import Repo
    from dvc.stage import Stage
    from networkx import DiGraph

    from dvc_parallel.remote.clones.coordinator import Coordinator

    from .clone_commands import Carrier

CLONES = "Workers do not see the workspace; they work in clones, data goes through %s."

# Seconds from one look at the load of the machine to the next.
LOOK = 1.0


class FastExecutor(ParallelExecutor):
    """As :class:`ParallelExecutor`, whose other arguments it takes.

    Args:
        load_average: start nothing while the load of the machine is as high.
        carry: has commands run in clones of the repo, where workers do not share the
            workspace.
        runner: where commands run, if not as processes of this run.
        elsewhere: whether they would not, though no worker is asked for anything.

    Attributes:
        provision: what its stages are given.
        books: what the run keeps.
        transfers: what its jobs put into the cache right now.
        reads: what its jobs read while commands run.
        coordinator: sends stages to other machines, if that is where they run.
        path_waits: stages that wait for paths which other processes use.
        workers: where commands run, if on those of another engine.
    """

    plan: PooledPlan

    def __init__(
        self,
        steps: Sequence["Stage"],
        graph: "DiGraph",
        jobs: int,
        *,
        load_average: Optional[float] = None,
        carry: "Optional[Carrier]" = None,
        runner: Optional[Runner] = None,
        elsewhere: bool = False,
        **kwargs,
    ):
        self.carry = carry
        self.coordinator: Optional[Coordinator] = None
        self.workers = runner if isinstance(runner, RemoteRunner) else None
        offers = self.workers.offers() if self.workers else () if elsewhere else None
        self.provision = Provision(steps, jobs, load_average, self._on_slot, offers)
        self.books = Bookkeeping(
            steps[0].repo.tmp_dir, goes_on=lambda: not self.is_stopping()
        )
        self.transfers = Transfers()
        self.reads = StableReads()
        self.path_waits = PathWaits(steps[0].repo.tmp_dir, steps[0].repo.fs)
        self.durations = Durations(steps[0].repo.tmp_dir)
        super().__init__(
            steps,
            graph,
            jobs,
            lockfiles=self.books.lockfiles,
            runner=runner or LocalRunner(RunSupervisor(steps[0].repo.tmp_dir)),
            **kwargs,
        )
        self.books.pulls = bool(self.kwargs.get("pull"))

    def _known_seconds(self) -> dict[str, float]:
        return self.durations.load()

    def _make_plan(self, **kwargs) -> PooledPlan:
        plan = plan_of(
            self.info,
            make=PooledPlan,
            priority=self.provision.priority,
            admission=self.provision.admission,
            found_late=self.path_order.found_late,
            **kwargs,
        )
        assert isinstance(plan, PooledPlan)
        return plan

    def _make_lock(self) -> "WatchedRepoLock":
        return WatchedRepoLock(self.repo, before_unlock=self.books.flush)

    def _make_job(self, rank: int) -> "FastJob":
        return FastJob(self, self.steps[rank], rank)

    def run(self) -> list["Stage"]:
        with (
            # NOTE: the loop gives up the repo as well
            self.books.in_this_thread(),
            state_kept_open(self.repo.state) as self._end_thread,  # type: ignore[method-assign]
            self._coordinated(),
        ):
            return super().run()

    @contextmanager
    def _coordinated(self) -> Iterator[None]:
        if self._has_workspace():
            yield
            return
        from dvc_parallel.remote.clones.coordinator import Coordinator

        with Coordinator(self.repo, self.steps, self.transfers.of) as self.coordinator:
            logger.info(CLONES, self.coordinator.exchange)
            yield

    def _has_workspace(self) -> bool:
        """Whether commands see the workspace, wherever they run."""
        if self.workers is None:
            return self.carry is None
        return self.workers.check(map(self.provision.place, range(len(self.steps))))

    @contextmanager
    def _shared_repo(self) -> Iterator[None]:
        # NOTE: what is shared has to be back when a signal ends this process
        with super()._shared_repo(), self.provision.slots():
            yield

    def is_stopping(self) -> bool:
        """Whether nothing new may start any more."""
        return self.plan.stopping

    def _on_slot(self) -> None:
        self._inbox.put(None)

    def _look_again(self) -> Sequence[Instruction]:
        return [*self._resume(), *self.plan.handle(LookAgain())]

    def _times(self) -> "Iterable[Optional[float]]":
        waits = self.provision.has_to_look and self.plan.count(State.READY)
        return (*super()._times(), LOOK if waits else None, self.path_waits.due())

    def _over(self, message: Over) -> Sequence[Instruction]:
        if not isinstance(message.exc, PathsBusyError):
            return [*super()._over(message), *self._resume()]
        if self.is_stopping():
            message.exc = WithdrawnError()
            return super()._over(message)
        rank = message.job.rank
        message.job.tell(Phase.LOCK)
        if blocked := self.path_waits.add(rank, message.exc):
            self.reporter.waiting_for_paths(rank, blocked)
        return self.plan.handle(Postponed(rank))

    def _resume(self) -> list[Instruction]:
        """Have stages try again whose paths are free by now."""
        for rank, text in self.path_waits.reminders():
            self.reporter.waiting_for_paths(rank, text)
        instructions: list[Instruction] = []
        for rank in self.path_waits.free():
            instructions += self.plan.handle(Resumed(rank))
        return instructions

    def _obstacle(self, rank: int) -> dict[str, Any]:
        pool = self.provision.obstacle(rank)
        return {"pool": pool} if pool else {}

    def _run_jobs(self, job: Optional[Job]) -> None:
        # NOTE: also while the repo is passed on
        with self.books.in_this_thread():
            super()._run_jobs(job)

    def _reproduce(self, job: "FastJob", force: bool) -> Optional["Stage"]:  # type: ignore[override]
        # NOTE: the repo was free while workers were waited for
        if self.workers or self.lock.intrusions:  # type: ignore[attr-defined]
            catch_up(job.stage, self.books.lockfiles)
        return job.attempts.run(partial(super()._reproduce, job), force, job.retrying)

    def _give_up(self) -> None:
        super()._give_up()
        self.provision.give_up()

    def _conclude(self) -> list["Stage"]:
        ran = [self._started[rank] for rank in self.outcome.results]
        self.durations.save({job.name: job.busy for job in ran})
        return super()._conclude()


class WatchedRepoLock(SharedRepoLock):
    """A shared repo lock that tells whether another process may have had it.

    Args:
        before_unlock: called by the owner before it gives up the repo lock.

    Attributes:
        intrusions (int): how many times one may have had it since the run began.
    """

    def __init__(
        self,
        repo: "Repo",
        before_unlock: Callable[[], None] = lambda: None,
    ):
        super().__init__(repo)
        self._before_unlock = before_unlock
        self.intrusions = 0

    def _unlock_file(self) -> None:
        self._before_unlock()
        super()._unlock_file()

    def _lock_file(self) -> None:
        last_holder = self._holder()
        start = time.monotonic()
        super()._lock_file()
        waited = time.monotonic() - start > TRY_EVERY / 2
        if waited or last_holder != os.getpid():
            self.intrusions += 1

    def _holder(self) -> Optional[int]:
        """PID of the process that had the lock last, if it can be known."""
        try:
            with open(self.lockfile, encoding="utf-8") as fobj:
                return int(fobj.read())
        except (OSError, ValueError, TypeError):
            return None

    def give_back(self) -> None:
        self._before_unlock()
        super().give_back()


class FastJob(Job):
    """A job that can save large data without owning the repo, see ``saving.py``.

        ┌ owns the repo ┐             ┌ owns the repo ┐             ┌ owns the repo ┐
        │ changed?      │   command   │ record hashes │ hash, copy  │ dvc.lock      │
        └───────────────┴─── away ────┴───────────────┴─── away ────┴───────────────┘

    Attributes:
        data_is_large (bool): whether what was hashed last takes a while to read.
        env: variables for its commands: the slots that it has, its place.
        attempts: at its commands.
        worker (str): the one that performs it in a clone, if it has a name.
        paths: its path locks.
    """

    run: FastExecutor
    lock: WatchedRepoLock

    def __init__(self, run: FastExecutor, stage: "Stage", rank: int):
        super().__init__(run, stage, rank)
        self.data_is_large = False
        self.env = {
            **run.provision.environment(rank),
            **run.order.environment(rank),
        }
        self.attempts = Attempts(run.provision.needs(rank), run.is_stopping)
        # NOTE: `pull` gets outputs before DVC knows whether the stage has to run, and
        # nobody wants to be asked twice
        at_once = run.kwargs.get("pull") or run.kwargs.get("interactive")
        self.paths = StagePaths(
            run.books.path_locks,
            looks_first=not at_once,
            names=run.path_order.other_names(rank),
        )
        self.worker: Optional[str] = None
        self._pins = 0
        self._intrusions = 0

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        with super().in_this_thread():
            self.start_saving()
            yield

    @property
    def has_run(self) -> bool:
        """Whether what remains is to save what its commands have made."""
        return self._work is Phase.SAVE

    @property
    def is_elsewhere(self) -> bool:
        """Whether its commands run on other machines."""
        return self.run.workers is not None

    def waits_for_worker(self, cmd: str) -> Callable[[str], None]:
        """Have the time until a worker starts a command not count.

        Returns:
            what is to be called with the name of the worker.
        """
        go_on = self.attempts.wait()

        def started(worker: str) -> None:
            go_on()
            self.command_started(cmd, worker)

        return started

    def command_started(self, cmd: str, worker: Optional[str]) -> None:
        """Take note that a command has started elsewhere."""
        self.tell(Phase.COMMAND, cmd=cmd, **({"worker": worker} if worker else {}))

    def retrying(self, exc: BaseException) -> None:
        """Take note that the commands are tried again after an error."""
        self.tell(Phase.RETRY, attempt=self.attempts.number, error=str(exc))

    def start_saving(self) -> None:
        """Watch from now on whether another process has had the repo."""
        self._intrusions = self.lock.intrusions

    @property
    def disturbed(self) -> bool:
        """Whether one may have had it since saving has started."""
        return self.lock.intrusions != self._intrusions

    def away_if(self, condition: bool) -> "AbstractContextManager[None]":
        """Give the repo away for a while on a condition, if not pinned."""
        return self.away() if condition and not self._pins else nullcontext()

    @contextmanager
    def in_command(self) -> Iterator[None]:
        """Have other jobs know that the command of this one may write anything."""
        self.run.reads.in_command.add(self.name)
        try:
            yield
        finally:
            self.run.reads.in_command.discard(self.name)

    def pause(self, seconds: float) -> None:
        """Wait, without the repo."""
        with self.away_if(True):
            time.sleep(seconds)

    def read_file(self, read: Callable, path: str, *args, **kwargs) -> Any:
        """Read a local file, again if the command of another stage writes to it."""
        reads = self.run.reads
        if not reads.others(self.name):
            return read(path, *args, **kwargs)
        return reads.read(
            path,
            lambda _: read(path, *args, **kwargs),
            lambda: signature_of(path),
            self.pause,
        )

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Own the repo throughout, because it is not as others expect it."""
        self._pins += 1
        try:
            yield
        finally:
            self._pins -= 1
