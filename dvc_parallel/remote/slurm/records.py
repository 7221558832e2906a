"""What is kept of jobs, for this run and for the one that takes them up.

::

    .dvc/tmp/parallel/slurm/<stage>/     locked by the run that has the stage
        record                           which jobs, in the order of its commands
        <job>/claim                      who runs it: one job, once; or nobody any more
              stdout, stderr             of the command
              alive                      touched while a process of it lives
              exit, memory               how it has ended; kB at its peak
              revoked, stopped           it is to end; nothing of it lives
"""

import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Optional

from dvc.exceptions import DvcException
from shortuuid import uuid

from dvc_parallel.engine.durable import sync_folder
from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.runner import RunnerError
from dvc_parallel.engine.usage import Usage

RECORD, LOCK = "record", "lock"
CLAIM, EXIT, ALIVE, MEMORY = "claim", "exit", "alive", "memory"
REVOKED, STOPPED = "revoked", "stopped"
LARGEST = 2**20
# How a command ends that is done: its status, and that nobody has sent it a signal.
GOOD = (0, "0")

_NAME = re.compile(r"[\w.@=-]*\.\w{8}", re.ASCII)


@dataclass(eq=False)
class Job:
    """A command as a job of Slurm, which may not be submitted.

    Attributes:
        folder: its own.
        name: of no other job, for Slurm and users.
        id: Slurm's; None if that is not known.
    """

    folder: OwnFolder
    name: str
    id: Optional[str] = None
    _sign: Optional[tuple[int, float]] = None

    def read(self, name: str, offset: int = 0) -> bytes:
        """A part of a file; nothing if it is not there."""
        # NOTE: opened anew each time, which is when NFS looks what others have written
        with suppress(FileNotFoundError), self.folder.read(name) as fobj:
            fobj.seek(offset)
            return fobj.read(LARGEST)
        return b""

    def _fields(self, name: str) -> list[str]:
        return self.read(name).decode(errors="replace").split()

    @property
    def claim(self) -> list[str]:
        """The job that runs it, how often that was restarted, and where; or nothing."""
        return self._fields(CLAIM)

    @property
    def end(self) -> Optional[tuple[int, str]]:
        """Its exit status, and "late" or "1" if that or Slurm may have ended it.

        None before its end.
        """
        fields = self._fields(EXIT)
        return (int(fields[0]), fields[1]) if fields else None

    @property
    def usage(self) -> Optional[Usage]:
        """What its command has used, if that is known."""
        times = re.findall(rb"(\d+)m(\d+)[.,](\d+)s", self.read(EXIT))
        if len(times) != 4:
            return None
        # NOTE: the latter two are of what the shell has waited for
        cpu = sum(60 * int(m) + float(b"%s.%s" % (s, part)) for m, s, part in times[2:])
        took = (self.time_of(EXIT) - self.time_of(CLAIM)) / 1e9
        peak = self.read(MEMORY).strip()
        memory = 1024 * int(peak) if peak.isdigit() else None
        return Usage(max(0.0, round(took, 4)), round(cpu, 4), memory)

    def time_of(self, name: str) -> int:
        """When a file was written last, by the clock of the disk, in ns."""
        with suppress(OSError), self.folder.read(name) as fobj:
            return os.fstat(fobj.fileno()).st_mtime_ns
        return 0

    def is_quiet(self, seconds: float, now: float) -> bool:
        """Whether nothing of it lives: it says so, or has given no sign since then.

        Args:
            seconds: for which it has to give none, since the first call at least.
        """
        if STOPPED in self.folder.files():
            return True
        sign = self.time_of(ALIVE)
        if self._sign is None or self._sign[0] != sign:
            self._sign = sign, now
        return now - self._sign[1] >= seconds

    def bar(self) -> bool:
        """Have it never begin.

        Returns:
            bool: whether that is so; not if it has begun.
        """
        try:
            os.close(self.folder.open(CLAIM, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            # NOTE: where that was done before, nobody has signed it
            return not self.claim
        return True

    def revoke(self) -> None:
        """Have it end, wherever it runs, and whatever it says then not count."""
        os.close(self.folder.open(REVOKED, os.O_WRONLY | os.O_CREAT))


class StageJobs:
    """The jobs of a stage.  Owned by the run that has made it, until :meth:`close`.

    Args:
        folder: of the stage, which is there.
        stage: its name, for errors.

    Attributes:
        record: the stage, what its commands are for, paths of its outputs, and hashes
            of these once they are known.
        jobs: one for each command that has begun.

    Raises:
        RunnerError: another run has it.
    """

    def __init__(self, folder: OwnFolder, stage: str = ""):
        self._folder = folder
        self.jobs: list[Job] = []
        self.record: dict[str, Any] = {}
        self._position = 0  # how many of the jobs this run has come to
        self._fd: Optional[int] = folder.open(LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[attr-defined]
        except OSError:
            self.close()
            raise RunnerError(
                f"stage '{stage}' has Slurm jobs of another `dvc repro`, maybe on "
                "another machine; wait for its end, or stop it"
            ) from None
        # NOTE: a clone can bring anything there
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            with folder.read(RECORD, LARGEST) as fobj:
                record = json.load(fobj)
            self.record = {
                "stage": str(record["stage"]),
                "inputs": record["inputs"],
                "outs": [*map(str, record["outs"])],
                "outputs": dict(record["outputs"]),
            }
            for name, id_ in record["jobs"].items():
                if _NAME.fullmatch(name):
                    self.jobs.append(Job(folder.folder(name), name, id_ and str(id_)))

    def take_up(self, inputs: str, outs: Mapping[str, Callable[[], str]]) -> bool:
        """As for :meth:`LastingRunner.take_up`."""
        if not self.jobs or self.record["inputs"] != inputs:
            return False
        *before, last = (job.end for job in self.jobs)
        if any(end != GOOD for end in before) or last not in (None, GOOD):
            return False
        if last is None:
            return True
        exit_file = self.jobs[-1].folder.path_of(EXIT)
        # NOTE: both are told by the clock of the disk
        end = os.lstat(exit_file).st_ctime_ns
        return all(
            # NOTE: DVC itself may have replaced it, by the same from its cache
            _newest(out) <= end or self.record["outputs"].get(out) == hash_now()
            for out, hash_now in outs.items()
        )

    def begin(self, stage: str, inputs: str, outs: Iterable[str]) -> None:
        """As for :meth:`LastingRunner.begin`."""
        self.record = {"stage": stage, "inputs": inputs, "outs": [*outs], "outputs": {}}
        self.drop_jobs()

    def next(self) -> Optional[Job]:
        """The job of the next command, if one was taken up."""
        if self._position == len(self.jobs):
            return None
        self._position += 1
        return self.jobs[self._position - 1]

    def add(self) -> Job:
        """A job for the next command, on the disk before anybody knows of it."""
        plain = re.sub(r"[^\w.@=-]", "_", self.record["stage"][:100], flags=re.ASCII)
        name = f"{plain}.{uuid()[:8]}"
        job = Job(self._folder.folder(name), name)
        job.folder.make()
        self.jobs.append(job)
        self._position += 1
        self.write()
        return job

    def drop_last(self) -> None:
        """Forget the last job, which has not begun, and never will."""
        self.jobs.pop()
        self._position -= 1

    def write(self) -> None:
        """Put the record on the disk."""
        jobs = {job.name: job.id for job in self.jobs}
        with self._folder.replace(RECORD) as fobj:
            json.dump({**self.record, "jobs": jobs}, fobj)
            fobj.flush()
            os.fsync(fobj.fileno())
        sync_folder(self._folder.path)

    def drop_jobs(self) -> None:
        """Forget the jobs, which have ended."""
        jobs, self.jobs, self._position = self.jobs, [], 0
        if jobs:
            self.write()
        for job in jobs:
            with suppress(OSError):
                self._folder.remove(job.name)

    def close(self) -> None:
        """Leave it to the next run."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def all_stages(tmp_dir: str) -> OwnFolder:
    """The folder of the folders of stages."""
    return OwnFolder(tmp_dir, "parallel", "slurm")


def key_of(stage: str) -> str:
    """The name of the folder of a stage."""
    return hashlib.sha256(stage.encode(errors="surrogateescape")).hexdigest()[:20]


def check_left(tmp_dir: str, stages: Iterable[Any], takes_up: bool) -> None:
    """As for :func:`..choose_runner.check_jobs_left`; Slurm is not asked.

    Args:
        takes_up: whether jobs of the stages themselves are taken up.
    """
    stages = list(stages)
    names = {stage.addressing for stage in stages}
    outs = [os.path.join(out.fs_path, "") for stage in stages for out in stage.outs]
    top = all_stages(tmp_dir)
    for name in top.folders():
        try:
            # NOTE: path locks are enough where its run goes on
            left = StageJobs(top.folder(name))
        except (OSError, RunnerError):
            continue
        left.close()
        jobs = [job.id or "" for job in left.jobs if job.end is None]
        if not jobs:
            continue
        may = f"Slurm may run stage '{left.record['stage']}' (job {' '.join(jobs)})"
        if left.record["stage"] in names:
            if not takes_up:
                raise DvcException(
                    f"{may} for an earlier run; `dvc repro --runner slurm` takes it "
                    "up, or stops it"
                )
            continue
        for path in (os.path.join(path, "") for path in left.record["outs"]):
            if any(path.startswith(out) or out.startswith(path) for out in outs):
                raise DvcException(
                    f"{may} for an earlier run, which writes to '{path[:-1]}', as "
                    f"stages of this run do; cancel or await it, and remove "
                    f"'{top.path_of(name)}'"
                )


def _newest(path: str) -> int:
    """When a file, or a folder or anything in it, has changed last, in ns.

    As far in the future as can be if it is not there.
    """
    try:
        newest = os.lstat(path).st_ctime_ns
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                status = os.lstat(os.path.join(folder, name))
                newest = max(newest, status.st_ctime_ns)
    except OSError:
        return sys.maxsize
    return newest
