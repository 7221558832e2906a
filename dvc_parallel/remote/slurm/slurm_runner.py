"""Commands as Slurm jobs, as the executor knows them."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from shutil import which
from typing import Callable, Optional

from dvc_parallel.engine.lock_wait import Wait, say
from dvc_parallel.engine.pipes import LONGEST
from dvc_parallel.engine.runner import (
    Command,
    CommandLostError,
    CommandStoppedError,
    LastingRunner,
    OnStart,
    Output,
    RunnerClosedError,
    RunnerError,
    RunnerOptions,
    TimeIsUpError,
    ignore_start,
)
from dvc_parallel.engine.signals import SIGKILL

from .client import FINAL, WAITING, Seen, Slurm, SlurmSilentError
from .records import RECORD, STOPPED, Job, StageJobs, folder_of

# Seconds between two looks at the files of a job, at first and at most.
FIRST, SLOWEST = 0.05, 1.0
# Seconds between two questions to Slurm, and while jobs are being cancelled.
ASK, ASK_OFTEN = 5.0, 0.5
# Seconds for which the files of a job that has ended may still be on their way.
SETTLE = 5.0
# Seconds without a sign of life after which a job that Slurm has lost is dead.
LEASE = 30.0
# How many times a job is submitted again that was lost before it has begun.
TRIES = 3
# Seconds after which jobs that cannot be cancelled are left to the next run.
GIVE_UP = 30.0

# What Slurm does to jobs, and whether they are worth another try.
_ENDS = {
    "BOOT_FAIL": ("its node did not boot", True),
    "NODE_FAIL": ("its node failed", True),
    "PREEMPTED": ("was preempted", True),
    "CANCELLED": ("was cancelled", False),
    "DEADLINE": ("reached its deadline", False),
    "OUT_OF_MEMORY": ("ran out of memory", False),
    "TIMEOUT": ("reached its time limit", False),
}
# Those after which processes may go on, where Slurm cannot see the node.
_OUT_OF_SIGHT = ("BOOT_FAIL", "NODE_FAIL")
# Variables that would have it be another job, or one of this machine.
_LOCAL = re.compile(
    r"SLURM.*|SBATCH_(?:ARRAY_INX|WAIT|REQUEUE|NO_REQUEUE)|TMPDIR|HOSTNAME|"
    r"DVC_PARALLEL_RUN|DVC_PARALLEL_SLURM"
)


class NeverBegunError(Exception):
    """A job has not begun, and never will."""


class SlurmRunner(LastingRunner):
    """Runs each command as a job of Slurm.

    Any thread may call any method.

    Args:
        tmp_dir: ``.dvc/tmp``, on a disk that nodes share.
        detach: whether Ctrl-C leaves jobs, too.
        slurm: Slurm.
        clock: tells the time in seconds.
        sleep: waits for so many seconds.
    """

    has_queue = True

    def __init__(
        self,
        tmp_dir: str,
        detach: bool = False,
        slurm: Optional[Slurm] = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Optional[Callable[[float], None]] = None,
    ):
        self._tmp_dir = tmp_dir
        self._detach = detach
        self._slurm = slurm or Slurm()
        self._clock = clock
        # NOTE: a signal handler may call `signal` while its thread is in it already
        self._news = threading.Condition()
        self._sleep = sleep or self._wait
        self._stages: dict[str, StageJobs] = {}
        self._following: set[Job] = set()
        self._is_closed = False
        self._cancelled_at: Optional[float] = None
        self._asking = threading.Lock()  # of what follows
        self._states: dict[str, list[Seen]] = {}
        self._asked_at = self._answered_at = -sys.maxsize * 1.0
        self._silence: Optional[Wait] = None
        self._queue: Optional[Wait] = None

    # Stages

    def has_left(self, stage: str) -> bool:
        return RECORD in self._files(stage)

    def _files(self, stage: str) -> Mapping[str, int]:
        with suppress(OSError):
            return folder_of(self._tmp_dir, stage).files()
        return {}

    def take_up(
        self, stage: str, inputs: str, outs: Mapping[str, Callable[[], str]]
    ) -> bool:
        return self._of(stage).take_up(inputs, outs)

    def _of(self, stage: str) -> StageJobs:
        if stage not in self._stages:
            folder = folder_of(self._tmp_dir, stage)
            folder.make()
            self._stages[stage] = StageJobs(folder, stage)
        return self._stages[stage]

    def clear(self, stage: str) -> None:
        stage_jobs = self._of(stage)
        left = [job for job in stage_jobs.jobs if job.end is None]
        running = [job for job in left if not job.bar()]
        for job in running:
            job.revoke()
        if left:
            self._cancel(left)
        for job in running:
            self._have_end(job)
        stage_jobs.drop_jobs()

    def _have_end(self, job: Job) -> None:
        """Return when a job has ended that was cancelled."""
        say(f"Waiting for Slurm job {job.claim[0]} of an earlier run to end")
        with suppress(CommandStoppedError, CommandLostError, TimeIsUpError):
            self._follow(job, _ignore, ignore_start)

    def begin(self, stage: str, inputs: str, outs: Iterable[str]) -> None:
        self._of(stage).begin(inputs, outs)

    def keep_outputs(self, stage: str, hashes: Mapping[str, str]) -> None:
        if stage_jobs := self._stages.get(stage):
            stage_jobs.outputs = dict(hashes)
            stage_jobs.write()

    def forget(self, stage: str) -> None:
        if stage_jobs := self._stages.pop(stage, None):
            folder = folder_of(self._tmp_dir)
            with suppress(OSError):
                folder.remove(os.path.basename(folder_of(self._tmp_dir, stage).path))
            stage_jobs.close()

    # Commands

    def run(
        self, command: Command, output: Output, on_start: OnStart = ignore_start
    ) -> int:
        stage_jobs = self._stages[command.stage]
        job = stage_jobs.next(command)
        try:
            for _ in range(TRIES):
                with suppress(NeverBegunError):
                    status = self._see_through(
                        job, command, stage_jobs, output, on_start
                    )
                    if status:
                        stage_jobs.drop_jobs()
                    return status
                job = stage_jobs.again(command)
        except (CommandStoppedError, CommandLostError, TimeIsUpError):
            stage_jobs.drop_jobs()
            raise
        raise RunnerError(f"Slurm has lost {TRIES} jobs before they have begun")

    def _see_through(
        self,
        job: Job,
        command: Command,
        stage_jobs: StageJobs,
        output: Output,
        on_start: OnStart,
    ) -> int:
        if job.id is None:
            self._submit(job, command, stage_jobs)
        return self._follow(job, output, on_start)

    def _submit(self, job: Job, command: Command, stage_jobs: StageJobs) -> None:
        """Have a job in Slurm's queue, once or more: it runs once."""
        env = _portable(os.environ if command.env is None else command.env)
        while job.id is None:
            self._refuse_if_closed()
            try:
                if not job.is_new:
                    # NOTE: whoever has submitted it was cut off
                    found = self._slurm.states().get(job.token)
                    if found:
                        job.id = found[-1].job
                        break
                    if job.bar():
                        raise NeverBegunError
                    job.id = job.claim[0]
                    break
                job.is_new = False
                job.id = self._slurm.submit(
                    job.folder.path, job.name, job.token, command.requests, env
                )
            except SlurmSilentError as exc:
                self._tell_silence(exc)
                self._sleep(ASK)
        stage_jobs.write()

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise RunnerClosedError

    def _follow(self, job: Job, output: Output, on_start: OnStart) -> int:
        """Pass on what a job prints, and return its status when it has ended.

        Raises:
            NeverBegunError: Slurm knows nothing of it, and never will run it.
        """
        with self._news:
            self._following.add(job)
            was_late = self._cancelled_at is not None
        try:
            if was_late:
                self._cancel([job])
            return self._follow_to_end(job, output, on_start)
        finally:
            with self._news:
                self._following.discard(job)

    def _follow_to_end(self, job: Job, output: Output, on_start: OnStart) -> int:
        streams = [_Stream(job, name, name, output) for name in ("stdout", "stderr")]
        watch = _Watch(job, self._clock)
        pause, has_begun = FIRST, False
        while True:
            end = job.end
            if not has_begun and (claim := job.claim):
                has_begun, pause = True, FIRST
                on_start(claim[-1])
            # NOTE: only after that file, so that nothing is missed
            is_over = end is not None and end[1] != "1"
            if any(list(map(_Stream.flush if is_over else _Stream.read, streams))):
                pause = FIRST
            if end is not None and is_over:
                if end[1] == "late":
                    raise TimeIsUpError
                return end[0]
            if self._is_closed and self._cancelled_at is None:
                raise RunnerClosedError
            if ended := self._ended(job, watch, has_told=end is not None):
                if end is not None and ended.state in ("COMPLETED", "FAILED"):
                    return end[0]
                _Stream(job, "slurm.log", "stderr", output).flush()
                raise _reason(job, ended)
            self._give_up_if_due(job)
            self._sleep(pause)
            pause = min(pause * 1.5, SLOWEST)

    def _ended(self, job: Job, watch: "_Watch", has_told: bool) -> Optional[Seen]:
        """How a job has ended by what Slurm knows; None if it may be running.

        Args:
            has_told: whether its command has ended.

        Raises:
            NeverBegunError: it is not in the queue, and will not run.
            CommandLostError: Slurm has lost it, and nothing of it lives.
        """
        is_ending = has_told or self._cancelled_at is not None
        states = self._ask(watch.since, ASK_OFTEN if is_ending else ASK)
        if states is None:
            return None
        claim, known = job.claim, states.get(job.token, [])
        # NOTE: one that was submitted twice is the one that has begun, or any
        known = [seen for seen in known if not claim or seen.job == claim[0]]
        known.sort(key=lambda seen: seen.state not in FINAL)
        seen = known[-1] if known else None
        if seen is None:
            seen = self._slurm.accounted(job.id or claim[0], job.name)
            if seen is None or seen.state not in FINAL:
                if not claim:
                    if job.bar():
                        raise NeverBegunError
                    return None
                if watch.is_quiet(LEASE):
                    raise CommandLostError(
                        claim[-1], f"Slurm knows nothing of job {claim[0]} any more", 1
                    )
                return None
        if seen.state not in FINAL:
            return None
        if seen.state == "CANCELLED" and seen.nodes and not claim and job.bar():
            # NOTE: a node has refused it, such as for its ID that another one has there
            raise NeverBegunError
        if seen.state in _OUT_OF_SIGHT and claim:
            job.revoke()
            return seen if watch.is_quiet(LEASE) else None
        settled = is_ending or watch.has_settled(SETTLE)
        return seen if settled else None

    # Slurm's answers, for all jobs at once

    def _ask(self, since: float, every: float) -> Optional[Mapping[str, list[Seen]]]:
        """What Slurm knows of jobs; None if it has not told since then."""
        if self._clock() - self._asked_at >= every and self._asking.acquire(False):
            try:
                begun = self._clock()
                self._states = self._slurm.states()
                self._answered_at, self._silence = begun, None
                self._tell_queue()
            except SlurmSilentError as exc:
                self._tell_silence(exc)
            finally:
                self._asked_at = self._clock()
                self._asking.release()
        is_known = self._silence is None and self._answered_at > since
        return self._states if is_known else None

    def _tell_silence(self, exc: SlurmSilentError) -> None:
        self._silence = self._silence or Wait(self._clock)
        if (lasting := self._silence.is_to_be_told()) is not None:
            text = " ".join(str(exc).split()) or "no answer"
            say(f"Waiting for Slurm {lasting}".rstrip() + f": {text}; its jobs go on")

    def _tell_queue(self) -> None:
        """Say that no job runs, if that has been so for a while, and why."""
        with self._news:
            tokens = [job.token for job in self._following]
        seen = [seen for token in tokens for seen in self._states.get(token, ())]
        reasons = {each.reason for each in seen if each.state in WAITING}
        if not seen or any(each.state not in WAITING for each in seen):
            self._queue = None
        elif self._queue is None:
            self._queue = Wait(self._clock)
            self._queue.is_to_be_told()
        elif (lasting := self._queue.is_to_be_told()) is not None:
            why = ", ".join(sorted(reasons))
            say(f"Waiting for Slurm to start {len(seen)} jobs {lasting}: {why}")

    # The end of a run

    def signal(self, signum: int) -> None:
        with self._news:
            self._is_closed = True
            if signum == signal.SIGINT and not self._detach:
                self._cancelled_at = self._cancelled_at or self._clock()
            jobs, is_to_end = list(self._following), self._cancelled_at is not None
            self._news.notify_all()
        if jobs and is_to_end:
            threading.Thread(
                target=self._cancel,
                args=(jobs, signum == SIGKILL),
                name="dvc-scancel",
                daemon=True,
            ).start()

    def _cancel(self, jobs: Sequence[Job], kill: bool = False) -> None:
        with suppress(SlurmSilentError):
            # NOTE: what has the ID of a job need not be that job
            states = self._slurm.states()
            seen = [seen for job in jobs for seen in states.get(job.token, ())]
            if ids := [each.job for each in seen if each.state not in FINAL]:
                self._slurm.cancel(ids)
                if kill:
                    self._slurm.cancel(ids, kill=True)

    def _give_up_if_due(self, job: Job) -> None:
        if self._cancelled_at and self._clock() - self._cancelled_at > GIVE_UP:
            raise RunnerError(
                f"Slurm job {job.id} could not be cancelled; the next run with "
                "--runner slurm waits for it"
            )

    def close(self) -> None:
        self._is_closed = True
        for stage, stage_jobs in list(self._stages.items()):
            if not stage_jobs.jobs:
                self.forget(stage)
            stage_jobs.close()

    def _wait(self, seconds: float) -> None:
        with self._news:
            self._news.wait(seconds)


