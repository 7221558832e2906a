"""Slurm's own commands, and what they tell of jobs.

Whoever asks gets one of three answers: what Slurm knows of a job, that it knows of
none, or :class:`SlurmSilentError`, which says nothing about a job.

Tried with Slurm 22.05; formats: the manual pages of sbatch, squeue and sacct.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from dvc_parallel.engine.runner import RunnerError
from dvc_parallel.scheduling.slurm_options import arguments

# Those that a job does not leave any more; in all others, it may yet write.
FINAL = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
    )
)
# Those in which it does not run yet.
WAITING = frozenset(("CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_HOLD"))
# Seconds that a command of Slurm may take. Without its controller, they take some 10.
PATIENCE = 60.0
# What sbatch says where the job may have been accepted all the same, or may be later.
_SILENT = ("unable to contact", "timed out", "connection", "temporar", "zero bytes")

# NOTE: `exec` by its path, as Slurm goes to /tmp where it cannot get into the folder
_BATCH = "#!/bin/sh\nexec /bin/sh {script}\n"


def _user_id() -> int:
    if sys.platform == "win32":
        return 0  # NOTE: there is no Slurm
    return os.getuid()


class SlurmSilentError(Exception):
    """Slurm's controller does not answer."""


class Seen(NamedTuple):
    """What Slurm tells of a job."""

    job: str
    state: str
    reason: str = ""
    nodes: str = ""


class Slurm:
    """Slurm, as the user of this process.  Any thread may call any method."""

    def submit(
        self,
        folder: str,
        name: str,
        token: str,
        requests: Mapping[str, str],
        env: Mapping[str, str],
    ) -> str:
        """Submit the script ``job.sh`` of a folder.

        Args:
            name: of the job, for users.
            token: kept by Slurm as its comment.
            requests: as for :func:`arguments`.

        Returns:
            str: ID of the job.

        Raises:
            SlurmSilentError: it may or may not be submitted.
            RunnerError: Slurm refuses it.
        """
        script = "'" + os.path.join(folder, "job.sh").replace("'", "'\\''") + "'"
        command = [
            *("sbatch", "--parsable", "--no-requeue", "--open-mode=append"),
            *(f"--job-name={name}", f"--comment={token}", f"--chdir={folder}"),
            *("--output=slurm.log", "--error=slurm.log", "--export=ALL"),
            *arguments(requests),
        ]
        told = self._call(command, _BATCH.format(script=script), env)
        if told.returncode:
            error = told.stderr.strip()
            if any(part in error.lower() for part in _SILENT):
                raise SlurmSilentError(error)
            raise RunnerError(f"Slurm refuses a job: {error}")
        return told.stdout.strip().partition(";")[0]

    def states(self) -> dict[str, list[Seen]]:
        """What is known of all jobs of the user, by their comments.

        Raises:
            SlurmSilentError: nothing is known.
        """
        told = self._call(
            [
                *("squeue", "--noheader", "--states=all", f"--user={_user_id()}"),
                "--format=%k|%A|%T|%r|%N",
            ]
        )
        if told.returncode:
            raise SlurmSilentError(told.stderr.strip())
        found: dict[str, list[Seen]] = {}
        for line in told.stdout.splitlines():
            comment, *rest = line.rsplit("|", 4)
            if len(rest) == 4:
                found.setdefault(comment, []).append(Seen(*rest))
        return found

    def accounted(self, job: str, name: str) -> Optional[Seen]:
        """What is known of a job that has left the queue, where there are accounts.

        Args:
            job, name: both are compared, as IDs are given out again.
        """
        if shutil.which("sacct") is None:
            return None
        told = self._call(
            [
                *("sacct", "-D", "-n", "-P", "-X", f"--jobs={job}"),
                "--format=JobName,JobIDRaw,State",
            ]
        )
        lines = [line.rsplit("|", 2) for line in told.stdout.splitlines()]
        states = [line[2].split()[0] for line in lines if line[:2] == [name, job]]
        return Seen(job, states[-1]) if states else None

    def cancel(self, jobs: Iterable[str], kill: bool = False) -> None:
        """Ask Slurm to end jobs; that they end, it tells later.

        Args:
            kill: whether not to wait for what they do about SIGTERM.
        """
        command = ["scancel", *(["--signal=KILL", "--full"] if kill else []), *jobs]
        self._call(command)

    @staticmethod
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
                text=True,
                errors="replace",
                timeout=PATIENCE,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise SlurmSilentError(f"{command[0]} timed out") from None
        except OSError as exc:
            raise SlurmSilentError(f"{command[0]}: {exc.strerror}") from None
