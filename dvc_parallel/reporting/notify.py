"""``core.parallel_notify``: a command that is told at the end of a run what it did.

It is started when nothing of the run is left to do but to say how it ended, without the
repo, so it can neither change nor delay what the run has done, nor keep others waiting.
"""

import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_parallel.engine import logger, signals
from dvc_parallel.engine.local_runner import signal_all
from dvc_parallel.engine.plain_reporter import log
from dvc_parallel.engine.reporter_events import Reporter, RunInfo, Summary
from dvc_parallel.engine.terminal import without_controls

from .output_settings import NOTIFY_ENV, NOTIFY_IGNORED, NOTIFY_OPTION
from .records import Runs
from .records.reader import RecordError
from .report.summary import SCHEMA_VERSION, as_dict, summary_of

if TYPE_CHECKING:
    from dvc.repo import Repo

    from .records.writer import Recorder

# What the command finds in its environment: "ok", "failed" or "interrupted"; a line.
STATE_ENV, SUMMARY_ENV = "DVC_PARALLEL_STATE", "DVC_PARALLEL_SUMMARY"

# Seconds that it may take; bytes of its output that are shown if it fails.
SECONDS = 30.0
MOST_OUTPUT = 1000


def command_of(repo: "Repo") -> Optional[str]:
    """The command that the user has set, unless others may have put it there."""
    if NOTIFY_ENV in os.environ:
        return os.environ[NOTIFY_ENV].strip() or None
    if not repo.config["core"].get(NOTIFY_OPTION):
        return None
    for level in ("local", "repo", "global", "system"):
        file = repo.config.files.get(level)
        command = file and repo.config.load_one(level)["core"].get(NOTIFY_OPTION)
        if not command:
            continue
        is_own = level != "repo"
        if level == "local":
            is_own = not any(map(repo.scm.is_tracked, {file, os.path.realpath(file)}))
        if is_own:
            return command
        logger.warning(NOTIFY_IGNORED.format(os.path.relpath(file)))
    return None


class Notifier(Reporter):
    """Starts the command when the run is over, however it ended.

    Args:
        command: for the system's shell, in the root of the repo.
        repo: the repo, which is locked at the end of the run.
        without_repo: gives it up for a while.
        recorder: keeps the record of the run; is closed before.
    """

    def __init__(
        self,
        command: str,
        repo: "Repo",
        without_repo: Callable[[], AbstractContextManager[Any]],
        recorder: "Recorder",
    ):
        self._command = command
        self._root, self._runs = repo.root_dir, Runs(repo.tmp_dir)
        self._without_repo = without_repo
        self._recorder = recorder
        self._run = RunInfo((), 1, "fail")
        self._summary: Optional[Summary] = None

    def begun(self, run: RunInfo) -> None:
        self._run = run

    def ended(self, summary: Summary) -> None:
        self._summary = summary

    def close(self) -> None:
        told = self._told()
        words = "an error of DVC ended the run"
        if self._summary:
            words = self._summary.in_words(self._run)
        # NOTE: it may run stages itself, but must not be told of these in turn
        env = {**os.environ, NOTIFY_ENV: ""}
        env.update({STATE_ENV: told["state"], SUMMARY_ENV: words})
        with self._without_repo():
            # NOTE: whatever it is, the repo has to be taken back
            try:
                problem = _run(self._command, json.dumps(told), self._root, env)
            except OSError as exc:
                problem = str(exc)
        if problem:
            log(logging.WARNING, f"core.{NOTIFY_OPTION}: %s", problem)

    def _told(self) -> dict[str, Any]:
        """What ``report --json`` shows of the run; less, if there is no record."""
        with suppress(RecordError):
            run = self._runs.load(self._recorder.id)
            return as_dict(run, summary_of(run))
        end = self._summary
        known = {
            "version": SCHEMA_VERSION,
            "state": end.end if end else "failed",
            "jobs": self._run.jobs,
            "stages": len(self._run.stages),
        }
        if end:
            outcomes = {outcome: n for outcome, n in end.outcomes.items() if n}
            known.update(seconds=end.seconds, busy=end.busy, outcomes=outcomes)
        return known


def _run(command: str, told: str, root: str, env: Mapping[str, str]) -> Optional[str]:
    """Run the command; say what has gone wrong, if anything has."""
    started: list[subprocess.Popen] = []
    is_to_end = False

    def kill() -> None:
        nonlocal is_to_end
        is_to_end = True
        for process in started:
            signal_all(process, signals.SIGKILL)

    def handle(signum: int) -> None:
        signals.stop(signum) if signum in signals.STOPS else kill()

    # NOTE: files, as whoever does not read a pipe, or leaves it to a child, keeps us
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as output,
        signals.as_events(handle, kill, lambda: None),
    ):
        stdin.write(told.encode(errors="replace"))
        stdin.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S602
                command,
                shell=True,
                stdin=stdin,
                stdout=output,
                stderr=output,
                cwd=root,
                env=env,
                start_new_session=True,
            )
            started.append(process)
            if is_to_end:
                kill()
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return f"killed, as it took more than {SECONDS:.0f} s"
        finally:
            # NOTE: what it has started in the background, too
            kill()
            for process in started:
                process.wait()
        if status == 0:
            return None
        output.seek(0)
        said = without_controls(output.read()[-MOST_OUTPUT:]).decode(errors="replace")
        return f"exited with {signals.exit_name(status)}\n{said}".strip()
