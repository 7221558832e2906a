"""A run in the Trace Event Format, for Perfetto and chrome://tracing.

    process "dvc repro -j 2"
      slot 1     | train@svm                     | train@forest          |
                 | lock | check | command        | check | command       |
      slot 2     | ...
      saving 1                                   | train@svm: save       |
      critical path          | train@svm                 | evaluate      |
      counters     stages that run, are being saved, wait for a slot; CPUs; memory

Format: Nat Duca and Dan Sinclair, "Trace Event Format", Google, 2016 on,
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: JSON
Object Format; complete ("X"), counter ("C"), instant ("i") and metadata ("M") events.
Slices of one track have to lie within each other or apart, else Perfetto leaves them
out (https://perfetto.dev/docs/faq), so times are whole microseconds, rounded down.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from .summary import Summary
from .text import clean
from .timeline import FAILED, INTERRUPTED, StageTimes, Timeline

Event = dict[str, Any]
# What is counted, from when to when, and how much it is.
Spell = tuple[str, float, float, float]


def chrome_trace(header: Mapping[str, Any], summary: Summary) -> dict[str, Any]:
    """A run, to be written as JSON."""
    timeline = summary.timeline
    events = [*_tracks(header, timeline)]
    on_path = {step.stage.index for step in summary.path}
    for stage in timeline.stages:
        events += _slices(stage, timeline, stage.index in on_path)
    events += _path(summary, timeline)
    events += _counters(timeline)
    pid = header.get("pid", 0)
    told = ("id", "started", "jobs", "dvc", "dvc_parallel")
    return {
        "traceEvents": [{**event, "pid": pid} for event in events],
        "displayTimeUnit": "ms",
        "otherData": {name: header[name] for name in told if name in header},
    }


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _tracks(header: Mapping[str, Any], timeline: Timeline) -> Iterator[Event]:
    def meta(what: str, track: int, **args) -> Event:
        return {"ph": "M", "name": what, "tid": track, "args": args}

    yield meta("process_name", 0, name=clean(str(header.get("command") or "dvc repro")))
    names = [f"slot {number + 1}" for number in range(timeline.slots)]
    names += [f"saving {number + 1}" for number in range(timeline.lanes)]
    for track, name in enumerate([*names, "critical path"], 1):
        yield meta("thread_name", track, name=name)
        yield meta("thread_sort_index", track, sort_index=track)


def _slice(
    name: str, category: str, track: int, start: float, end: float, **args
) -> Event:
    begun = _micros(start)
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "tid": track,
        "ts": begun,
        "dur": _micros(end) - begun,
        "args": args,
    }


def _slices(stage: StageTimes, timeline: Timeline, critical: bool) -> Iterator[Event]:
    """A slice for the stage on each of its tracks, with its phases in it."""
    args: dict[str, Any] = {"outcome": stage.outcome, "on critical path": critical}
    if stage.worker:
        args["worker"] = clean(stage.worker)
    if stage.error:
        args["error"] = clean(stage.error)
    for first, lane, when in (
        (1, stage.slot, stage.held),
        (1 + timeline.slots, stage.saving_lane, stage.saved),
    ):
        if lane is None or when is None:
            continue
        track = first + lane
        yield _slice(clean(stage.name), "stage", track, *when, **args)
        for span in stage.spans:
            if span.phase != "ready" and when[0] <= span.start < when[1]:
                more = {"cmd": clean(span.detail)} if span.detail else {}
                yield _slice(span.phase, "phase", track, span.start, span.end, **more)
        if stage.outcome in (FAILED, INTERRUPTED) and when[1] == stage.end:
            yield {
                "ph": "i",
                "s": "t",
                "name": f"{clean(stage.name)} {stage.outcome}",
                "cat": stage.outcome,
                "tid": track,
                "ts": _micros(stage.end),
            }


def _path(summary: Summary, timeline: Timeline) -> Iterator[Event]:
    """The critical path, on a track of its own."""
    track = 1 + timeline.slots + timeline.lanes
    for step in summary.path:
        behind = {"behind": clean(step.behind.name)} if step.behind else {}
        yield _slice(
            clean(step.stage.name),
            "critical path",
            track,
            step.start,
            step.end,
            **{"waited for": step.why, **behind},
        )


def _counters(timeline: Timeline) -> Iterator[Event]:
    """What changes in a run, at each change: stages by what they do, CPUs, memory."""
    running, saved, waiting = "running", "being saved", "waiting for a slot"
    stages: list[Spell] = []
    used: list[Spell] = []
    memory: list[Spell] = []
    for stage in timeline.stages:
        if stage.held:
            stages.append((running, *stage.held, 1))
        if stage.saved:
            stages.append((saved, *stage.saved, 1))
        cores = (stage.used and stage.used.cores) or 0
        for span in stage.spans:
            if span.phase == "ready":
                stages.append((waiting, span.start, span.end, 1))
            elif span.phase == "command" and cores:
                used.append(("used", span.start, span.end, cores))
        for start, end, size in stage.memory:
            memory.append(("MiB", start, end, size / 2**20))
    yield from _counter("stages", (running, saved, waiting), stages)
    yield from _counter("CPUs", ("used",), used)
    yield from _counter("memory", ("MiB",), memory)


def _counter(
    name: str, values: Iterable[str], spells: Iterable[Spell]
) -> Iterator[Event]:
    changes: list[tuple[int, str, float]] = []
    for value, start, end, amount in spells:
        changes += (_micros(start), value, amount), (_micros(end), value, -amount)
    now: dict[str, float] = dict.fromkeys(values, 0)
    for when, group in groupby(sorted(changes), lambda change: change[0]):
        for _, value, change in group:
            now[value] += change
        args = {value: round(number, 2) or 0 for value, number in now.items()}
        yield {"ph": "C", "name": name, "tid": 0, "ts": when, "args": args}
