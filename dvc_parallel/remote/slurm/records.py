"""What is kept of jobs, for this run and for the one that takes them up.

::

    .dvc/tmp/parallel/slurm/<stage>/     locked by the run that has the stage
        record                           which jobs, in the order of its commands
        <token>/job.sh                   what Slurm runs
                claim                    who runs it: one job, once; or nobody any more
                stdout, stderr           of the command
                alive                    touched while a process of it lives
                exit                     how it has ended
                revoked, stopped         it is to end; nothing of it lives

A claim is a hard link, which one process alone gets to make, also on NFS.  So a job
that Slurm starts twice, or that was submitted twice, runs once; and a job that nobody
knows of, as its submission was cut off, does not run any more once the claim was made
for nobody.
"""

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

from shortuuid import uuid

from dvc_parallel.engine.durable import sync_folder
from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.runner import Command, RunnerError

if sys.platform != "win32":
    import fcntl

RECORD, LOCK = "record", "lock"
CLAIM, EXIT, ALIVE = "claim", "exit", "alive"
REVOKED, STOPPED = "revoked", "stopped"
LARGEST = 2**20
# Seconds between two signs of life; from SIGTERM to SIGKILL where a command has to end.
BEAT, GRACE = 5, 10

# NOTE: Slurm sends SIGTERM to this shell as to the command, which may then come to a
# good end without being done: so it is told as well
_SCRIPT = """\
cd {folder} || exit 90
by="$SLURM_JOB_ID ${{SLURM_RESTART_COUNT:-0}} $(uname -n)"
echo "$by" > "by.$$" && ln "by.$$" claim 2> no-link
if [ "$(cat claim)" != "$by" ]; then
    echo "not run, as it was claimed by: $(cat claim no-link)" >&2
    exit 91
fi
own() {{
    grep -lszxF DVC_PARALLEL_SLURM={token} /proc/[0-9]*/environ | tr -dc '0-9\\n'
}}
stop() {{
    n=0
    while p=$(own); [ -n "$p" ]; do
        [ $n = 0 ] && kill -TERM $p
        [ $n -ge {grace} ] && kill -KILL $p
        n=$((n + 1)); sleep 1
    done
}}
beat() {{
    trap '' TERM
    while kill -0 $$ || [ -n "$(own)" ]; do
        touch alive
        if [ -e revoked ]; then stop; : > stopped; fi
        sleep {beat}
    done
}}
late() {{ trap '' TERM; sleep "$1"; : > late; stop; }}
touch alive
term=0; trap 'term=1' TERM
(
    cd {cwd} || exit 92
    export DVC_PARALLEL_SLURM={token}
    exec {args}
) < /dev/null >> stdout 2>> stderr &
pid=$!
beat > /dev/null 2>&1 & helpers=$!
{limit}while :; do wait $pid; status=$?; kill -0 $pid 2> /dev/null || break; done
[ -e revoked ] && exit 91
if [ -e late ]; then status=124; term=late; fi
echo "$status $term" > exit.part && mv exit.part exit
kill -KILL $helpers
exit $status
"""
_LIMIT = """\
late {:.3f} > /dev/null 2>&1 & helpers="$helpers $!"
"""


