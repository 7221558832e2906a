"""A run as one HTML file that needs nothing else.

Tables are written by ``sections.py``; the chart and the table of all stages are drawn
by ``page.js`` from the data in the page.  Nothing of a run becomes code: text is
escaped, data is JSON in a block that is not run, and the page's own policy lets nothing
run or load but the one script and the one style sheet in it (by their hashes: W3C,
Content Security Policy Level 3, 2.3.1).
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any, Optional

from . import sections
from .markup import html
from .summary import Summary
from .text import clean, shorten
from .timeline import StageTimes

PHASES = ("ready", "lock", "check", "command", "save")  # as in page.js
MOST_CHARACTERS = 500  # of a command or an error
MOST_HEADING = 150  # of the command of the run, which may name any number of targets
MOST_TIMES = 2000  # of the line of memory

RENEWAL = '<meta http-equiv="refresh" content="{}">\n'
STATES = {
    "ok": "succeeded",
    "failed": "failed",
    "interrupted": "was interrupted",
    "killed": "was killed: this is what was recorded",
    "running": "is still running: this is its progress so far",
}


def page(
    header: Mapping[str, Any],
    state: str,
    summary: Summary,
    failures: Sequence[sections.Failure],
    renewed_after: Optional[int] = None,
) -> str:
    """The page of a run.

    Args:
        header, state: as :class:`dvc_parallel.reporting.records.Run` has them.
        failures: the stages that failed, with their logs; of many, the first ones.
        renewed_after: seconds after which a browser reads it again, if it does.
    """
    folder = Path(__file__).parent
    parts = {
        name: folder.joinpath(f"page.{suffix}").read_text(encoding="utf-8")
        for name, suffix in (("style", "css"), ("script", "js"))
    }
    hashes = {f"{name}_hash": _hash(text) for name, text in parts.items()}
    command = str(header.get("command") or "dvc repro")
    run_id = str(header.get("id", ""))
    bad = "" if state in ("ok", "running") else " bad"
    parts.update(
        hashes,
        renewal=RENEWAL.format(renewed_after) if renewed_after else "",
        title=html(f"{command} · {run_id}"),
        heading=f"<code>{html(shorten(command, MOST_HEADING))}</code>",
        about=f"Run {html(run_id)}, started {html(_date(header))}: "
        f'<span class="state{bad}">{html(STATES.get(state, state))}</span>',
        facts=sections.facts(summary),
        failures=sections.failures(failures, len(summary.failed)),
        where=sections.where(summary),
        critical=sections.critical(summary),
        slowest=sections.slowest(summary),
        footer=html(
            f"DVC {header.get('dvc', '?')}, "
            f"dvc-parallel {header.get('dvc_parallel', '?')}, "
            f"process {header.get('pid', '?')}"
        ),
        data=_json(page_data(summary)),
    )
    template = folder.joinpath("page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


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
        "memory": [
            [round(when, 4), size] for when, size in timeline.memory(MOST_TIMES)
        ],
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
    used = stage.used
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
        clean(stage.worker),
        [used.cpu, used.memory, used.read, used.written] if used else None,
    ]


def _date(header: Mapping[str, Any]) -> str:
    started = str(header.get("started", "?"))
    with suppress(ValueError, OverflowError):
        when = datetime.fromisoformat(started).astimezone(timezone.utc)
        return f"{when:%Y-%m-%d %H:%M:%S} UTC"
    return started
