"""A stage of a parallel run, as what stands in for DVC's functions sees it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.stage.exceptions import StageCmdFailedError

from dvc_parallel.engine.file_stamp import signature_of
from dvc_parallel.engine.reporter_events import Phase
from dvc_parallel.engine.runner import LastingRunner
from dvc_parallel.engine.usage import USAGE, Usage, usage_of
from dvc_parallel.scheduling.retries import StageOutOfMemoryError

if TYPE_CHECKING:
    from dvc.stage import Stage

    from dvc_parallel.engine.job import Job
    from dvc_parallel.engine.ordered_writes import SerialOrder
    from dvc_parallel.engine.runner import Output, Place, Runner
    from dvc_parallel.engine.stage_paths import StagePaths
    from dvc_parallel.remote.clones.coordinator import Coordinator
    from dvc_parallel.remote.clones.requests import Request, Result
    from dvc_parallel.scheduling.retries import Attempts

    from .stable_reads import StableReads
    from .transfers import Transfers

_current: ContextVar[Optional["StageRun"]] = ContextVar("stage_run", default=None)

# Has a worker `perform` a request, and returns when it has: with the same output in the
# same order, the same result, and the same errors.  Called by many threads at a time,
# each with the stage that it runs.
Carrier = Callable[["Request", "Output", "StageRun"], "Result"]

# The stage that the calling thread runs, if any.
current_stage_run = _current.get


def inputs_of(stage: "Stage") -> str:
    """A hash of what the commands of a stage are and what they read, as of now."""
    told: list[Any] = [stage.cmd, stage.wdir, [str(out) for out in stage.outs]]
    for dep in stage.deps:
        with suppress(Exception):  # DVC itself says what is wrong with it
            # NOTE: not its kind, which DVC 3 changes as it records data of DVC 2 again
            told.append([str(dep), dep.get_hash().value])
    text = json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_of(out: Any) -> str:
    with suppress(Exception):  # such as that it is not there
        return str(out.get_hash().value)
    return ""


@dataclass(eq=False)
class StageRun:
    """A job, and what its stage is given.  Owned by the thread that runs it.

    Attributes:
        job: has the repo for the stage.
        stage: the stage.
        env: variables for its commands.
        attempts: at its commands.
        paths: its path locks.
        place: where its commands may run, by ``runner``,
        coordinator, carry: or what has them run in clones.
        requests: what they ask a batch system for.
        has_queue: whether they may have to wait for a worker.
        inherited: descriptors that they have to inherit.
        order: puts what DVC writes where serial DVC does.
        reads, transfers: what stages of the run read, and put into the cache, now.
        ask: asks the user something.
        is_interrupted: whether a signal is ending the run.
        worker: the one that runs its commands in a clone, if it has a name.
        data_is_large: whether what was hashed last takes a while to read.
        used: by its last command, if that is known.
        is_taken_up: whether its commands are those that an earlier run has left.
    """

    job: "Job"
    stage: "Stage"
    env: Mapping[str, str]
    attempts: "Attempts"
    paths: "StagePaths"
    place: "Place"
    runner: "Runner"
    coordinator: "Optional[Coordinator]"
    carry: "Optional[Carrier]"
    requests: Mapping[str, str]
    has_queue: bool
    inherited: tuple[int, ...]
    order: "SerialOrder"
    reads: "StableReads"
    transfers: "Transfers"
    ask: Callable[[Callable[[], Any]], Any]
    is_interrupted: Callable[[], bool]
    worker: Optional[str] = None
    data_is_large: bool = False
    used: Optional[Usage] = None
    is_taken_up: bool = False
    _intrusions: int = 0

    @property
    def name(self) -> str:
        return self.stage.addressing

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Be what the calling thread runs; it owns the repo."""
        token = _current.set(self)
        try:
            self.start_saving()
            yield
        finally:
            _current.reset(token)

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

    def show(self, stream: str, data: bytes) -> None:
        """Pass on what a command prints, and keep what it has used."""
        if stream != USAGE:
            self.job.show(stream, data)
            return
        # NOTE: it may come from another machine
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            self.used = self.job.used = usage_of(data)

    def take_up(self) -> None:
        """Have the commands that an earlier run has left of the stage, or stop them.

        The calling thread owns the repo.
        """
        runner, name, stage = self.runner, self.name, self.stage
        if not isinstance(runner, LastingRunner) or not runner.has_left(name):
            return
        outs = {out.fs_path: partial(_hash_of, out) for out in stage.outs}
        runs = stage.cmd and not stage.frozen
        self.is_taken_up = runs and runner.take_up(name, inputs_of(stage), outs)
        if not self.is_taken_up:
            with self.job.away():
                runner.clear(name)

    def begin_commands(self) -> None:
        """Take note that the commands of the stage come next."""
        if isinstance(self.runner, LastingRunner) and not self.is_taken_up:
            outs = [out.fs_path for out in self.stage.outs]
            self.runner.begin(self.name, inputs_of(self.stage), outs)

    def failure(self, cmd: str, status: int) -> StageCmdFailedError:
        """Take note that a command has failed; return the error that says so."""
        self.job.status = status
        if self.used and self.used.out_of_memory:
            return StageOutOfMemoryError(cmd, status, self.used.memory)
        return StageCmdFailedError(cmd, status)

    def outputs_hashed(self) -> None:
        """Take note that DVC knows what the commands have made."""
        if isinstance(self.runner, LastingRunner):
            outs = self.stage.outs
            hashes = {out.fs_path: str(out.hash_info.value) for out in outs}
            self.runner.keep_outputs(self.name, hashes)

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
        self.is_taken_up = False
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
