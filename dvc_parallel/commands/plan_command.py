"""``dvc-parallel plan``: what would run, why, when, and how long it would take."""

import re
from collections.abc import Iterator

from dvc.commands import dag, repro
from dvc.ui import ui
from networkx import DiGraph, relabel_nodes

from dvc_parallel.engine.terminal import duration, plural, visible
from dvc_parallel.remote.choose_runner import LOCAL
from dvc_parallel.reporting.report.summary import LIMITING
from dvc_parallel.reporting.report.text import literal
from dvc_parallel.scheduling.durations import Durations

from .dry_run import DryRun
from .forecast import Entry, Outlook, last_runs
from .parsers import DOT, JSON, MARKDOWN, MERMAID
from .shown import ShowsSafely, table, write
from .sizes import group_name, notable

# How many reasons of a stage are shown, and how many stages of the critical path.
SHOWN = 3
PATH = 8


class CmdPlan(ShowsSafely, repro.CmdRepro):
    def run(self) -> int:
        kwargs = {**self._common_kwargs, **self._repro_kwargs}
        dry_run = DryRun.of(self.repo, **kwargs)
        tmp_dir = self.repo.tmp_dir
        outlook = Outlook(dry_run, Durations(tmp_dir), last_runs(tmp_dir))

        if self.args.format == JSON:
            ui.write_json(outlook.as_dict())
        elif self.args.format == MERMAID:
            write(_mermaid(outlook), force=True)
        elif self.args.format == DOT:
            write(_dot(outlook), force=True)
        else:
            _show(outlook, self.args.format == MARKDOWN)
        return 0


def _show(outlook: Outlook, markdown: bool = False) -> None:
    entries = outlook.entries
    title = "### Plan: " if markdown else ""
    if not entries:
        count = plural(len(outlook.up_to_date), "stage")
        write(f"{title}Everything is up to date ({count}).")
        return
    maybe = sum(not entry.step.certain for entry in entries)
    counts = [f"{len(entries) - maybe} to run", f"{maybe} may run"]
    write(title + ", ".join([*counts, f"{len(outlook.up_to_date)} up to date."]))

    jobs, serial = plural(outlook.jobs, "job"), outlook.speeds[0]
    other = f", {duration(serial.seconds)} with 1" if outlook.jobs > 1 else ""
    write(f"About {duration(outlook.seconds)} with {jobs}{other}. {_advice(outlook)}")
    write()
    if outlook.error is None:
        _show_jobs(outlook, markdown)
    headers = ["start", "takes", "", "stage", "why"]
    table([_row(entry) for entry in entries], headers, markdown)
    write()
    for note in _notes(outlook):
        write(f"{literal(note)}\n" if markdown else note)


def _show_jobs(outlook: Outlook, markdown: bool) -> None:
    """What numbers of jobs do, those that help, and what limits them."""
    forecast = outlook.forecast
    table(
        [
            (
                str(speed.jobs),
                duration(speed.seconds),
                f"{speed.speedup:.1f}",
                f"{speed.bound:.1f}",
            )
            for speed in outlook.speeds
            if speed.jobs in (1, outlook.jobs) or speed.jobs <= outlook.enough.jobs
        ],
        ["jobs", "takes", "speed-up", "at most"],
        markdown,
    )
    path = _shortened(outlook.critical_path)
    write(
        f"\nCritical path: {duration(forecast.critical)},",
        literal(path) if markdown else visible(path),
    )
    if forecast.width > 1:
        width = plural(forecast.width, "stage")
        write(f"At the widest point, {width} can run at the same time.\n")
    else:
        write("No two stages can run at the same time.\n")


def _advice(outlook: Outlook) -> str:
    """What would make the run shorter."""
    if outlook.error is not None:
        return "With more, it cannot run: see the warning."
    forecast, enough = outlook.forecast, outlook.enough
    more = f"More than {enough.jobs} jobs" if enough.jobs > 1 else "More jobs"
    if len(outlook.speeds) == 1:
        return "More jobs do not help."
    # NOTE: as the report of the run will say it
    if forecast.owned > LIMITING * enough.seconds:
        return (
            f"{more} do not help: DVC itself takes {duration(forecast.owned)}, for "
            "one stage at a time. Fewer and longer stages do."
        )
    if enough.jobs < outlook.speeds[-1].jobs or forecast.width <= enough.jobs:
        return f"{more} do not help."
    return ""


