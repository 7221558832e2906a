"""Writing the record of a run.

The record is never needed: where it cannot be written, the run goes on without.
"""

import json
import os
import shlex
import shutil
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Callable, Optional

import dvc
import shortuuid
from dvc.utils import relpath

from dvc_parallel import __version__
from dvc_parallel.reporters import Phase, Reporter, RunInfo, Summary
from dvc_parallel.reporters.interface import FINAL, logger

from .logs import StageLogs
from .reader import FORMAT, JOURNAL, LOGS, Runs

# Runs whose records are kept.
KEEP = 20


class Recorder(Reporter):
    """Writes the record of a run.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
        clock: tells the time in seconds.

    Attributes:
        logs: what stages print; None if there is no record.
    """

    def __init__(self, tmp_dir: str, clock: Callable[[], float] = time.monotonic):
        self._runs = Runs(tmp_dir)
        self._clock = clock
        self._start = 0.0
        self._guard = threading.Lock()  # of the journal
        self._journal: Optional[int] = None
        self.logs: Optional[StageLogs] = None

    def begun(self, run: RunInfo) -> None:
        self._start = self._clock()
        now = datetime.now(timezone.utc)
        run_id = f"{now:%Y%m%d-%H%M%S}-{shortuuid.ShortUUID().random(4)}"
        folder = self._runs.folder(run_id)
        header = {
            "format": FORMAT,
            "id": run_id,
            "started": now.astimezone().isoformat(timespec="milliseconds"),
            "jobs": run.jobs,
            "on_error": run.on_error,
            "command": _command(),
            "pid": os.getpid(),
            "dvc": dvc.__version__,
            "dvc_parallel": __version__,
            "stages": [
                {
                    "name": stage.name,
                    "upstream": stage.upstream,
                    "after": stage.after,
                    "seconds": stage.seconds,
                }
                for stage in run.stages
            ],
        }
        try:
            os.makedirs(os.path.join(folder, LOGS))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            path = os.path.join(folder, JOURNAL)
            self._journal = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as exc:
            logger.debug("no record of this run is kept: %s", exc)
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._write(header)
        names = [stage.name for stage in run.stages]
        self.logs = StageLogs(os.path.join(folder, LOGS), names)
        self._remove_old()

    def _remove_old(self) -> None:
        for run_id in self._runs.ids()[:-KEEP]:
            if not self._runs.goes_on(run_id):
                shutil.rmtree(self._runs.folder(run_id), ignore_errors=True)

    def log_of(self, stage: int) -> Optional[str]:
        """Where the output of a stage is kept, if it is."""
        return relpath(self.logs.path(stage)) if self.logs else None

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        self._tell({"stage": stage, "phase": phase.value, **details})
        if self.logs is None:
            return
        if phase is Phase.COMMAND:
            self.logs.command(stage, details["cmd"], details.get("worker"))
        elif phase in FINAL:
            self.logs.close(stage)

    def output(self, stage: int, stream: str, data: bytes) -> None:  # noqa: ARG002
        if self.logs:
            self.logs.output(stage, data)

    def ended(self, summary: Summary) -> None:
        self._end(summary.end)

    def close(self) -> None:
        self._end("failed")
        if self.logs:
            self.logs.close_all()

    def _end(self, end: str) -> None:
        self._tell({"end": end})
        with self._guard:
            self._give_up()

    def _tell(self, entry: dict[str, Any]) -> None:
        with self._guard:
            # NOTE: whoever has to wait comes later, in time as in the file
            self._write({"t": round(self._clock() - self._start, 4), **entry})

    def _write(self, entry: dict[str, Any]) -> None:
        if self._journal is None:
            return
        line = json.dumps(entry).encode() + b"\n"
        try:
            # NOTE: at once, so that nobody reads a part of it
            whole = os.write(self._journal, line) == len(line)
        except OSError:
            whole = False
        if not whole:
            self._give_up()

    def _give_up(self) -> None:
        if self._journal is not None:
            with suppress(OSError):
                os.close(self._journal)
            self._journal = None


def _command() -> str:
    """The command of this process, as a user would write it."""
    program, *args = sys.argv or [""]
    folder, name = os.path.split(program)
    if name == "__main__.py":
        name = os.path.basename(folder)
    return shlex.join([name, *args])
