"""``python -m benchmarks``: measure, print the table, draw the plot."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from .harness import measure
from .installs import NotAvailableError, check_plugin, install
from .plot import plot
from .results import Results, Row, machine, now
from .table import table
from .tools import OURS, SERIAL, tools
from .workloads import WORKLOADS, make

if TYPE_CHECKING:
    from .installs import Install

# What takes about two minutes, once the tools are installed.
SMALL = ["cp-fan", "no-op", "uneven-chains", "big-outputs"]
SMALL_LIMIT, LIMIT = 20.0, 900.0


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    return text.split(",")


def paths(text: str) -> list[Path]:
    return [Path(part) for part in text.split(",")]


def parser() -> argparse.ArgumentParser:
    known = tools("0")
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--small",
        action="store_true",
        help="some of the workloads, small, one round: about two minutes",
    )
    parser.add_argument(
        "--workloads", type=names, metavar="A,B", help=f"of {', '.join(WORKLOADS)}"
    )
    parser.add_argument(
        "--tools", type=names, metavar="A,B", help=f"of {', '.join(known)}"
    )
    parser.add_argument(
        "--sizes", type=numbers, metavar="N,M", help="sizes of each workload"
    )
    parser.add_argument(
        "--jobs",
        type=numbers,
        metavar="N,M",
        help="numbers of jobs for dvc repro -j; the other tools get the last one",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 3, small: 1")
    parser.add_argument(
        "--limit",
        type=float,
        metavar="S",
        help=f"seconds for a run, default: {LIMIT:g}, small: {SMALL_LIMIT:g}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results")
    parser.add_argument(
        "--from",
        dest="sources",
        type=paths,
        metavar="FILE,...",
        help="read results that --json has written, measure nothing",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.svg", help="draw time by number of stages"
    )
    parser.add_argument("--serial-dvc", type=Path, metavar="DVC", help="executable")
    parser.add_argument("--parallel-dvc", type=Path, metavar="DVC", help="executable")
    parser.add_argument(
        "--dvc-version",
        default="3.67.1",
        metavar="V",
        help="DVC to install where no executable is given, default: %(default)s",
    )
    parser.add_argument(
        "--workdir", type=Path, metavar="DIR", help="where to write the projects"
    )
    return parser


def main(argv: Optional[list[str]] = None) -> int:
    args = parser().parse_args(argv)
    if args.sources:
        results = Results.load(*args.sources)
    else:
        results = run(args)
    print(table(results))
    if args.plot:
        args.plot.write_text(plot(results), encoding="utf-8")
    return 0


def run(args: argparse.Namespace) -> Results:
    known = tools(args.dvc_version)
    wanted = args.tools or list(known)
    workloads = args.workloads or (SMALL if args.small else list(WORKLOADS))
    for name in set(wanted) - set(known) | set(workloads) - set(WORKLOADS):
        sys.exit(f"no such tool or workload: {name}")

    rounds = args.rounds or (1 if args.small else 3)
    limit = args.limit or (SMALL_LIMIT if args.small else LIMIT)
    results = Results(now(), machine(), {}, {}, rounds, limit)
    executables = {SERIAL: args.serial_dvc, OURS: args.parallel_dvc}
    installs: list[Install] = []
    missing: list[Row] = []
    for tool in (known[name] for name in known if name in wanted):
        say(f"making {tool.name} ready")
        try:
            found = install(tool, executables.get(tool.name))
        except NotAvailableError as exc:
            results.tools[tool.name] = "not available"
            missing.append(Row(tool.name, None, cannot=str(exc)))
            continue
        with tempfile.TemporaryDirectory() as home:
            check_plugin(found, found.env(Path(home)))
        results.tools[tool.name] = found.version
        results.notes[tool.name] = tool.note
        installs.append(found)

    for name in workloads:
        too_slow: set[tuple[str, Optional[int]]] = set()
        for workload in make(name, args.small, args.sizes):
            measured = measure(
                workload,
                installs,
                args.jobs or workload.jobs,
                rounds,
                limit,
                args.workdir,
                say,
                too_slow,
            )
            too_slow |= {(r.tool, r.jobs) for r in measured.rows if r.timed_out}
            measured.rows.extend(missing)
            results.measured.append(measured)
            # After each of them: nothing is lost to an interrupt.
            if args.json:
                results.save(args.json)
    return results


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
