"""The tables, in Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from .results import Measured, Results, Row
from .tools import SERIAL

HEADER = ("tool", "-j", "seconds", "CPU", "/ serial DVC", "/ bound", "remarks")
# In a page, the tables are between these lines.
START, END = "<!-- measured -->", "<!-- end of measured -->"


def table(results: Results) -> str:
    """Everything there is to say, for people to read.

    Returns:
        str: where and with what, a table for each workload, and what to know about the
            tools.
    """
    lines = [
        f"{results.date}, {_machine(results)}.",
        "",
        (
            f"Medians of up to {results.rounds} rounds, in seconds. CPU: seconds "
            "of all processes that the tool has waited for. Bound: the longer of the "
            "critical path and the work divided by the jobs, where commands without a "
            "duration of their own were timed once, one after the other, in a shell. "
            "Tools without a cache of outputs do less work than DVC does."
        ),
    ]
    for measured in results.measured:
        title = measured.title[:1].upper() + measured.title[1:]
        limit = measured.limit or results.limit
        what = (
            f"`{measured.name}`, size {measured.size}, at most {limit:g} s for a run:"
        )
        lines += ["", f"### {title}", "", what, ""]
        rows = [HEADER, *(_cells(measured, row, results) for row in measured.rows)]
        lines.extend(_align(rows))
    lines += ["", "### The tools", ""]
    for name, version in results.tools.items():
        note = results.notes.get(name)
        lines.append(f"- {name}: {version}{f'; {note}' if note else ''}.")
    return "\n".join(lines)


def update(page: Path, text: str) -> None:
    """Put the tables where those of an earlier run are in a page.

    Raises:
        SystemExit: it has no place for them.
    """
    before, start, rest = page.read_text(encoding="utf-8").partition(f"{START}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not start or not end:
        raise SystemExit(f"{page} has no lines {START} and {END}")
    new = f"{before}{start}\n{text}\n\n{end}{after}"
    page.write_text(new, encoding="utf-8")


def _machine(results: Results) -> str:
    machine = results.machine
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']} GiB, "
        f"load {machine['load']} at the start, {machine['system']}"
    )


def _cells(measured: Measured, row: Row, results: Results) -> tuple[str, ...]:
    bound = measured.bounds.get(row.jobs or 1)
    median = row.median
    return (
        row.tool,
        str(row.jobs or "-"),
        _median(row),
        "-" if row.median_cpu is None else f"{row.median_cpu:.2f}",
        _of_serial(median, measured.rows, measured.limit or results.limit),
        f"{median / bound:.2f}" if median is not None and bound else "-",
        remarks(row),
    )


def _median(row: Row) -> str:
    if row.median is not None:
        return f"{row.median:.2f}"
    if row.cannot:
        return "cannot"
    return "timed out" if row.timed_out else "failed"


def _of_serial(median: Optional[float], rows: Sequence[Row], limit: float) -> str:
    serial = next((row for row in rows if row.tool == SERIAL), None)
    if median is None or serial is None:
        return "-"
    if serial.median is not None:
        return f"{median / serial.median:.3f}"
    # It would have taken longer than that.
    return f"< {median / limit:.3f}" if serial.timed_out else "-"


def remarks(row: Row) -> str:
    """Why there are no figures, or what to think of them."""
    if row.cannot:
        return row.cannot
    found = []
    if row.errors:
        runs = len(row.seconds) + len(row.errors)
        errors = ", ".join(dict.fromkeys(row.errors))
        found.append(f"{len(row.errors)} of {runs} runs failed: {errors}")
    if row.start_delays:
        found.append(f"a stage started up to {max(row.start_delays):.2f} s late")
    if row.same_as_serial is not None:
        found.append(
            "same dvc.lock and .gitignore as serial DVC"
            if row.same_as_serial
            else "dvc.lock or a .gitignore DIFFERS from serial DVC's"
        )
    return "; ".join(found)


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    # The last column is text of any length: not filled up.
    lines = [
        "| " + " | ".join(map(str.ljust, row[:-1], widths)) + f" | {row[-1]} |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths[:-1]) + "|-|")
    return lines
