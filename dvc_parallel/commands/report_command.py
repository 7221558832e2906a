"""``dvc-parallel report``: a run as a page, or as a trace for Perfetto."""

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Optional

from dvc.cli.command import CmdBaseNoRepo
from dvc.exceptions import DvcException, InvalidArgumentError
from dvc.ui import ui

from dvc_parallel.engine.atomic import atomic_write
from dvc_parallel.engine.terminal import duration, plural, visible
from dvc_parallel.reporting.records import Run, Runs
from dvc_parallel.reporting.records.log_files import end_of
from dvc_parallel.reporting.report.chrome_trace import chrome_trace
from dvc_parallel.reporting.report.compare import (
    PARTS,
    Change,
    compare,
    outcomes_differ,
)
from dvc_parallel.reporting.report.markdown import markdown
from dvc_parallel.reporting.report.page import page
from dvc_parallel.reporting.report.sections import MOST_FAILURES, Failure
from dvc_parallel.reporting.report.summary import (
    SCHEMA_VERSION,
    Summary,
    as_dict,
    summary_of,
)
from dvc_parallel.reporting.report.text import tail
from dvc_parallel.reporting.report.timeline import StageTimes, timeline

from .parsers import JSON, MARKDOWN
from .shown import ShowsSafely, refuse, table, write

# Stages of two runs that are compared in text; those that took longer come first.
MOST_CHANGES = 50
# Seconds by which a part of one has to change to be shown.
LEAST = 0.05

# Seconds between two looks at a run that is followed, and after which its page is
# written again at the earliest, and read again by a browser; and how many times as
# long as it takes to write it.
INTERVAL = 0.2
RENEW_AFTER = 3
PAUSE = 20

NAME = "report.html"
PAGES = (".html", ".htm")
TRACES = (".json",)

# Bytes of the ends of logs in a page: of one log, and of all together.
LOG_BYTES = 32_000
PAGE_BYTES = 2_000_000
# The same for Markdown, of which GitHub takes 1 MiB for a step, and failures in it.
MARKDOWN_LOG_BYTES = 8_000
MARKDOWN_BYTES = 100_000
MARKDOWN_FAILURES = 20


class CmdReport(ShowsSafely, CmdBaseNoRepo):
    """Does not need the repo, only its records: it works beside a run."""

    def run(self) -> int:
        args = self.args
        refuse(args, "compare", "out")
        refuse(args, "follow", "compare", "format")
        suffix = _suffix(args.out) if args.out else PAGES[0]
        if args.follow and suffix in TRACES:
            raise InvalidArgumentError(
                f"--follow is for a page, not for the trace '{visible(args.out)}'"
            )
        if args.compare and args.format == MARKDOWN:
            raise InvalidArgumentError(
                "--compare cannot be combined with --format markdown"
            )
        runs = Runs.of_repo()
        if args.compare:
            # NOTE: of a run that did nothing, there is nothing to compare
            run = runs.load(args.run) if args.run else runs.last_at_work()
            _compare(runs.load(args.compare), run, args.format == JSON)
            return 0
        run = runs.load(args.run)
        if args.follow and run.goes_on:
            self._follow(run)
            return 0
        found = summary_of(run)
        if args.format == MARKDOWN:
            failures = _failures(
                run, found, MARKDOWN_FAILURES, MARKDOWN_LOG_BYTES, MARKDOWN_BYTES
            )
            write(markdown(run.header, run.state, found, failures), force=True)
        elif args.format == JSON:
            ui.write_json(as_dict(run, found))
        elif suffix in TRACES:
            trace = chrome_trace(run.header, found)
            write(self._write(run, json.dumps(trace, separators=(",", ":"))))
        else:
            write(self._write_page(run))
        return 0

    def _follow(self, run: Run) -> None:
        """Write the page of a run again until that ends.

        It says that it is to be read again as long as that may be of use.
        """
        write(self._write_page(run, RENEW_AFTER))
        sys.stdout.flush()
        written, due = run.offset, time.monotonic() + RENEW_AFTER
        try:
            while run.goes_on:
                time.sleep(INTERVAL)
                run.update()
                began = time.monotonic()
                if run.goes_on and run.offset != written and began >= due:
                    self._write_page(run, RENEW_AFTER)
                    # NOTE: a page of thousands of stages takes a while
                    took = time.monotonic() - began
                    written, due = run.offset, began + max(RENEW_AFTER, PAUSE * took)
        finally:
            self._write_page(run)

    def _write_page(self, run: Run, renewed_after: Optional[int] = None) -> str:
        found = summary_of(run)
        failures = _failures(run, found, MOST_FAILURES, LOG_BYTES, PAGE_BYTES)
        text = page(run.header, run.state, found, failures, renewed_after)
        return self._write(run, text)

    def _write(self, run: Run, text: str) -> str:
        """Write a page or a trace, and return a link to it."""
        path = Path(self.args.out or run.folder.path_of(NAME)).absolute()
        try:
            with (
                atomic_write(str(path), str(path.parent), sync=False)
                if self.args.out
                else run.folder.replace(NAME)
            ) as fobj:
                fobj.write(text)
        except OSError as exc:
            raise DvcException(f"cannot write '{path}': {exc.strerror}") from exc
        return path.as_uri()


