"""``dvc-parallel logs``: what the stages of a run printed, and how they stand."""

import sys
import time
from datetime import timedelta
from itertools import compress
from typing import Any, BinaryIO, Optional

from dvc.cli.command import CmdBaseNoRepo
from dvc.exceptions import InvalidArgumentError
from dvc.ui import ui
from dvc.utils import relpath

from dvc_parallel.engine.signals import exit_name
from dvc_parallel.engine.terminal import duration, harmless, visible, whole_lines
from dvc_parallel.reporting.records import Run, Runs, Stage
from dvc_parallel.reporting.records.log_files import LogReader
from dvc_parallel.reporting.records.reader import RecordError

from .shown import (
    RUN,
    ShowsSafely,
    add_command,
    add_switch,
    error_write,
    table,
    write,
)

HELP = "Show what the stages of a parallel run printed."
DESCRIPTION = """\
Show how the stages of a run stand and where their output is kept, or the
output of one of them. `dvc repro` with more than one job keeps it for the
last 20 runs."""

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
        runs = Runs.of_repo()
        if args.follow and (args.json or not args.stage):
            raise InvalidArgumentError("--follow needs a stage, and no --json")
        if args.list:
            if args.stage or args.run:
                raise InvalidArgumentError("--list goes without a stage and --run")
            _show_runs(runs, args.json)
            return 0

        run = runs.load(args.run)
        if args.stage and not args.json:
            _show_log(run, run.stage(args.stage), args.follow)
        elif args.json:
            stage = run.stage(args.stage) if args.stage else None
            ui.write_json(_stage(run, stage, _logs(run)) if stage else _whole(run))
        else:
            _show_stages(run)
        return 0


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


def _whole(run: Run) -> dict[str, Any]:
    logs = _logs(run)
    return {**_run(run), "stages": [_stage(run, stage, logs) for stage in run.stages]}


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
        "log": logs.get(stage.log),
    }


def _show_log(run: Run, stage: Stage, follow: bool) -> None:
    stream = sys.stdout.buffer
    reader = LogReader(run.logs, stage.log)
    while True:
        # NOTE: before the last look at the log
        over = not follow or stage.over or not run.goes_on
        _copy(reader, stream)
        if over:
            break
        time.sleep(INTERVAL)
        run.update()
    if error := stage.details.get("error"):
        error_write(f"'{visible(stage.name)}' failed: {error}")
    elif not reader.offset:
        state = _state(stage)
        error_write(f"'{visible(stage.name)}' has printed nothing, it is {state}")


def _copy(reader: LogReader, stream: BinaryIO) -> None:
    """Copy what is new in a log; on a terminal, without controls but colours."""
    on_terminal = stream.isatty()
    try:
        stream.writelines(
            harmless(chunk) if on_terminal else chunk
            for chunk in whole_lines(reader.new())
        )
    except OSError as exc:
        if exc.filename is None:
            raise
        path = relpath(exc.filename)
        raise RecordError(f"cannot read '{path}': {exc.strerror}") from None
    stream.flush()


def add_parser(subparsers, parent_parser) -> None:
    parser = add_command(subparsers, parent_parser, "logs", HELP, DESCRIPTION)
    parser.add_argument(
        "stage",
        nargs="?",
        help="Stage whose output to show. All stages are listed without one.",
    )
    parser.add_argument("--run", help=RUN, metavar="<id>")
    text = "Show what the stage goes on to print, until it ends."
    add_switch(parser, "-f", "--follow", text=text)
    text = "List the runs that are kept, the oldest first."
    add_switch(parser, "--list", text=text)
    text = "Show it in JSON: state, times and where the output is."
    add_switch(parser, "--json", text=text)
    parser.set_defaults(func=CmdLogs)
