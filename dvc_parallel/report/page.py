"""A run as one HTML file that needs nothing else.

Tables are written here; the chart and the table of all stages are drawn by
``page.js`` from the data in the page.  Nothing of a run becomes code: text is escaped,
data is JSON in a block that is not run, and the page's own policy lets nothing run or
load but the one script and the one style sheet in it (by their hashes: W3C, Content
Security Policy Level 3, 2.3.1).
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, Optional

from .summary import CAUSES, ON_PATH, Summary
from .text import clean, shorten, time
from .timeline import CHANGED, SKIPPED, UNCHANGED, StageTimes

PHASES = ("ready", "lock", "check", "command", "save")  # as in page.js
# What is shown of what may be long.
MOST_STEPS = 500
MOST_SLOW = 20
MOST_FAILURES = 200
OPEN_FAILURES = 5
MOST_CHARACTERS = 500

NONE = "\u2013"

PHASE_TEXTS = {
    "command": "commands",
    "check": "checks whether stages have changed",
    "save": "saving: hashes, copies, dvc.lock",
    "lock": "waiting for the repo",
    "handover": "between one stage and the next",
}
CAUSE_TEXTS = {
    "upstream": "upstream stages",
    "slot": "a slot",
    "pool": "a pool",
    "lock": "the repo",
    "saving": "saving",
}


@dataclass(frozen=True)
class Failure:
    """A stage that has failed.

    Attributes:
        stage: the stage.
        log: the last lines that it printed; None where there is no log.
        log_name: where all of it is.
        more: whether there is more in the log.
    """

    stage: StageTimes
    log: Optional[str] = None
    log_name: str = ""
    more: bool = False


def page(
    header: Mapping[str, Any], state: str, summary: Summary, failures: Sequence[Failure]
) -> str:
    """The page of a run.

    Args:
        header: the first record of the run.
        state: how it ended, in words.
        summary: what it did.
        failures: the stages that failed, with their logs; of many, the first ones.
    """
    folder = Path(__file__).parent
    parts = {
        name: folder.joinpath(f"page.{suffix}").read_text(encoding="utf-8")
        for name, suffix in (("style", "css"), ("script", "js"))
    }
    hashes = {f"{name}_hash": _hash(text) for name, text in parts.items()}
    command = str(header.get("command") or "dvc repro")
    run_id = str(header.get("id", ""))
    bad = "" if state == "has succeeded" else " bad"
    parts.update(
        hashes,
        title=_html(f"{command} · {run_id}"),
        heading=f"<code>{_html(command)}</code>",
        about=f"Run {_html(run_id)}, started {_html(_date(header))}: "
        f'<span class="state{bad}">{_html(state)}</span>',
        facts=_facts(summary),
        failures=_failures(failures, len(summary.failed)),
        where=_where(summary),
        critical=_critical(summary),
        slowest=_slowest(summary),
        footer=_html(
            f"DVC {header.get('dvc', '?')}, "
            f"dvc-parallel {header.get('dvc_parallel', '?')}, "
            f"process {header.get('pid', '?')}"
        ),
        data=_json(page_data(summary)),
    )
    template = folder.joinpath("page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _html(text: str) -> str:
    return escape(clean(text))


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _json(data: Any) -> str:
    # NOTE: "</script>" and "<!--" would mean something to a parser of HTML
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def page_data(summary: Summary) -> dict[str, Any]:
    """What ``page.js`` draws; its rows are lists, as there may be thousands."""
    timeline = summary.timeline
    return {
        "seconds": timeline.seconds,
        "slots": timeline.slots,
        "lanes": timeline.lanes,
        "path": [
            [step.stage.index, round(step.start, 4), round(step.end, 4)]
            for step in summary.path
        ],
        "stages": [_row(stage, summary) for stage in timeline.stages],
    }


def _row(stage: StageTimes, summary: Summary) -> list[Any]:
    times: list[float] = []
    for span in stage.spans:
        times += [round(span.start, 4), PHASES.index(span.phase)]
    if times:
        times.append(round(stage.end, 4))
    cause = summary.causes.of(stage) if stage.held else None
    details = [span.detail for span in stage.spans if span.phase == "command"]
    return [
        clean(stage.name),
        stage.outcome,
        stage.slot,
        stage.saving_lane,
        cause.behind.index if cause and cause.behind else None,
        cause.why if cause else None,
        times,
        shorten(clean("\n".join(details)), MOST_CHARACTERS),
        shorten(clean(stage.error), MOST_CHARACTERS),
    ]


def _date(header: Mapping[str, Any]) -> str:
    return str(header.get("started", "?")).replace("T", " ")


def _facts(summary: Summary) -> str:
    timeline, outcomes = summary.timeline, summary.outcomes
    known = {CHANGED: "reproduced", UNCHANGED: "unchanged", SKIPPED: "skipped"}
    counts = ", ".join(
        f"{count} {known.get(outcome, outcome)}"
        for outcome, count in sorted(outcomes.items(), key=lambda item: -item[1])
    )
    ratio = summary.busy / timeline.seconds if timeline.seconds else 0.0
    facts = [
        ("Stages", str(len(timeline.stages)), counts),
        ("Time", time(timeline.seconds), f"with {timeline.jobs} jobs"),
        (
            "All stages added up",
            time(summary.busy),
            f"{ratio:.1f} times as long",
        ),
        ("Longest chain", time(summary.chain), "no number of jobs beats that"),
        ("Slots used", f"{summary.usage:.0%}", "of the time of all slots"),
    ]
    return f'<dl class="facts">{"".join(map(_fact, facts))}</dl>'


def _fact(fact: tuple[str, str, str]) -> str:
    name, value, more = map(_html, fact)
    return f"<div><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>"


def _failures(failures: Sequence[Failure], count: int) -> str:
    if not failures:
        return ""
    items = "".join(_failure(failure, count <= OPEN_FAILURES) for failure in failures)
    if left := count - len(failures):
        items += f"<p>{left} more have failed; the table of all stages has them.</p>"
    return _section("failures", f"Failures ({count})", items)


def _failure(failure: Failure, is_open: bool) -> str:
    stage = failure.stage
    error = shorten(stage.error, 4 * MOST_CHARACTERS)
    if failure.log is None:
        log = '<p class="muted note">There is no log of what it printed.</p>'
    else:
        words = "The last lines of" if failure.more else "All of"
        log = (
            f'<p class="muted note">{words} {_html(failure.log_name)}:</p>'
            f'<pre tabindex="0">{_html(failure.log) or "(it is empty)"}</pre>'
        )
    return (
        f"<details{' open' if is_open else ''}>"
        f"<summary><b>&times; {_html(stage.name)}</b> "
        f"after {time(stage.end - (stage.held[0] if stage.held else stage.end))}: "
        f"{_html(error)}</summary>{log}</details>"
    )


def _where(summary: Summary) -> str:
    total = sum(summary.on_path.values())
    rows = [
        [
            _text(PHASE_TEXTS[phase]),
            _number(seconds),
            f"<td>{_bars(_share(seconds, total), phase)}</td>",
            _cell(f"{_share(seconds, total):.0%}", "number"),
        ]
        for phase in ON_PATH
        if (seconds := summary.on_path[phase]) or phase == "command"
    ]
    on_path = _table(["on the critical path", "#time", "", "#share"], rows)
    rows = [
        [
            _text(CAUSE_TEXTS[cause]),
            _number(waiting.seconds),
            _cell(str(waiting.stages), "number"),
            _number(waiting.longest_seconds),
            _cell(waiting.longest.name if waiting.longest else NONE),
        ]
        for cause in CAUSES
        for waiting in [summary.waiting[cause]]
    ]
    head = ["waited for", "#all stages added up", "#stages", "#longest", "which one"]
    return _section(
        "where",
        "Where the time went",
        '<div class="two">'
        f"<div><h3>What made the run as long as it was</h3>{on_path}</div>"
        f"<div><h3>Waiting, by cause</h3>{_table(head, rows)}</div>"
        "</div>",
    )


def _share(seconds: float, total: float) -> float:
    return seconds / total if total else 0.0


def _critical(summary: Summary) -> str:
    whys = {
        "upstream": "the end of",
        "slot": "the slot of",
        "pool": "a pool, used by",
    }
    rows = [
        [
            _text(step.stage.name),
            _number(step.start),
            _cell(
                f"{whys[step.why]} {step.behind.name}"
                if step.behind
                else "the start of the run"
            ),
            _number(step.stage.seconds("ready")),
            _number(step.stage.seconds("lock")),
            _number(step.stage.seconds("command")),
            _number(step.stage.seconds("save")),
            _number(step.end - step.start),
        ]
        for step in summary.path[:MOST_STEPS]
    ]
    if not rows:
        return ""
    head = [
        "stage",
        "#from",
        "waited last for",
        "#in the queue for a slot",
        "#for the repo",
        "#command",
        "#save",
        "#adds to the run",
    ]
    left = len(summary.path) - len(rows)
    note = (
        '<p class="muted">From the stage that ended last back to the start: each step '
        "is what the next one waited for last. To make the run shorter, make one of "
        "these shorter; where many waited for a slot, more jobs help.</p>"
    )
    more = f"<p>{left} more steps are not shown.</p>" if left else ""
    queued = sum(step.why in ("slot", "pool") for step in summary.path)
    title = f"Critical path ({len(rows) + left} steps, {queued} waited for a slot)"
    return _section("critical", title, note + _table(head, rows) + more)


def _slowest(summary: Summary) -> str:
    slowest = summary.slowest[:MOST_SLOW]
    if not slowest:
        return ""
    longest = slowest[0].busy
    on_path = {step.stage.index for step in summary.path}
    rows = [
        [
            _text(stage.name),
            _cell(stage.outcome),
            _number(stage.busy),
            "<td>"
            + _bars_of(
                (_share(stage.seconds(phase), longest), phase)
                for phase in ("check", "command", "save")
            )
            + "</td>",
            _number(stage.seconds("command")),
            _number(stage.seconds("save")),
            _cell("yes" if stage.index in on_path else ""),
        ]
        for stage in slowest
    ]
    head = ["stage", "outcome", "#time", "", "#command", "#save", "critical"]
    return _section("slowest", "Slowest stages", _table(head, rows))


def _section(name: str, title: str, content: str) -> str:
    return (
        f'<section aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{_html(title)}</h2>{content}</section>'
    )


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns whose title starts with "#" are numbers."""
    columns = "".join(
        f'<th scope="col" class="number">{_html(title[1:])}</th>'
        if title.startswith("#")
        else f'<th scope="col">{_html(title)}</th>'
        if title
        else "<td></td>"
        for title in head
    )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _text(text: str) -> str:
    return f'<th scope="row">{_html(text)}</th>'


def _cell(text: str, kind: str = "") -> str:
    return f'<td class="{kind}">{_html(text)}</td>'


def _number(seconds: float) -> str:
    return _cell(time(seconds) if seconds else NONE, "number")


def _bars(share: float, phase: str) -> str:
    return _bars_of([(share, phase)])


def _bars_of(parts: Iterable[tuple[float, str]]) -> str:
    # NOTE: attributes of SVG, as the policy allows no styles of elements
    bars, start = "", 0.0
    for share, phase in parts:
        bars += (
            f'<rect class="{phase}" x="{start:.2%}" width="{share:.2%}" height="100%"/>'
        )
        start += share
    return f'<svg aria-hidden="true">{bars}</svg>'