def _compare(before: Run, now: Run, as_json: bool) -> None:
    """Show which stages took longer or shorter than in an earlier run, and where."""
    runs = [
        timeline(run.stages, run.header.get("jobs", 1), run.now)
        for run in (before, now)
    ]
    changes = compare(*runs)
    if as_json:
        told = {
            key: {"id": run.id, "jobs": times.jobs, "seconds": round(run.now, 4)}
            for key, run, times in zip(("before", "now"), (before, now), runs)
        }
        stages = [change.as_dict() for change in changes]
        ui.write_json({"version": SCHEMA_VERSION, **told, "stages": stages})
        return
    for run, times in zip((before, now), runs):
        jobs = plural(times.jobs, "job")
        write(f"Run {run.id}: {run.state}, {duration(run.now)} with {jobs}", force=True)
    _show_times(changes)
    _show_outcomes(changes)


def _show_times(changes: Sequence[Change]) -> None:
    twice = [change for change in changes if change.ran_twice]
    told = [
        change
        for change in twice
        if any(abs(seconds) >= LEAST for seconds in change.seconds.values())
    ]
    rows = [
        (
            change.name,
            *(duration(stage.busy) for stage in (change.before, change.now) if stage),
            *(_signed(change.seconds[part]) for part in PARTS),
        )
        for change in told[:MOST_CHANGES]
    ]
    write(f"\n{plural(len(twice), 'stage')} ran in both runs.", force=True)
    if rows:
        changes_of = [f"Change: {part}" for part in PARTS]
        table(rows, headers=["Stage", "Before", "Now", *changes_of])
    if left := len(told) - len(rows):
        write(f"{left} more changed less; use --json to see them.", force=True)
    if left := len(twice) - len(told):
        write(f"{left} took as long as before.", force=True)


def _signed(seconds: float) -> str:
    sign = "" if abs(seconds) < LEAST else "+" if seconds > 0 else "-"
    return f"{sign}{duration(abs(seconds))}"


def _show_outcomes(changes: Sequence[Change]) -> None:
    others = outcomes_differ(changes)
    rows = [
        (change.name, *(s.outcome if s else "-" for s in (change.before, change.now)))
        for change in others[:MOST_CHANGES]
    ]
    if rows:
        write(f"\n{plural(len(others), 'stage')} had another outcome.", force=True)
        table(rows, headers=["Stage", "Before", "Now"])


def _suffix(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in (*PAGES, *TRACES):
        raise InvalidArgumentError(
            f"cannot tell the format of '{visible(name)}': use a name that ends in "
            ".html, for a page, or in .json, for a trace (Perfetto, chrome://tracing)"
        )
    return suffix


def _failures(
    run: Run, found: Summary, most: int, log_bytes: int, all_bytes: int
) -> list[Failure]:
    """The first stages that failed, with the ends of their logs as far as they fit."""
    shown = found.failed[:most]
    each = min(log_bytes, all_bytes // max(1, len(shown)))
    return [_failure(run, stage, each) for stage in shown]


def _failure(run: Run, stage: StageTimes, most: int) -> Failure:
    name = run.stages[stage.index].log
    with suppress(OSError):
        log, more = tail(end_of(run.logs, name, most + 1), most)
        return Failure(stage, log, os.path.relpath(run.logs.path_of(name)), more)
    return Failure(stage)
