"""Writing the record of a run.

The record is never needed: where it cannot be written, the run says so once, and goes
on without.
"""

import json
import logging
import os
import shlex
import string
import sys
import threading
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Callable, Optional

import dvc
import shortuuid
from dvc.utils import relpath

from dvc_parallel import __version__
from dvc_parallel.engine.atomic import about
from dvc_parallel.engine.plain_reporter import log
from dvc_parallel.engine.reporter_events import FINAL, Phase, Reporter, RunInfo, Summary
from dvc_parallel.engine.signals import clock
from dvc_parallel.reporting.output_settings import DEFAULTS, Limits

from .log_files import StageLogs
from .reader import FORMAT, JOURNAL, LOGS, RecordError, Runs

# Runs whose records are kept.
KEEP = 20
# Seconds after which the journal has what may come later, and phases that may.
DELAY = 0.2
# Where DVC makes folders for experiments.
EXPERIMENTS = os.path.join("", ".dvc", "tmp", "exps", "")
PASSING = frozenset({Phase.READY, Phase.LOCK, Phase.CHECK, Phase.UNCHANGED})


class Recorder(Reporter):
    """Writes the record of a run.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
        limits: how much is kept.

    Attributes:
        id: of the run.
        logs: what stages print; None if there is no record.
    """

    def __init__(
        self,
        tmp_dir: str,
        clock: Callable[[], float] = clock,
        limits: Limits = DEFAULTS,
    ):
        self._limits = limits
        self.id = ""
        self._runs = Runs(tmp_dir)
        # NOTE: DVC removes the folder of an experiment that does not run in the
        # workspace, with all that is in it
        self._is_lost = EXPERIMENTS in tmp_dir
        self._clock = clock
        self._start = 0.0
        self._guard = threading.Lock()  # of the journal
        self._journal: Optional[int] = None
        self._path = ""
        self._pending = b""  # lines of the journal that are not written yet, and since
        self._pending_since: Optional[float] = None
        self._has_warned = False
        self.logs: Optional[StageLogs] = None

    def begun(self, run: RunInfo) -> None:
        self._start = self._clock()
        now = datetime.now(timezone.utc)
        self.id = run_id = _new_id(now)
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
            folder.folder(LOGS).make()
            self._path = folder.path_of(JOURNAL)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._journal = folder.open(JOURNAL, flags)
        except OSError as exc:
            self._warn(exc)
            self._runs.remove(run_id)
            return
        self._pending = json.dumps(header).encode() + b"\n"
        self._write()
        names = [stage.name for stage in run.stages]
        self.logs = StageLogs(folder.folder(LOGS), names, self._warn, self._limits)
        self._remove_old()

    def _warn(self, exc: OSError) -> None:
        """Tell the user once that the record lacks something."""
        if not self._has_warned:
            self._has_warned = True
            log(logging.WARNING, "cannot record this run: %s", exc)

    def _remove_old(self) -> None:
        self._runs.remove_idle()
        with suppress(RecordError):
            for run_id in self._runs.ids()[:-KEEP]:
                if self._runs.state(run_id) != "running":
                    self._runs.remove(run_id)

    def _remove_too_many(self) -> None:
        """Remove the oldest runs while all are too large together.

        Those that go on stay, this one, and the last one before it that has not come
        to a good end.
        """
        with suppress(RecordError):
            sizes = {run_id: self._runs.size(run_id) for run_id in self._runs.ids()}
            excess = sum(sizes.values()) - (self._limits.runs or sys.maxsize)
            if excess <= 0:
                return
            states = {run_id: self._runs.state(run_id) for run_id in sizes}
            bad = [one for one in sizes if states[one] not in ("ok", "running", None)]
            for run_id, size in sizes.items():
                if excess <= 0:
                    return
                if run_id not in (self.id, *bad[-1:]) and states[run_id] != "running":
                    self._runs.remove(run_id)
                    excess -= size

    def log_of(self, stage: int) -> Optional[str]:
        """Where the output of a stage is kept, if it is still there after the run."""
        if self.logs is None or self._is_lost:
            return None
        return relpath(self.logs.path(stage))

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        # NOTE: what makes no difference, and is soon followed by something that does
        later = phase in PASSING
        self._happened({"stage": stage, "phase": phase.value, **details}, later=later)
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
        self._end(summary.end, seconds=round(summary.seconds, 4))
        if summary.end == "ok" and not summary.outcomes.get(Phase.RAN) and self.logs:
            # NOTE: it must not push out those whose logs people want to see
            with suppress(OSError):
                self._runs.remember_idle(self.id)

    def close(self) -> None:
        self._end("failed")
        if self.logs:
            self.logs.close_all()
            self._remove_too_many()

    def _end(self, end: str, **details: Any) -> None:
        self._happened({"end": end, **details})
        with self._guard:
            self._give_up()

    def due(self) -> Optional[float]:
        since = self._pending_since
        return None if since is None else max(0.0, since + DELAY - self._clock())

    def tick(self) -> None:
        if self.due() == 0:
            self._write()

    def _happened(self, entry: dict[str, Any], later: bool = False) -> None:
        """Write an entry after those that are pending, or have it pending itself."""
        with self._guard:
            # NOTE: whoever has to wait comes later, in time as in the file
            now = self._clock()
            entry = {"t": round(now - self._start, 4), **entry}
            self._pending += json.dumps(entry).encode() + b"\n"
            if later:
                self._pending_since = self._pending_since or now
        if not later:
            self._write()

    def _write(self) -> None:
        try:
            with self._guard, about(self._path):
                rest, self._pending, self._pending_since = self._pending, b"", None
                try:
                    # NOTE: nearly always at once, so that nobody reads a part of it
                    while rest and self._journal is not None:
                        rest = rest[os.write(self._journal, rest) :]
                except OSError:
                    self._give_up()
                    raise
        except OSError as exc:
            self._warn(exc)

    def _give_up(self) -> None:
        if self._journal is not None:
            with suppress(OSError):
                os.close(self._journal)
            self._journal = None


def _new_id(now: datetime) -> str:
    """An ID after all those of before, and unlike those of this moment."""
    letters = string.digits + string.ascii_uppercase + string.ascii_lowercase
    first, second = divmod(now.microsecond * 62**2 // 10**6, 62)
    moment = letters[first] + letters[second]
    return f"{now:%Y%m%d-%H%M%S}-{moment}{shortuuid.ShortUUID().random(2)}"


def _command() -> str:
    """The command of this process, as a user would write it."""
    program, *args = sys.argv or [""]
    folder, name = os.path.split(program)
    if name == "__main__.py":
        name = os.path.basename(folder)
    return shlex.join([name, *args])