def _row(entry: Entry) -> tuple[str, ...]:
    marks = ("*" if entry.critical else "") + ("" if entry.step.certain else "?")
    about = "~" if entry.guessed else ""
    return (
        duration(entry.start),
        f"{about}{duration(entry.seconds)}",
        marks,
        entry.name,
        _why(entry),
    )


def _why(entry: Entry) -> str:
    reasons = entry.step.reasons
    why = [str(reason) for reason in reasons if reason.kind != "upstream"]
    before = [str(reason.name) for reason in reasons if reason.kind == "upstream"]
    parts = [_some(why)] if why else []
    if before:
        parts.append(f"after {_some(before)}")
    return ", ".join(parts)


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _notes(outlook: Outlook) -> Iterator[str]:
    """What the marks in the table mean, and what stages use."""
    if outlook.error is None:
        yield "* on the critical path"
    if not all(entry.step.certain for entry in outlook.entries):
        yield "? runs only if its dependencies change"
    if not outlook.forecast.known:
        yield "~ no times are recorded yet, so each stage counts as 1 s"
    elif outlook.forecast.guesses:
        yield "~ no earlier time: the median of the other stages is used"
    if lacking := [entry.name for entry in outlook.entries if _lacks_data(entry)]:
        yield (
            f"the run fails at {_some(lacking)}: data is missing that no command "
            "makes; run `dvc pull`, or add --pull"
        )
    if outlook.runner != LOCAL:
        yield (
            f"the workers of '{outlook.runner}' were not asked what they have: pools "
            "without a size here may belong to them, and are ignored"
        )
    yield from notable(outlook.uses, outlook.machine)
    yield from _growth(outlook)


def _lacks_data(entry: Entry) -> bool:
    """Whether DVC raises an error, for data that it would not make."""
    outs = entry.step.stage.outs
    return not entry.step.has_command and not all(out.exists for out in outs)


def _growth(outlook: Outlook) -> Iterator[str]:
    """What stages take where their attempts take more and more."""
    told = {}
    for entry in outlook.entries:
        for pool, amounts in entry.growth.items():
            listed = ", then ".join(map(str, amounts))
            told[group_name(entry.name), pool] = listed
    for (group, pool), listed in told.items():
        yield f"{group}: attempts take {listed} of '{pool}'"


def _shortened(names: list[str]) -> str:
    if len(names) > PATH:
        left = len(names) - PATH + 1
        names = [*names[: PATH - 1], f"... ({left} more)"]
    return " > ".join(names)


def _graph(outlook: Outlook) -> DiGraph:
    """The stages that would or may run, with edges to those before them, as in DVC."""
    graph = DiGraph()
    graph.add_nodes_from(entry.name for entry in outlook.entries)
    for entry in outlook.entries:
        graph.add_edges_from((entry.name, name) for name in outlook.upstream(entry))
    return graph


def _dot(outlook: Outlook) -> str:
    graph = _graph(outlook)
    for entry in outlook.entries:
        text = f"{visible(entry.name)}\n{visible(_why(entry))}"
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        node = graph.nodes[entry.name]
        node["label"] = '"{}"'.format(text.replace("\n", "\\n"))
        if not entry.step.certain:
            node["style"] = "dashed"
        if entry.critical:
            node["penwidth"] = "3"
    return dag._show_dot(graph)


def _mermaid(outlook: Outlook) -> str:
    labels = {
        entry.name: visible(f"{entry.name}<br>{_why(entry)}").replace('"', "#quot;")
        for entry in outlook.entries
    }
    text = dag._show_mermaid(relabel_nodes(_graph(outlook), labels))
    ids = {
        label: node
        for node, label in re.findall(r'^\t(\w+)\["(.*)"\]$', text, re.MULTILINE)
    }
    lines = [text]
    for name, style, chosen in (
        ("critical", "stroke-width:4px", [e for e in outlook.entries if e.critical]),
        (
            "maybe",
            "stroke-dasharray:5",
            [e for e in outlook.entries if not e.step.certain],
        ),
    ):
        if chosen:
            nodes = ",".join(ids[labels[entry.name]] for entry in chosen)
            lines += [f"\tclassDef {name} {style}", f"\tclass {nodes} {name}"]
    return "\n".join(lines)