@dataclass(eq=False)
class Job:
    """A command as a job of Slurm, which may not be submitted yet.

    Attributes:
        stage: whose command it is.
        folder: its own.
        token: unlike those of all other jobs.
        id: Slurm's; None if that is not known.
        is_new: whether Slurm cannot have heard of it.
    """

    stage: str
    folder: OwnFolder
    token: str
    id: Optional[str] = None
    is_new: bool = False

    @property
    def name(self) -> str:
        """Its name for users, and for Slurm's accounts; of no other job."""
        plain = re.sub(r"[^\w.@=-]", "_", self.stage, flags=re.ASCII)
        return f"{plain}.{self.token[:8]}"

    def read(self, name: str, offset: int = 0, most: int = LARGEST) -> bytes:
        """A part of a file; nothing if it is not there."""
        # NOTE: opened anew each time, which is when NFS looks what others have written
        try:
            with self.folder.read(name) as fobj:
                fobj.seek(offset)
                return fobj.read(most)
        except FileNotFoundError:
            return b""

    @property
    def claim(self) -> list[str]:
        """The job that runs it, how often that was restarted, and where; or nothing."""
        return self.read(CLAIM).decode(errors="replace").split()

    @property
    def end(self) -> Optional[tuple[int, str]]:
        """Its exit status, and "0", "1" for SIGTERM, or "late"; None before its end."""
        fields = self.read(EXIT).decode(errors="replace").split()
        return (int(fields[0]), fields[1]) if len(fields) == 2 else None

    def last_sign(self) -> int:
        """When it has shown last that it lives, by the clock of the disk, in ns."""
        with suppress(OSError):
            fd = self.folder.open(ALIVE, os.O_RDONLY)
            try:
                return os.fstat(fd).st_mtime_ns
            finally:
                os.close(fd)
        return 0

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
        stage: its name.

    Attributes:
        stage: its name.
        inputs: what the commands are for.
        outs: paths of its outputs.
        jobs: one for each command that has begun.
        outputs: hashes of what they have made, by path, once these are known.
        position: how many of the jobs this run has come to.

    Raises:
        RunnerError: another run has it.
    """

    def __init__(self, folder: OwnFolder, stage: str):
        self._folder, self.stage = folder, stage
        self.inputs = ""
        self.outs: list[str] = []
        self.jobs: list[Job] = []
        self.outputs: dict[str, str] = {}
        self.position = 0
        self._fd: Optional[int] = folder.open(LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[name-defined]
        except OSError:
            self.close()
            raise RunnerError(
                f"stage '{stage}' has Slurm jobs of another `dvc repro`, maybe on "
                "another machine; wait for its end, or stop it"
            ) from None
        with suppress(OSError, ValueError, KeyError, TypeError):
            with folder.read(RECORD, LARGEST) as fobj:
                record = json.load(fobj)
            self.inputs, self.outputs = record["inputs"], dict(record["outputs"])
            self.stage, self.outs = str(record["stage"]), [*map(str, record["outs"])]
            for entry in record["jobs"]:
                token = str(entry["token"])
                if token.isalnum():
                    at, id_ = folder.folder(token), entry["id"] and str(entry["id"])
                    self.jobs.append(Job(stage, at, token, id_))

    def take_up(self, inputs: str, outs: Mapping[str, Callable[[], str]]) -> bool:
        """As for :meth:`LastingRunner.take_up`."""
        self.position = 0
        ends = [job.end for job in self.jobs]
        if not ends or self.inputs != inputs or None in ends[:-1]:
            return False
        if any(end is not None and end != (0, "0") for end in ends):
            return False
        if ends[-1] is None:
            return True
        exit_file = self.jobs[-1].folder.path_of(EXIT)
        # NOTE: both are told by the clock of the disk
        end = os.lstat(exit_file).st_ctime_ns
        return all(
            # NOTE: DVC itself may have replaced it, by the same from its cache
            _newest(out) <= end or self.outputs.get(out) == hash_now()
            for out, hash_now in outs.items()
        )

    def begin(self, inputs: str, outs: Iterable[str]) -> None:
        """As for :meth:`LastingRunner.begin`."""
        self.inputs, self.outs = inputs, [*outs]
        self.outputs, self.position = {}, 0
        if self.jobs:
            self.drop_jobs()

    def next(self, command: Command) -> Job:
        """The job of the next command: one that was taken up, or a new one."""
        self.position += 1
        if self.position > len(self.jobs):
            self.jobs.append(self._prepare(command))
            self.write()
        return self.jobs[self.position - 1]

    def again(self, command: Command) -> Job:
        """Another job for a command whose own has not begun, and never will."""
        self.jobs[self.position - 1] = job = self._prepare(command)
        self.write()
        return job

    def _prepare(self, command: Command) -> Job:
        token = uuid()
        job = Job(self.stage, self._folder.folder(token), token, is_new=True)
        job.folder.make()
        args = [command.args] if isinstance(command.args, str) else command.args
        limit = "" if command.timeout is None else _LIMIT.format(command.timeout)
        with job.folder.replace("job.sh") as fobj:
            fobj.write(
                _SCRIPT.format(
                    folder=shlex.quote(job.folder.path),
                    token=token,
                    cwd=shlex.quote(command.cwd or os.getcwd()),
                    args=shlex.join(args),
                    limit=limit,
                    beat=BEAT,
                    grace=GRACE,
                )
            )
        return job

    def write(self) -> None:
        """Put the record on the disk."""
        jobs = [{"token": job.token, "id": job.id} for job in self.jobs]
        record = {
            "stage": self.stage,
            "inputs": self.inputs,
            "outs": self.outs,
            "outputs": self.outputs,
            "jobs": jobs,
        }
        with self._folder.replace(RECORD) as fobj:
            json.dump(record, fobj)
            fobj.flush()
            os.fsync(fobj.fileno())
        sync_folder(self._folder.path)

    def drop_jobs(self) -> None:
        """Forget the jobs, which have ended."""
        jobs, self.jobs = self.jobs, []
        self.write()
        for job in jobs:
            with suppress(OSError):
                self._folder.remove(job.token)

    def close(self) -> None:
        """Leave it to the next run."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def folder_of(tmp_dir: str, stage: str = "") -> OwnFolder:
    """The folder of a stage, or of all of them."""
    top = OwnFolder(tmp_dir, "parallel", "slurm")
    key = hashlib.sha256(stage.encode(errors="surrogateescape")).hexdigest()[:20]
    return top.folder(key) if stage else top


class Left(NamedTuple):
    """What a run that has ended has left of a stage, and may be running.

    Attributes:
        outs: paths that it may write to.
        jobs: IDs of Slurm; an empty one if it may not have been submitted.
    """

    stage: str
    outs: list[str]
    jobs: list[str]
    folder: str


def left_by_others(tmp_dir: str) -> Iterator[Left]:
    """What may be running of runs that have ended; without asking Slurm."""
    top = folder_of(tmp_dir)
    for name in top.folders():
        try:
            # NOTE: path locks are enough where its run goes on
            stage_jobs = StageJobs(top.folder(name), "")
        except (OSError, RunnerError):
            continue
        stage_jobs.close()
        jobs = [job.id or "" for job in stage_jobs.jobs if job.end is None]
        if jobs:
            path = top.path_of(name)
            yield Left(stage_jobs.stage, stage_jobs.outs, jobs, path)


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
