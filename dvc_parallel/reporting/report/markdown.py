"""A run as Markdown, for the summary of a job in CI or a comment.

HTML in it goes on to an empty line, but ``<pre>`` to its end (GFM 0.29, 4.6).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate  # type: ignore[import-untyped]

from dvc_parallel.engine.reporter_events import GOOD, Phase, run_in_words
from dvc_parallel.engine.signals import failure_reason
from dvc_parallel.engine.terminal import visible

from .markup import html
from .page import STATES
from .sections import Failure
from .summary import Summary
from .text import literal, shorten, time
from .timeline import StageTimes

# What is shown of what may be long: stages, characters.
MOST_STAGES = 100
MOST_NAME = 200
MOST_ERROR = 500


def markdown(
    header: Mapping[str, Any],
    state: str,
    summary: Summary,
    failures: Sequence[Failure],
) -> str:
    """What :func:`.page.page` shows; its stages, the failed and slowest ones first."""
    timeline = summary.timeline
    command = literal(str(header.get("command") or "dvc repro"))
    count, seconds = len(timeline.stages), timeline.seconds
    parts = [
        f"### {command} {literal(STATES.get(state, state))}",
        run_in_words(count, timeline.jobs, summary.outcomes, summary.busy, seconds),
        literal(summary.advice),
        *map(_failure, failures),
    ]
    if left := len(summary.failed) - len(failures):
        parts.append(f"{left} more failed.")
    return "\n\n".join(filter(None, [*parts, _stages(summary)])) + "\n"


def _failure(failure: Failure) -> str:
    stage = failure.stage
    error = shorten(failure_reason(stage.error), MOST_ERROR)
    title = f"<b>{_line(stage.name)}</b> after {time(stage.busy)}: {_line(error)}"
    log = "There is no log of its output." if failure.log is None else failure.log
    shown = f"<pre>\n{_html(log)}\n</pre>"
    return f"<details><summary>{title}</summary>\n\n{shown}\n\n</details>"


def _line(text: str) -> str:
    """A line of HTML."""
    return _html(visible(" ".join(text.split())))


def _html(text: str) -> str:
    # NOTE: these are commands where it is printed to the log of a job
    return html(text).replace("::", "&#58;:").replace("##[", "&#35;#[")


def _stages(summary: Summary) -> str:
    on_path = {step.stage.index for step in summary.path}

    def place(stage: StageTimes) -> tuple[bool, float]:
        return stage.outcome in GOOD or stage.outcome == Phase.NOT_RUN, -stage.busy

    shown = sorted((s for s in summary.timeline.stages if s.busy > 0), key=place)
    if not shown:
        return ""
    rows = [
        (
            literal(shorten(stage.name, MOST_NAME)),
            literal(stage.outcome),
            time(stage.busy),
            time(stage.seconds("command")),
            "yes" if stage.index in on_path else "",
        )
        for stage in shown[:MOST_STAGES]
    ]
    headers = ["Stage", "Outcome", "Time", "Command", "Critical path"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    left = len(shown) - len(rows)
    return f"{table}\n\n{left} more took less time." if left else table
