"""``python -m benchmarks``: measure, print the table, draw the plot."""

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from .harness import measure
from .installs import Install, check_plugin, install_all
from .plot import plot
from .results import Results, Row, machine, now
from .table import table, update
from .tools import DVC, OURS, PEERS, SERIAL, tools
from .workloads import WORKLOADS, make

LIMIT = 900.0


@dataclass(frozen=True)
class Part:
    """A workload, and with whom and how often it is run.

    Attributes:
        tools: names.
        sizes, jobs: None: those of the workload.
        limit: seconds for a run.
        once: seconds; what takes longer is not run in another round.
    """

    workload: str
    sizes: Optional[Sequence[int]]
    jobs: Optional[Sequence[int]]
    tools: Sequence[str]
    rounds: int = 3
    limit: float = LIMIT
    once: float = math.inf


# About two minutes. Beside the two DVCs, only tools of one package or none.
SMALL = ["cp-fan", "no-op", "uneven-chains", "big-outputs"]
SMALL_TOOLS = [*DVC, "doit", "ninja", "make"]
SMALL_LIMIT = 20.0

# About twelve minutes on two idle cores, of which serial DVC takes seven. Its time
# grows with the square of the number of stages, so that it gets fewer of them; ours
# gets all of them after that. The first parts need the fewest tools.
SUMMARY = [
    Part("anchors", [20], [1, 4], DVC, 2, once=10),
    Part("many-deps", [12], [1, 4], DVC, 2, once=10),
    Part("foreach-dicts", [50], [1, 4], DVC, 2, once=10),
    Part("shared-folder", [3000], [1, 4], DVC, 2, once=10),
    Part("anchors", [70], [4], [OURS], 1),
    Part("many-deps", [134], [4], [OURS], 1),
    Part("foreach-dicts", [366], [4], [OURS], 1),
    Part("anchors-asleep", [70], [4], [OURS], 1),
    Part("many-deps-asleep", [134], [4], [OURS], 1),
    Part("foreach-dicts-asleep", [50], [4], [OURS], 1),
    Part("big-outputs", [512], [4], DVC, 1),
    Part("eight-chains", [8], [8], [*DVC, *PEERS, "paraffin"], 1, limit=60),
    Part("cp-fan", [200], [1, 2], [*DVC, *PEERS], 1, limit=100),
    Part("cp-fan", [500], [1, 2], [*DVC, *PEERS], 2, limit=400, once=10),
    Part("cp-fan", [2000], [2], [OURS], 1, limit=100),
    Part("no-op", [500], [1, 2], [*DVC, *PEERS], 1, limit=100),
]


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
        help="some of the workloads and tools, small, one round: about two minutes, "
        "once the tools are installed",
    )
    parser.add_argument(
        "--summary",
        action="store_true",
        help="what docs/benchmarks.md shows: about twenty minutes",
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
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 3")
    parser.add_argument(
        "--limit",
        type=float,
        metavar="S",
        help=f"seconds for a run, default: {LIMIT:g}",
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
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE.md",
        help="put the tables between the marks for them in this page",
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
        if args.workloads:
            results.measured = [m for m in results.measured if m.name in args.workloads]
    else:
        results = run(args)
    text = table(results)
    print(text)
    if args.page:
        update(args.page, text)
    if args.plot:
        args.plot.write_text(plot(results), encoding="utf-8")
    return 0


def parts(args: argparse.Namespace) -> list[Part]:
    """What to measure, in this order."""
    known = tools(args.dvc_version)
    wrong = {*(args.tools or known)} - {*known}
    for name in wrong | {*(args.workloads or WORKLOADS)} - {*WORKLOADS}:
        sys.exit(f"no such tool or workload: {name}")
    if args.summary:
        if args.sizes or args.jobs:
            sys.exit("--summary has sizes and numbers of jobs of its own")
        found = [
            replace(part, tools=[name for name in part.tools if name in args.tools])
            if args.tools
            else part
            for part in SUMMARY
            if part.workload in (args.workloads or WORKLOADS)
        ]
    elif args.small:
        found = [
            Part(
                name,
                args.sizes or WORKLOADS[name][2],
                args.jobs,
                args.tools or SMALL_TOOLS,
                rounds=1,
                limit=SMALL_LIMIT,
            )
            for name in args.workloads or SMALL
        ]
    else:
        found = [
            Part(name, args.sizes, args.jobs, args.tools or list(known))
            for name in args.workloads or WORKLOADS
        ]
    return [
        replace(
            part,
            rounds=args.rounds or part.rounds,
            limit=args.limit or part.limit,
        )
        for part in found
        if part.tools
    ]


def run(args: argparse.Namespace) -> Results:
    chosen = parts(args)
    rounds = max((part.rounds for part in chosen), default=0)
    limit = max((part.limit for part in chosen), default=0.0)
    results = Results(now(), machine(), {}, {}, rounds, limit)
    executables = {SERIAL: args.serial_dvc, OURS: args.parallel_dvc}
    known = tools(args.dvc_version)
    ready: dict[str, Install] = {}
    missing: dict[str, str] = {}
    too_slow: set[tuple[str, str, Optional[int]]] = set()
    for number, part in enumerate(chosen, 1):
        names = [name for name in known if name in part.tools]
        # No sooner than they are needed, and never while something is measured.
        new = [known[n] for n in names if n not in ready and n not in missing]
        for tool, found in zip(new, install_all(new, executables, say)):
            results.notes[tool.name] = tool.note
            if isinstance(found, Install):
                with tempfile.TemporaryDirectory() as home:
                    check_plugin(found, found.env(Path(home)))
                ready[tool.name] = found
                results.tools[tool.name] = found.version
            else:
                missing[tool.name] = str(found)
                results.tools[tool.name] = f"not available: {found}"

        say(f"part {number} of {len(chosen)}: {part.workload}")
        for workload in make(part.workload, False, part.sizes):
            measured = measure(
                workload,
                [ready[name] for name in names if name in ready],
                part.jobs or workload.jobs,
                part.rounds,
                part.limit,
                args.workdir,
                say,
                {
                    (tool, jobs)
                    for name, tool, jobs in too_slow
                    if name == workload.name
                },
                part.once,
            )
            too_slow |= {
                (workload.name, row.tool, row.jobs)
                for row in measured.rows
                if row.timed_out
            }
            measured.rows.extend(
                Row(name, None, cannot=missing[name])
                for name in names
                if name in missing
            )
            results.measured.append(measured)
            # After each of them: nothing is lost to an interrupt.
            if args.json:
                results.save(args.json)
    return results


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
