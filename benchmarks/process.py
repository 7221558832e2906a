"""Running a command for a limited time, and leaving none of its processes behind."""

import os
import resource
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# A variable that marks the processes of a run: those that went into a session of
# their own, as the commands of a parallel `dvc repro` do, are found by it.
MARK = "DVC_PARALLEL_BENCHMARK"


class RunError(Exception):
    """A run that does not count; the message says why, for the table."""


@dataclass(frozen=True)
class Place:
    """Where servers are started, and for what.

    Attributes:
        bin_dir: where their executables are.
        env: variables for them.
        root: the project.
        folder: for their files; does not exist yet.
        jobs: of the run.
    """

    bin_dir: Path
    env: Mapping[str, str]
    root: Path
    folder: Path
    jobs: int


def run(
    commands: Sequence[Sequence[str]],
    cwd: Path,
    env: Mapping[str, str],
    limit: float,
) -> tuple[float, float]:
    """Run one command after the other.

    Args:
        limit: seconds for all of them.

    Returns:
        tuple: seconds that they took, all in all, and seconds of CPU time, without
            that of processes for which nobody has waited.

    Raises:
        RunError: one failed, or there was no more time.
    """
    started, used = time.monotonic(), _cpu_of_children()
    for command in commands:
        left = limit - (time.monotonic() - started)
        with none_left(env) as marked:
            try:
                _run(command, cwd, marked, left)
            except subprocess.TimeoutExpired:
                raise RunError(f"timed out after {limit:g} s") from None
            finally:
                seconds = time.monotonic() - started
    return seconds, _cpu_of_children() - used


@contextmanager
def none_left(env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Variables for processes, of which none is left afterwards."""
    token = uuid.uuid4().hex
    try:
        yield {**env, MARK: token}
    finally:
        _kill_marked(token)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run(command: Sequence[str], cwd: Path, env: Mapping[str, str], limit: float):
    # A file, because a full pipe would make the command wait for us.
    log = cwd / ".benchmark-output"
    with open(log, "wb") as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as exc:
            raise RunError(f"cannot start {command[0]}: {exc.strerror}") from None
        try:
            status = process.wait(max(0.0, limit))
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if status:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
        last = text.splitlines()[-1].strip() if text else "no output"
        raise RunError(f"`{Path(command[0]).name}` exited with {status}: {last}")


def _kill_marked(token: str) -> None:
    # Until there is none left: one may have started another in the meantime, and one
    # that is just being started has no environment for a moment.
    found_none = 0
    while found_none < 3:
        pids = list(_marked(token))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        found_none = 0 if pids else found_none + 1
        time.sleep(0.01)


def _marked(token: str) -> Iterator[int]:
    mark = f"{MARK}={token}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes():
                yield int(path.parent.name)
