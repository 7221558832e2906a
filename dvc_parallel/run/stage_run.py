"""A stage of a parallel run, as what stands in for DVC's functions sees it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_parallel.engine.file_stamp import signature_of
from dvc_parallel.engine.reporter_events import Phase
from dvc_parallel.engine.stage_paths import StagePaths
from dvc_parallel.scheduling.retries import Attempts

if TYPE_CHECKING:
    from dvc_parallel.engine.job import Job
    from dvc_parallel.engine.runner import Output
    from dvc_parallel.remote.clones.requests import Request, Result

    from .parallel_run import ParallelRun

_current: ContextVar[Optional["StageRun"]] = ContextVar("stage_run", default=None)

# Has a worker `perform` a request, and returns when it has: with the same output in the
# same order, the same result, and the same errors.  Called by many threads at a time,
# each with the stage that it runs.
Carrier = Callable[["Request", "Output", "StageRun"], "Result"]

# The stage that the calling thread runs, if any.
current_stage_run = _current.get


class StageRun:
    """A job, and what its stage is given.  Owned by the thread that runs it.

    Attributes:
        job: has the repo for the stage.
        stage, name: the stage, and how it is called.
        env: variables for its commands.
        attempts: at its commands.
        paths: its path locks.
        place: where its commands may run, by ``runner``,
        coordinator, carry: or what has them run in clones.
        is_elsewhere (bool): whether they run on other machines.
        worker (str): the one that runs it in a clone, if it has a name.
        inherited: descriptors that commands have to inherit.
        order: puts what DVC writes where serial DVC does.
        reads, transfers: what stages of the run read, and put into the cache, now.
        data_is_large (bool): whether what was hashed last takes a while to read.
    """

    def __init__(self, run: "ParallelRun", job: "Job"):
        self.job = job
        self.env = {**job.env, **run.order.environment(job.rank)}
        self.stage = run.steps[job.rank]
        self.name: str = self.stage.addressing
        provision = run.provision
        self.attempts = Attempts(
            provision.needs(job.rank), lambda: run.executor.is_stopping
        )
        # NOTE: `pull` gets outputs before DVC knows whether the stage has to run, and
        # nobody wants to be asked twice
        at_once = run.kwargs.get("pull") or run.kwargs.get("interactive")
        self.paths = StagePaths(
            run.books.path_locks,
            looks_first=not at_once,
            names=run.path_order.other_names(job.rank),
        )
        self.place = provision.place(job.rank)
        self.inherited = tuple(provision.inherited)
        self.runner = run.runner
        self.coordinator, self.carry = run.coordinator, run.carry
        self.is_elsewhere = run.workers is not None
        self.worker: Optional[str] = None
        self.order, self.reads, self.transfers = run.order, run.reads, run.transfers
        self.ask: Callable[[Callable[[], Any]], Any] = run.executor.ask
        self.data_is_large = False
        self._outcome = run.executor.outcome
        self._intrusions = 0

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Be what the calling thread runs; it owns the repo."""
        token = _current.set(self)
        try:
            self.start_saving()
            yield
        finally:
            _current.reset(token)

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal is ending the run."""
        return self._outcome.signal is not None

    def start_saving(self) -> None:
        """Watch from now on whether another process has had the repo."""
        self._intrusions = self.job.intrusions

    @property
    def disturbed(self) -> bool:
        """Whether one may have had it since saving has started."""
        return self.job.intrusions != self._intrusions

    @contextmanager
    def in_command(self) -> Iterator[None]:
        """Let other stages know that the command of this one may write anything."""
        self.reads.in_command.add(self.name)
        try:
            yield
        finally:
            self.reads.in_command.discard(self.name)

    def waits_for_worker(self, cmd: str) -> Callable[[str], None]:
        """Do not count the time until a worker starts a command.

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
        self.job.tell(Phase.COMMAND, cmd=cmd, **({"worker": worker} if worker else {}))

    def retrying(self, exc: BaseException) -> None:
        """Take note that the commands are tried again after an error."""
        self.job.tell(Phase.RETRY, attempt=self.attempts.number, error=str(exc))

    def read_file(self, read: Callable, path: str, *args, **kwargs) -> Any:
        """Read a local file, again if the command of another stage writes to it."""
        if not self.reads.others(self.name):
            return read(path, *args, **kwargs)
        return self.reads.read(
            path,
            lambda _: read(path, *args, **kwargs),
            lambda: signature_of(path),
            self.job.pause,
        )
