"""``dvc-parallel logs``: what the stages of a run printed, and how they stand."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import compress
from typing import Any, BinaryIO, Optional

from dvc.cli.command import CmdBaseNoRepo
from dvc.exceptions import InvalidArgumentError
from dvc.ui import ui
from dvc.utils import relpath

from dvc_parallel.engine.reporter_events import Phase
from dvc_parallel.engine.signals import exit_name, failure_reason
from dvc_parallel.engine.terminal import (
    columns_of,
    duration,
    last_states,
    visible,
    whole_lines,
)
from dvc_parallel.reporting.ci_log import harmless_output
from dvc_parallel.reporting.records import Run, Runs, Stage
from dvc_parallel.reporting.records.log_files import LogReader
from dvc_parallel.reporting.records.reader import RecordError

from .shown import ShowsSafely, error_write, refuse, table, write

# Seconds between two looks at a log that is followed.
INTERVAL = 0.2

# Version of what is shown in JSON; new keys do not change it.
SCHEMA_VERSION = 2

# What a stage that has no outcome yet is called.
STATES = {None: "waiting", "ready": "ready", "save": "saving"}


class CmdLogs(ShowsSafely, CmdBaseNoRepo):
    """Does not lock the repo: it has to work beside a run."""

    def run(self) -> int:
        args = self.args
        self._check()
        runs = Runs.of_repo()
        if args.list:
            _show_runs(runs, args.json)
            return 0
        run, stages = self._choose(runs)
        if args.json:
            ui.write_json(self._as_dict(run, stages))
            return 0
        if args.stage and not args.run and run.id != runs.load().id:
            error_write(f"from run {run.id}, the last one that ran it")
        if args.failed and not stages:
            error_write(f"no stage has failed in run {run.id}")
        self._show(run, stages)
        return 0

    def _check(self) -> None:
        args = self.args
        refuse(args, "follow", "json")
        if args.stage and args.failed:
            raise InvalidArgumentError("--failed cannot be combined with a stage")
        if args.list and (args.stage or args.run or args.failed or args.follow):
            raise InvalidArgumentError("--list can only be combined with --json")

    def _choose(self, runs: Runs) -> tuple[Run, list[Stage]]:
        """The run, and those of its stages that are to be shown."""
        args = self.args
        if args.stage and not args.run:
            return runs.last_of(args.stage, goes_on=args.follow)
        if args.failed:
            run = runs.load(args.run) if args.run else runs.last_at_work()
            return run, [s for s in run.stages if s.phase == Phase.FAILED]
        run = runs.load(args.run)
        return run, run.get(args.stage) if args.stage else run.stages

    def _is_one(self, stages: Sequence[Stage]) -> bool:
        """Whether a stage was asked for by its own name."""
        return [stage.name for stage in stages] == [self.args.stage]

    def _as_dict(self, run: Run, stages: Sequence[Stage]) -> dict[str, Any]:
        logs = _logs(run)
        shown = [_stage(run, stage, logs) for stage in stages]
        if self._is_one(stages):
            return {"version": SCHEMA_VERSION, "run": run.id, **shown[0]}
        return {**_run(run), "stages": shown}

    def _show(self, run: Run, stages: Sequence[Stage]) -> None:
        if self._is_one(stages):
            _show_log(run, stages[0], self.args.follow)
        elif self.args.follow:
            _follow(run, stages)
        elif self.args.stage or self.args.failed:
            _show_logs(run, stages)
        else:
            _show_stages(run)


def _show_runs(runs: Runs, as_json: bool) -> None:
    known = list(runs.all())
    if as_json:
        ui.write_json([_run(run) for run in known])
        return
    table(
        [
            (
                run.id,
                run.state,
                f"{run.started.astimezone():%Y-%m-%d %H:%M}",
                duration(run.now),
                str(len(run.stages)),
                run.header.get("command", ""),
            )
            for run in known
        ],
        headers=["Run", "State", "Started", "Time", "Stages", "Command"],
    )


def _show_stages(run: Run) -> None:
    rows, logs = [], _logs(run)
    for stage in run.stages:
        seconds = _seconds(run, stage)
        taken = "-" if seconds is None else duration(seconds)
        status = "-" if stage.exit is None else exit_name(stage.exit)
        row = [stage.name, _state(stage), status, taken, logs.get(stage.log, "-")]
        rows.append([*row, stage.worker or "-"])
    headers = ["Stage", "State", "Exit", "Time", "Log", "Worker"]
    shown = [
        header not in ("Exit", "Worker") or any(row[place] != "-" for row in rows)
        for place, header in enumerate(headers)
    ]
    write(f"Run {run.id}: {run.state}, {duration(run.now)}", force=True)
    table([[*compress(row, shown)] for row in rows], [*compress(headers, shown)])


def _state(stage: Stage) -> str:
    if stage.over:
        return str(stage.phase)
    if stage.phase == "ready" and "pool" in stage.details:
        return f"waits for {stage.details['pool']}"
    return STATES.get(stage.phase, "running")


def _seconds(run: Run, stage: Stage) -> Optional[float]:
    if stage.started is None or stage.over:
        return stage.took
    return run.now - stage.started


def _logs(run: Run) -> dict[str, str]:
    """Paths of the existing logs, by name."""
    try:
        return {name: relpath(run.logs.path_of(name)) for name in run.logs.files()}
    except OSError:
        return {}


def _run(run: Run) -> dict[str, Any]:
    return {
        "version": SCHEMA_VERSION,
        "id": run.id,
        "state": run.state,
        "started": run.header["started"],
        "seconds": round(run.now, 3),
        "command": run.header.get("command"),
        "jobs": run.header.get("jobs"),
    }


def _stage(run: Run, stage: Stage, logs: dict[str, str]) -> dict[str, Any]:
    seconds, status, started = _seconds(run, stage), stage.exit, None
    if stage.started is not None:
        started = (run.started + timedelta(seconds=stage.started)).isoformat()
    return {
        "name": stage.name,
        "state": _state(stage),
        "started": started,
        "seconds": None if seconds is None else round(seconds, 3),
        "exit": status,
        "signal": None if status is None or status >= 0 else exit_name(status),
        "error": stage.details.get("error"),
        "worker": stage.worker,
        "used": stage.used and stage.used.summary,
        "log": logs.get(stage.log),
    }


def _show_log(run: Run, stage: Stage, follow: bool) -> LogReader:
    stream = sys.stdout.buffer
    reader = LogReader(run.logs, stage.log)
    begun = b""
    while True:
        # NOTE: before the last look at the log
        over = not follow or stage.over or not run.goes_on
        begun = _copy(reader, stream, begun)
        if over:
            break
        time.sleep(INTERVAL)
        run.update()
    if stage.phase == Phase.NOT_RUN:
        raise RecordError(_why_not_run(run, stage))
    if error := stage.details.get("error"):
        error_write(f"'{visible(stage.name)}' failed: {failure_reason(error)}")
    elif not reader.offset:
        state = _state(stage)
        error_write(f"'{visible(stage.name)}' has printed nothing: {state}")
    return reader


def _why_not_run(run: Run, stage: Stage) -> str:
    why = "the run ended before its turn"
    seen, to_see = set(), [stage]
    while to_see:
        one = to_see.pop()
        if one.phase == Phase.FAILED:
            why = f"'{one.name}', which it depends on, failed"
            break
        ranks = [rank for rank in one.upstream if rank not in seen]
        seen.update(ranks)
        to_see += (run.stages[rank] for rank in ranks if rank < len(run.stages))
    return f"'{stage.name}' did not run in run {run.id}: {why}"


def _show_logs(run: Run, stages: Sequence[Stage]) -> None:
    """Show what each of some stages has printed, below its name."""
    for stage in stages:
        if stage.has_run:
            write(f"=== {stage.name}", force=True)
            sys.stdout.flush()
            if not _show_log(run, stage, follow=False).at_line_start:
                write(force=True)


def _follow(run: Run, stages: Sequence[Stage]) -> None:
    """Show what some stages print until they have ended, each line with its name."""
    readers: dict[str, _Lines] = {}
    left = list(stages)
    while left:
        goes_on = run.goes_on
        over = [stage for stage in left if stage.over or not goes_on]
        for stage in left:
            if stage.has_run:
                reader = readers.get(stage.name)
                reader = reader or readers.setdefault(stage.name, _Lines(run, stage))
                reader.show_new(to_end=stage in over)
        left = [stage for stage in left if stage not in over]
        if left:
            time.sleep(INTERVAL)
            run.update()


class _Lines:
    """The lines of the log of a stage, each with its name."""

    def __init__(self, run: Run, stage: Stage):
        self._reader = LogReader(run.logs, stage.log)
        self._prefix = f"{visible(stage.name)} | ".encode(errors="replace")
        self._rest = b""

    def show_new(self, to_end: bool) -> None:
        """Show what is new, up to the end of a line or of it all."""
        stream = sys.stdout.buffer
        with _naming_logs():
            for chunk in whole_lines(self._reader.new()):
                *lines, rest = (self._rest + chunk).split(b"\n")
                # NOTE: of a bar, no more than its last state
                self._rest = b"".join(last_states(rest)) if rest else b""
                self._show(stream, lines)
        if to_end and self._rest:
            self._show(stream, [self._rest])
        stream.flush()

    def _show(self, stream: BinaryIO, lines: Sequence[bytes]) -> None:
        columns = columns_of(stream)
        room = columns and columns - len(self._prefix)
        for line in lines:
            shown, _ = last_states(line + b"\n", room)
            stream.write(harmless_output(stream, self._prefix + shown))


@contextmanager
def _naming_logs() -> Iterator[None]:
    """Raise an error of our own where a log cannot be read."""
    try:
        yield
    except OSError as exc:
        if exc.filename is None:
            raise
        path = relpath(exc.filename)
        raise RecordError(f"cannot read '{path}': {exc.strerror}") from None


def _copy(reader: LogReader, stream: BinaryIO, begun: bytes) -> bytes:
    """Copy what is new in a log; on a terminal, what a terminal would still show of it.

    Args:
        begun: what the last call returned: a line that is being overwritten.
    """
    columns = columns_of(stream)
    with _naming_logs():
        for chunk in whole_lines(reader.new()):
            if stream.isatty():
                chunk, begun = last_states(begun + chunk, columns)
                if begun:
                    # NOTE: a bar as it is now, for the next state to overwrite
                    state, _ = last_states(begun + b"\n", columns)
                    chunk += state[:-1] + b"\r"
            stream.write(harmless_output(stream, chunk))
    stream.flush()
    return begun
