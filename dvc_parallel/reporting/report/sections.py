"""The parts of a page in words and tables, which need no script."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from dvc_parallel.engine.reporter_events import outcomes_in_words
from dvc_parallel.engine.signals import failure_reason
from dvc_parallel.engine.terminal import plural, speedup
from dvc_parallel.engine.usage import Usage, size

from .markup import (
    NONE,
    bars,
    cell,
    html,
    name_cell,
    paths,
    seconds_cell,
    section,
    table,
    text_cell,
)
from .summary import CAUSES, ON_PATH, Summary
from .text import shorten, time
from .timeline import StageTimes

# What is shown of what may be long.
MOST_STEPS = 500
MOST_SLOW = 20
MOST_FAILURES = 200
OPEN_FAILURES = 5
MOST_ERROR = 2000  # characters

PHASE_TEXTS = {
    "command": "commands",
    "check": "checking for changes",
    "save": "saving: hashes, copies, dvc.lock",
    "lock": "waiting for the repo lock",
    "handover": "between one stage and the next",
}
CAUSE_TEXTS = {
    "upstream": "upstream stages",
    "slot": "a slot",
    "pool": "a pool",
    "lock": "the repo lock",
    "saving": "saving",
}


@dataclass(frozen=True)
class Failure:
    """A stage that has failed.

    Attributes:
        log: the last lines that it printed; None where there is no log.
        log_name: where all of it is.
        more: whether there is more in the log.
    """

    stage: StageTimes
    log: Optional[str] = None
    log_name: str = ""
    more: bool = False


def facts(summary: Summary) -> str:
    timeline, outcomes = summary.timeline, summary.outcomes
    speed = speedup(summary.busy, timeline.seconds, "{} the time of the run")
    facts = [
        ("Stages", str(len(timeline.stages)), outcomes_in_words(outcomes)),
        ("Time", time(timeline.seconds), f"with {plural(timeline.jobs, 'job')}"),
        ("Stage time", time(summary.busy), speed),
        ("Longest chain", time(summary.chain), "no number of jobs beats this"),
        ("Slots used", f"{summary.usage:.0%}", "of the time of all slots"),
    ]
    if used := summary.used:
        busy = "" if used.cores is None else f"{used.cores:.1f} CPUs on average"
        facts.append(("CPU time", NONE if used.cpu is None else time(used.cpu), busy))
        largest = summary.largest.name if summary.largest else NONE
        facts.append(("Memory at its peak", size(used.memory), f"largest: {largest}"))
        disks = f"{size(used.written)} written"
        facts.append(("Read from disks", size(used.read), disks))
    return f'<dl class="facts">{"".join(map(_fact, facts))}</dl>'


def _fact(fact: tuple[str, str, str]) -> str:
    name, value, more = fact
    return (
        f"<div><dt>{html(name)}</dt>"
        f"<dd>{html(value)}<small>{paths(more)}</small></dd></div>"
    )


def failures(failures: Sequence[Failure], count: int) -> str:
    if not failures:
        return ""
    items = "".join(_failure(failure, count <= OPEN_FAILURES) for failure in failures)
    if left := count - len(failures):
        items += f"<p>{left} more failed; see the table of all stages.</p>"
    return section("failures", f"Failures ({count})", items)


def _failure(failure: Failure, is_open: bool) -> str:
    stage = failure.stage
    error = shorten(failure_reason(stage.error), MOST_ERROR)
    if failure.log is None:
        log = '<p class="muted note">There is no log of its output.</p>'
    else:
        words = "The last lines of" if failure.more else "All of"
        log = (
            f'<p class="muted note">{words} {html(failure.log_name)}:</p>'
            f'<pre tabindex="0">{html(failure.log) or "(it is empty)"}</pre>'
        )
    return (
        f"<details{' open' if is_open else ''}>"
        f"<summary><b>&times; {html(stage.name)}</b> "
        f"after {time(stage.busy)}: "
        f"{html(error)}</summary>{log}</details>"
    )


def where(summary: Summary) -> str:
    total = sum(summary.on_path.values())
    rows = [
        [
            text_cell(PHASE_TEXTS[phase]),
            seconds_cell(seconds),
            f"<td>{bars([(_share(seconds, total), phase)])}</td>",
            cell(f"{_share(seconds, total):.0%}", "number"),
        ]
        for phase in ON_PATH
        if (seconds := summary.on_path[phase]) or phase == "command"
    ]
    on_path = table(["what", "#time", "", "#share"], rows)
    rows = [
        [
            text_cell(CAUSE_TEXTS[cause]),
            seconds_cell(waiting.seconds),
            cell(str(waiting.stages), "number"),
            seconds_cell(waiting.longest_seconds),
            cell(waiting.longest.name if waiting.longest else NONE),
        ]
        for cause in CAUSES
        for waiting in [summary.waiting[cause]]
    ]
    head = ["waited for", "#all stages together", "#stages", "#longest", "which stage"]
    return section(
        "where",
        "Where the time went",
        f'<p id="advice">{html(summary.advice)}</p>'
        f"<h3>Time on the critical path</h3>{on_path}"
        f"<h3>Waiting, by cause</h3>{table(head, rows)}",
    )


def _share(seconds: float, total: float) -> float:
    return seconds / total if total else 0.0


def critical(summary: Summary) -> str:
    whys = {
        "upstream": "the end of",
        "slot": "the slot of",
        "pool": "a pool, used by",
    }
    rows = [
        [
            name_cell(step.stage.name),
            seconds_cell(step.start),
            cell(
                f"{whys[step.why]} {step.behind.name}"
                if step.behind
                else "the start of the run"
            ),
            seconds_cell(step.stage.seconds("ready")),
            seconds_cell(step.stage.seconds("lock")),
            seconds_cell(step.stage.seconds("command")),
            seconds_cell(step.stage.seconds("save")),
            seconds_cell(step.end - step.start),
        ]
        for step in summary.path[:MOST_STEPS]
    ]
    if not rows:
        return ""
    head = [
        "stage",
        "#from",
        "waited last for",
        "#waiting for a slot",
        "#waiting for the repo lock",
        "#command",
        "#save",
        "#adds to the run",
    ]
    left = len(summary.path) - len(rows)
    note = (
        '<p class="muted">From the stage that ended last back to the start: each step '
        "is what the next one waited for last.</p>"
    )
    more = f"<p>{left} more steps are not shown.</p>" if left else ""
    queued = sum(step.why in ("slot", "pool") for step in summary.path)
    title = f"Critical path ({len(rows) + left} steps, {queued} waited for a slot)"
    return section("critical", title, note + table(head, rows) + more)


def slowest(summary: Summary) -> str:
    slowest = summary.slowest[:MOST_SLOW]
    if not slowest:
        return ""
    longest = slowest[0].busy
    on_path = {step.stage.index for step in summary.path}
    rows = [
        [
            name_cell(stage.name),
            cell(stage.outcome),
            seconds_cell(stage.busy),
            "<td>"
            + bars(
                (_share(stage.seconds(phase), longest), phase)
                for phase in ("check", "command", "save")
            )
            + "</td>",
            seconds_cell(stage.seconds("command")),
            seconds_cell(stage.seconds("save")),
            *(_used(stage.used) if summary.used else ()),
            cell("yes" if stage.index in on_path else ""),
        ]
        for stage in slowest
    ]
    used = ["#CPU time", "#memory"] if summary.used else []
    head = ["stage", "outcome", "#time", "", "#command", "#save", *used, "critical"]
    return section("slowest", "Slowest stages", table(head, rows))


def _used(used: Optional[Usage]) -> tuple[str, str]:
    used = used or Usage(0.0)
    memory = NONE if used.memory is None else size(used.memory)
    return seconds_cell(used.cpu or 0.0), cell(memory, "number")
