"""Slurm's own commands, and what they tell of jobs.

Whoever asks gets one of three answers: what Slurm knows of a job, that it knows of
none, or :class:`SlurmSilentError`, which says nothing about a job.

Tried with Slurm 22.05; formats: the manual pages of sbatch, squeue and sacct.
"""

import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Optional

from dvc_parallel.engine.runner import RunnerError
from dvc_parallel.scheduling.slurm_options import arguments

# A job that Slurm knows nothing of.
LOST = "LOST"
# What Slurm does to jobs, and whether they are worth another try.
ENDS = {
    LOST: ("is unknown to Slurm by now", True),
    "BOOT_FAIL": ("its node did not boot", True),
    "NODE_FAIL": ("its node failed", True),
    "PREEMPTED": ("was preempted", True),
    "CANCELLED": ("was cancelled", False),
    "DEADLINE": ("reached its deadline", False),
    "OUT_OF_MEMORY": ("ran out of memory", False),
    "TIMEOUT": ("reached its time limit", False),
}
# States that a job does not leave any more; in all others, it may yet write.
FINAL = frozenset((*ENDS, "COMPLETED", "FAILED"))
# Those in which it does not run yet.
WAITING = frozenset(("CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_HOLD"))
# Seconds that a command of Slurm may take. Without its controller, they take some 10.
PATIENCE = 60.0
# What sbatch says where the job may have been accepted all the same, or may be later.
_SILENT = ("unable to contact", "timed out", "connection", "temporar", "zero bytes")


class SlurmSilentError(Exception):
    """Slurm's controller does not answer."""


class Seen(NamedTuple):
    """What Slurm tells of a job."""

    name: str
    job: str
    state: str
    reason: str = ""
    nodes: str = ""


class Slurm:
    """Slurm, as the user of this process.  Any thread may call any method."""

    def submit(
        self,
        name: str,
        script: str,
        folder: str,
        requests: Mapping[str, str],
        env: Mapping[str, str],
    ) -> str:
        """Submit a job.

        Args:
            name: of no other job.
            folder: for what goes wrong with the script itself.
            requests: as for :func:`arguments`.

        Returns:
            str: ID of the job.

        Raises:
            SlurmSilentError: it may or may not be submitted.
            RunnerError: Slurm refuses it.
        """
        command = [
            *("sbatch", "--parsable", "--no-requeue", "--open-mode=append"),
            *(f"--job-name={name}", f"--chdir={folder}"),
            *("--output=slurm.log", "--error=slurm.log", "--export=ALL"),
            *arguments(requests),
        ]
        told = _call(command, script, env)
        if told.returncode:
            error = told.stderr.strip()
            # NOTE: one that was killed says nothing
            if not error or any(part in error.lower() for part in _SILENT):
                raise SlurmSilentError(error)
            raise RunnerError(f"Slurm refuses a job: {error}")
        return told.stdout.strip().partition(";")[0]

    def states(self) -> list[Seen]:
        """What is known of all jobs of the user.

        Raises:
            SlurmSilentError: nothing is known.
        """
        told = _call(
            ["squeue", "--noheader", "--states=all", "--me", "--format=%j|%A|%T|%r|%N"]
        )
        if told.returncode:
            raise SlurmSilentError(told.stderr.strip())
        lines = (line.rsplit("|", 4) for line in told.stdout.splitlines())
        return [Seen(*fields) for fields in lines if len(fields) == 5]

    def accounted(self, name: str, job: Optional[str]) -> Seen:
        """How a job has ended that has left the queue, where there are accounts.

        Args:
            job: its ID; compared with the name, as IDs are given out again.
        """
        states = [LOST]
        if job and shutil.which("sacct"):
            form = "--format=JobName,JobIDRaw,State"
            told = _call(["sacct", "-D", "-n", "-P", "-X", f"--jobs={job}", form])
            lines = [line.rsplit("|", 2) for line in told.stdout.splitlines()]
            states += [line[2].split()[0] for line in lines if line[:2] == [name, job]]
        state = states[-1] if states[-1] in FINAL else LOST
        return Seen(name, job or "?", state)

    def cancel(self, jobs: Collection[str], kill: bool = False) -> None:
        """Ask Slurm to end jobs; that they end, it tells later.

        Args:
            kill: whether not to wait for what they do about SIGTERM.
        """
        _call(["scancel", *jobs])
        if kill:
            _call(["scancel", "--signal=KILL", "--full", *jobs])


def _call(
    command: Sequence[str], text: str = "", env: Optional[Mapping[str, str]] = None
) -> "subprocess.CompletedProcess[str]":
    try:
        # NOTE: out of reach of Ctrl-C in the terminal
        return subprocess.run(  # noqa: S603
            command,
            input=text,
            env=env,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=PATIENCE,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise SlurmSilentError(f"{command[0]} timed out") from None
    except OSError as exc:
        raise SlurmSilentError(f"{command[0]}: {exc.strerror}") from None