class _Stream:
    """What a job prints into one of its files, passed on in whole lines."""

    def __init__(self, job: Job, file: str, name: str, output: Output):
        self._job, self._file, self._name, self._output = job, file, name, output
        self._offset = 0
        self._begun = b""  # a line without its end

    def read(self) -> bool:
        """Pass on what there is; return whether there was something."""
        chunk = self._job.read(self._file, self._offset, LONGEST)
        self._offset += len(chunk)
        data = self._begun + chunk
        end = 1 + max(data.rfind(b"\n"), data.rfind(b"\r"))
        if len(data) - end > LONGEST:
            end = len(data)
        self._begun = data[end:]
        if end:
            self._output(self._name, data[:end])
        return bool(chunk)

    def flush(self) -> bool:
        """Pass on all that is left, as :meth:`read` does with what there is."""
        is_new = self.read()
        while self.read():
            pass
        if self._begun:
            self._output(self._name, self._begun)
            self._begun = b""
        return is_new


class _Watch:
    """What is known of a job from one look to the next."""

    def __init__(self, job: Job, clock: Callable[[], float]):
        self.since = clock()
        self._job, self._clock = job, clock
        self._sign: Optional[tuple[int, float]] = None
        self._ended_at: Optional[float] = None

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing of it lives: it says so, or has given no sign since then."""
        if STOPPED in self._job.folder.files():
            return True
        sign = self._job.last_sign()
        if self._sign is None or self._sign[0] != sign:
            self._sign = sign, self._clock()
        return self._clock() - self._sign[1] >= seconds

    def has_settled(self, seconds: float) -> bool:
        """Whether so long has passed since the first call."""
        self._ended_at = self._ended_at or self._clock()
        return self._clock() - self._ended_at >= seconds


def _reason(job: Job, ended: Seen) -> Exception:
    """Why a job was ended that cannot tell by itself."""
    if ended.state not in _ENDS and job.claim:
        return CommandStoppedError(
            f"Slurm job {ended.job} was killed ({ended.state}, {ended.reason}); does "
            "it need more memory than it asks for?"
        )
    if ended.state not in _ENDS:
        return CommandStoppedError(
            f"Slurm job {ended.job} ended without a word ({ended.state}, "
            f"{ended.reason or 'no reason'}); is '{job.folder.path}' on its nodes?"
        )
    how, is_lost = _ENDS[ended.state]
    text = f"Slurm job {ended.job} {how} ({ended.state})"
    if is_lost:
        return CommandLostError((job.claim or ["?"])[-1], text, tries=1)
    return CommandStoppedError(text)


def open_slurm(options: RunnerOptions) -> SlurmRunner:
    """Have commands run by Slurm; an :data:`OpenRunner`."""
    missing = [name for name in ("sbatch", "squeue", "scancel") if not which(name)]
    if missing:
        raise RunnerError(
            f"runner '{options.name}': this machine has no {', '.join(missing)}; run "
            "dvc where you submit Slurm jobs"
        )
    return SlurmRunner(options.tmp_dir, options.detach)


def _portable(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job: without what is about another job, or this machine."""
    return {
        name: value
        for name, value in env.items()
        if name == "SLURM_CONF" or not _LOCAL.fullmatch(name)
    }


def _ignore(_stream: str, _data: bytes) -> None:
    """An output for those who need none."""
