"""``dvc-parallel report``: a run as a page, or as a trace for Perfetto."""

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from dvc.cli import completion
from dvc.cli.command import CmdBaseNoRepo
from dvc.exceptions import DvcException, InvalidArgumentError
from dvc.ui import ui

from dvc_parallel.engine.terminal import duration, plural, visible

from .shown import (
    JSON,
    MARKDOWN,
    RUN,
    ShowsSafely,
    add_command,
    add_formats,
    add_switch,
    table,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from typing import TextIO

    from dvc_parallel.reporting.records import Run
    from dvc_parallel.reporting.report.compare import Change
    from dvc_parallel.reporting.report.sections import Failure
    from dvc_parallel.reporting.report.summary import Summary
    from dvc_parallel.reporting.report.timeline import StageTimes

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

HELP = "Make a page about a parallel run: what ran when, and what it waited for."


class CmdReport(ShowsSafely, CmdBaseNoRepo):
    """Does not need the repo, only its records: it works beside a run."""

    def run(self) -> int:
        from dvc_parallel.reporting.records import Runs
        from dvc_parallel.reporting.report.summary import as_dict, summary_of

        suffix = _suffix(self.args.out) if self.args.out else PAGES[0]
        runs = Runs.of_repo()
        if self.args.follow:
            self._check_follow(suffix)
        if self.args.compare:
            if self.args.out:
                raise InvalidArgumentError("--compare cannot be combined with --out")
            if self.args.format == MARKDOWN:
                raise InvalidArgumentError(
                    "--compare cannot be combined with --format markdown"
                )
            # NOTE: of a run that did nothing, there is nothing to compare
            run = runs.load(self.args.run) if self.args.run else runs.last_at_work()
            _compare(runs.load(self.args.compare), run, self.args.format == JSON)
            return 0
        run = runs.load(self.args.run)
        if self.args.follow and run.goes_on:
            self._follow(run)
            return 0
        found = summary_of(run)

        if self.args.format == MARKDOWN:
            write(_markdown(run, found), force=True)
            return 0
        if self.args.format == JSON:
            ui.write_json(as_dict(run, found))
            return 0

        text = _trace(run, found) if suffix in TRACES else _page(run, found)
        write(self._write(run, text))
        return 0

    def _check_follow(self, suffix: str) -> None:
        if self.args.compare or self.args.format:
            option = "--compare" if self.args.compare else "--format"
            raise InvalidArgumentError(f"--follow cannot be combined with {option}")
        if suffix in TRACES:
            raise InvalidArgumentError(
                f"--follow is for a page, not for the trace '{visible(self.args.out)}'"
            )

    def _follow(self, run: "Run") -> None:
        """Write the page of a run again until that ends.

        It says that it is to be read again as long as that may be of use.
        """
        from dvc_parallel.reporting.report.summary import summary_of

        def write_page(renewed_after: Optional[int] = None) -> str:
            return self._write(run, _page(run, summary_of(run), renewed_after))

        write(write_page(RENEW_AFTER))
        sys.stdout.flush()
        written, due = run.offset, time.monotonic() + RENEW_AFTER
        try:
            while run.goes_on:
                time.sleep(INTERVAL)
                run.update()
                began = time.monotonic()
                if run.goes_on and run.offset != written and began >= due:
                    write_page(RENEW_AFTER)
                    # NOTE: a page of thousands of stages takes a while
                    took = time.monotonic() - began
                    written, due = run.offset, began + max(RENEW_AFTER, PAUSE * took)
        finally:
            write_page()

    def _write(self, run: "Run", text: str) -> str:
        """Write a page or a trace, and return a link to it."""
        path = Path(self.args.out or run.folder.path_of(NAME)).absolute()
        try:
            with self._opened(run, path) as fobj:
                fobj.write(text)
        except OSError as exc:
            raise DvcException(f"cannot write '{path}': {exc.strerror}") from exc
        return path.as_uri()

    def _opened(self, run: "Run", path: Path) -> "AbstractContextManager[TextIO]":
        from dvc_parallel.engine.atomic import atomic_write

        if not self.args.out:
            return run.folder.replace(NAME)
        return atomic_write(str(path), str(path.parent), sync=False)


def _compare(before: "Run", now: "Run", as_json: bool) -> None:
    """Show which stages took longer or shorter than in an earlier run, and where."""
    from dvc_parallel.reporting.report.compare import compare
    from dvc_parallel.reporting.report.summary import SCHEMA_VERSION
    from dvc_parallel.reporting.report.timeline import timeline

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


def _show_times(changes: "Sequence[Change]") -> None:
    from dvc_parallel.reporting.report.compare import PARTS

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


def _show_outcomes(changes: "Sequence[Change]") -> None:
    from dvc_parallel.reporting.report.compare import outcomes_differ

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


def _trace(run: "Run", found: "Summary") -> str:
    from dvc_parallel.reporting.report.chrome_trace import chrome_trace

    return json.dumps(chrome_trace(run.header, found), separators=(",", ":"))


def _page(run: "Run", found: "Summary", renewed_after: Optional[int] = None) -> str:
    from dvc_parallel.reporting.report.page import page
    from dvc_parallel.reporting.report.sections import MOST_FAILURES

    shown = found.failed[:MOST_FAILURES]
    most = min(LOG_BYTES, PAGE_BYTES // max(1, len(shown)))
    failures = [_failure(run, stage, most) for stage in shown]
    return page(run.header, run.state, found, failures, renewed_after)


def _markdown(run: "Run", found: "Summary") -> str:
    from dvc_parallel.reporting.report.markdown import markdown

    shown = found.failed[:MARKDOWN_FAILURES]
    most = min(MARKDOWN_LOG_BYTES, MARKDOWN_BYTES // max(1, len(shown)))
    failures = [_failure(run, stage, most) for stage in shown]
    return markdown(run.header, run.state, found, failures)


def _failure(run: "Run", stage: "StageTimes", most: int) -> "Failure":
    from dvc_parallel.reporting.records.log_files import end_of
    from dvc_parallel.reporting.report.sections import Failure
    from dvc_parallel.reporting.report.text import tail

    name = run.stages[stage.index].log
    with suppress(OSError):
        log, more = tail(end_of(run.logs, name, most + 1), most)
        return Failure(stage, log, os.path.relpath(run.logs.path_of(name)), more)
    return Failure(stage)


def add_parser(subparsers, parent_parser) -> None:
    parser = add_command(subparsers, parent_parser, "report", HELP, HELP)
    parser.add_argument("--run", metavar="<id>", help=RUN)
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "-o",
        "--out",
        metavar="<file>",
        help=(
            "Where to write it: a page to a file that ends in .html, a trace for "
            "Perfetto or chrome://tracing to one that ends in .json. The default is a "
            "page in the folder of the run."
        ),
    ).complete = completion.FILE
    add_formats(output, "Print a summary in this format instead.", JSON)
    text = (
        "Write the page again while the run goes on, until it ends. The page renews "
        "itself while it is open."
    )
    add_switch(parser, "-f", "--follow", text=text)
    parser.add_argument(
        "--compare",
        metavar="<id>",
        help=(
            "Print which stages took longer or shorter than in this earlier run, and "
            "where: in the queue, in the command, or while DVC checked and saved."
        ),
    )
    parser.set_defaults(func=CmdReport)
