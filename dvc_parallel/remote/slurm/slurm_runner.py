"""Commands as Slurm jobs, as the executor knows them."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from shutil import which
from typing import Callable, Optional

from dvc_parallel.engine.lock_wait import Wait, say
from dvc_parallel.engine.pipes import Lines
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
from dvc_parallel.engine.usage import USAGE

from .client import ENDS, FINAL, LOST, WAITING, Seen, Slurm, SlurmSilentError
from .records import RECORD, Job, StageJobs, all_stages, key_of
from .script import script_of

# Seconds between two looks at the files of a job, at first and at most.
FIRST, SLOWEST = 0.05, 1.0
# Seconds between two questions to Slurm, and while jobs are being cancelled.
ASK, ASK_OFTEN = 5.0, 0.5
# Seconds for which the files of a job that has ended may still be on their way.
SETTLE = 5.0
# Seconds without a sign of life after which a job that Slurm has lost is dead.
LEASE = 30.0
# How many jobs of a command may be lost that Slurm has taken, but not begun.
TRIES = 3
# Seconds after which jobs that cannot be cancelled are left to the next run.
GIVE_UP = 30.0

# States in which processes may go on, where Slurm cannot see the node.
_OUT_OF_SIGHT = ("BOOT_FAIL", "NODE_FAIL")
# Variables that would have it be another job, or one of this machine.
_LOCAL = re.compile(
    r"SLURM(?!_CONF$).*|SBATCH_(?:ARRAY_INX|WAIT|REQUEUE|NO_REQUEUE)|TMPDIR|HOSTNAME|"
    r"DVC_PARALLEL_(?:RUN|JOB)"
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
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._folder = all_stages(tmp_dir)
        self._detach = detach
        self._slurm = slurm or Slurm()
        self._clock = clock
        self._sleep = sleep
        self._stages: dict[str, StageJobs] = {}
        self._is_closed = False
        self._cancelled_at: Optional[float] = None
        self._asking = threading.Lock()  # of what follows
        self._asked_at = -sys.maxsize * 1.0
        self._answer: Optional[tuple[float, list[Seen]]] = None
        self._silence: Optional[Wait] = None
        self._queue: Optional[Wait] = None

    # Stages

    def has_left(self, stage: str) -> bool:
        with suppress(OSError):
            return RECORD in self._folder.folder(key_of(stage)).files()
        return False

    def take_up(
        self, stage: str, inputs: str, outs: Mapping[str, Callable[[], str]]
    ) -> bool:
        return self._of(stage).take_up(inputs, outs)

    def _of(self, stage: str) -> StageJobs:
        if stage not in self._stages:
            folder = self._folder.folder(key_of(stage))
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
            self._cancel({job.name for job in left})
        for job in running:
            say(f"Waiting for Slurm job {job.claim[0]} of an earlier run to end")
            with suppress(CommandStoppedError, CommandLostError, TimeIsUpError):
                self._follow(job, lambda _stream, _data: None, ignore_start)
        stage_jobs.drop_jobs()

    def begin(self, stage: str, inputs: str, outs: Iterable[str]) -> None:
        self._of(stage).begin(stage, inputs, outs)

    def keep_outputs(self, stage: str, hashes: Mapping[str, str]) -> None:
        if stage_jobs := self._stages.get(stage):
            stage_jobs.record["outputs"] = {**hashes}
            stage_jobs.write()

    def forget(self, stage: str) -> None:
        if stage_jobs := self._stages.pop(stage, None):
            with suppress(OSError):
                self._folder.remove(key_of(stage))
            stage_jobs.close()

    # Commands

    def run(
        self, command: Command, output: Output, on_start: OnStart = ignore_start
    ) -> int:
        stage_jobs = self._stages[command.stage]
        job, lost = stage_jobs.next(), 0
        try:
            while lost < TRIES:
                job = job or self._submit(command, stage_jobs)
                with suppress(NeverBegunError):
                    status = self._follow(job, output, on_start)
                    if status:
                        stage_jobs.drop_jobs()
                    return status
                # NOTE: a busy controller may not have taken it at all
                lost += job.id is not None
                stage_jobs.drop_last()
                job = None
        except (CommandStoppedError, CommandLostError, TimeIsUpError):
            stage_jobs.drop_jobs()
            raise
        raise RunnerError(f"Slurm has lost {TRIES} jobs before they have begun")

    def _submit(self, command: Command, stage_jobs: StageJobs) -> Job:
        if self._is_closed:
            raise RunnerClosedError
        job = stage_jobs.add()
        env = os.environ if command.env is None else command.env
        try:
            job.id = self._slurm.submit(
                job.name,
                script_of(job, command),
                job.folder.path,
                command.requests,
                {name: env[name] for name in env if not _LOCAL.fullmatch(name)},
            )
            stage_jobs.write()
        except SlurmSilentError as exc:
            # NOTE: it may be submitted, which Slurm says when it answers
            self._tell_silence(exc)
        except RunnerError:
            if job.bar():
                stage_jobs.drop_jobs()
            raise
        return job

    def _follow(self, job: Job, output: Output, on_start: OnStart) -> int:
        """Pass on what a job prints, and return its status when it has ended.

        Raises:
            NeverBegunError: it has not begun, and never will.
        """
        if self._cancelled_at is not None:
            self._cancel({job.name})
        tails = [_Tail(job, name, name, output) for name in ("stdout", "stderr")]
        since, pause, has_begun = self._clock(), FIRST, False
        while True:
            end = job.end
            if not has_begun and (claim := job.claim):
                has_begun, pause = True, FIRST
                on_start(claim[-1])
            # NOTE: only after that file, so that nothing is missed
            is_new = [tail.read(to_end=end is not None) for tail in tails]
            status = self._status(job, end, since, output)
            if status is not None:
                return status
            pause = FIRST if any(is_new) else pause
            self._sleep(pause)
            pause = min(pause * 1.5, SLOWEST)

    def _status(
        self,
        job: Job,
        end: Optional[tuple[int, str]],
        since: float,
        output: Output,
    ) -> Optional[int]:
        """The status of a job that has ended; None if it may be running."""
        if end is None or end[1] == "1":
            if self._is_closed and self._cancelled_at is None:
                raise RunnerClosedError
            ended = self._ended(job, since, has_told=end is not None)
            if ended is None:
                return None
            if end is None or ended.state not in ("COMPLETED", "FAILED"):
                _Tail(job, "slurm.log", "stderr", output).read(to_end=True)
                raise _reason(job, ended)
        if usage := job.usage:
            output(USAGE, usage.to_bytes())
        if end[1] == "late":
            raise TimeIsUpError
        return end[0]

    def _ended(self, job: Job, since: float, has_told: bool) -> Optional[Seen]:
        """How a job has ended by what Slurm knows; None if it may be running.

        Args:
            since: when it was asked for, or taken up.
            has_told: whether its command has ended.

        Raises:
            NeverBegunError: it has not begun, and never will.
            RunnerError: it should have ended by now.
        """
        if self._cancelled_at and self._clock() - self._cancelled_at > GIVE_UP:
            raise RunnerError(
                f"Slurm job {job.id} could not be cancelled; the next run with "
                "--runner slurm waits for it"
            )
        is_ending = has_told or self._cancelled_at is not None
        states = self._ask(since, ASK_OFTEN if is_ending else ASK)
        if states is None:
            return None
        claim = job.claim
        # NOTE: one that was submitted twice is the one that has begun, or any
        known = [
            seen
            for seen in states
            if seen.name == job.name and (not claim or seen.job == claim[0])
        ]
        seen = min(known, key=lambda seen: seen.state in FINAL, default=None)
        if seen is None:
            seen = self._slurm.accounted(job.name, claim[0] if claim else job.id)
        if seen.state not in FINAL:
            return None
        if claim and seen.state in (LOST, *_OUT_OF_SIGHT):
            if seen.state != LOST:
                job.revoke()
            return seen if job.is_quiet(LEASE, self._clock()) else None
        # NOTE: a node may refuse it, such as for its ID that another one has there
        is_refused = seen.state == "CANCELLED" and seen.nodes
        if not claim and (seen.state == LOST or is_refused):
            if job.bar():
                raise NeverBegunError
            return None
        patience = 0 if is_ending else SETTLE
        return seen if job.is_quiet(patience, self._clock()) else None

    # Slurm's answers, for all jobs at once

    def _ask(self, since: float, every: float) -> Optional[list[Seen]]:
        """What Slurm knows of jobs; None if it has not told since then."""
        if self._clock() - self._asked_at >= every and self._asking.acquire(False):
            try:
                begun = self._clock()
                self._answer = begun, self._slurm.states()
                self._silence = None
                self._tell_queue(self._answer[1])
            except SlurmSilentError as exc:
                self._answer = None
                self._tell_silence(exc)
            finally:
                self._asked_at = self._clock()
                self._asking.release()
        answer = self._answer
        return answer[1] if answer and answer[0] > since else None

    def _tell_silence(self, exc: SlurmSilentError) -> None:
        self._silence = self._silence or Wait(self._clock)
        text = " ".join(str(exc).split()) or "no answer"
        self._silence.tell(f"Slurm, whose jobs go on: {text}")

    def _tell_queue(self, states: Iterable[Seen]) -> None:
        """Say that no job runs, if that has been so for a while, and why."""
        names = self._names()
        seen = [s for s in states if s.name in names and s.state not in FINAL]
        if not seen or any(each.state not in WAITING for each in seen):
            self._queue = None
        elif self._queue is None:
            self._queue = Wait(self._clock)
            self._queue.is_to_be_told()
        else:
            why = ", ".join(sorted({each.reason for each in seen}))
            self._queue.tell(f"Slurm to start {len(seen)} jobs: {why}")

    def _names(self) -> set[str]:
        """The names of all jobs that this run follows."""
        stages = list(self._stages.values())
        return {job.name for stage_jobs in stages for job in [*stage_jobs.jobs]}

    # The end of a run

    def signal(self, signum: int) -> None:
        if signum == signal.SIGINT and not self._detach:
            self._cancelled_at = self._cancelled_at or self._clock()
        self._is_closed = True
        if self._cancelled_at is not None:
            threading.Thread(
                target=lambda: self._cancel(self._names(), signum == SIGKILL),
                name="dvc-scancel",
                daemon=True,
            ).start()

    def _cancel(self, names: set[str], kill: bool = False) -> None:
        with suppress(SlurmSilentError):
            # NOTE: what has the ID of a job need not be that job
            seen = [seen for seen in self._slurm.states() if seen.name in names]
            if ids := [each.job for each in seen if each.state not in FINAL]:
                self._slurm.cancel(ids, kill)

    def close(self) -> None:
        self._is_closed = True
        for stage, stage_jobs in list(self._stages.items()):
            if not stage_jobs.jobs:
                self.forget(stage)
            stage_jobs.close()


class _Tail:
    """What a job prints into one of its files, from one look to the next."""

    def __init__(self, job: Job, file: str, stream: str, output: Output):
        self._job, self._file = job, file
        self._lines = Lines(stream, output)
        self._offset = 0

    def read(self, to_end: bool) -> bool:
        """Pass on what there is; return whether there was something."""
        is_new = False
        while chunk := self._job.read(self._file, self._offset):
            is_new = True
            self._offset += len(chunk)
            self._lines.add(chunk)
            if not to_end:
                break
        if to_end:
            self._lines.flush()
        return is_new


def _reason(job: Job, ended: Seen) -> Exception:
    """Why a job was ended that cannot tell by itself."""
    if ended.state in ENDS:
        how, is_lost = ENDS[ended.state]
        text = f"Slurm job {ended.job} {how} ({ended.state})"
        if is_lost:
            return CommandLostError((job.claim or ["?"])[-1], text, tries=1)
        return CommandStoppedError(text)
    how, hint = (
        ("was killed", "does it need more memory than it asks for?")
        if job.claim
        else ("ended without a word", f"is '{job.folder.path}' on its nodes?")
    )
    why = f"{ended.state}, {ended.reason or 'no reason'}"
    return CommandStoppedError(f"Slurm job {ended.job} {how} ({why}); {hint}")


def open_slurm(options: RunnerOptions) -> SlurmRunner:
    """Have commands run by Slurm; an :data:`OpenRunner`."""
    missing = [name for name in ("sbatch", "squeue", "scancel") if not which(name)]
    if missing:
        raise RunnerError(
            f"runner '{options.name}': this machine has no {', '.join(missing)}; run "
            "dvc where you submit Slurm jobs"
        )
    return SlurmRunner(options.tmp_dir, options.detach)
