"""What a stage costs, in counts that a busy machine does not change.

    python -m benchmarks.cost             count, and fail where a count has risen
    python -m benchmarks.cost --accept    ... and write what was counted to cost.json

The stages of ``cp-fan`` run, and run again unchanged, with one job and with two.  What
a run of two unchanged stages costs is counted apart, as ``start``; other counts are per
stage and without it, but for ``cpu``, which is that of all of the run.

    calls       calls of Python and C functions, in all threads of DVC
    files       files opened for writing
    kilobytes   what DVC and its commands write to files and pipes, 1,000 bytes
    stat, ...   system calls by kind, of DVC and all that it starts (strace)
    cpu         CPU seconds of DVC and all that it starts, as a multiple of those of a
                loop (``CALIBRATION``) that is timed right before and after each run

Counts may be 5 % above those in ``cost.json``, and CPU time 15 %: another processor
weighs Python and system calls otherwise.  What is above its limit is counted again, and
the smallest count holds.  Projects are written to memory where there is such a file
system, as ext4 takes longer for a file the more have been removed lately.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Callable, Optional

from . import formats, project
from .installs import Install, NotAvailableError, check_plugin, install
from .process import RunError
from .tools import OURS, tools
from .workloads import cp_fan

COMMITTED = Path(__file__).parent / "cost.json"
STAGES = 100
JOBS = (2, 1)
START = "start"
RUNS = [START, *(f"{run} -j {jobs}" for jobs in JOBS for run in ("first", "no-op"))]

# Parts of a count by which it may rise.
TOLERANCE, CPU_TOLERANCE = 0.05, 0.15
# By how much a count may rise besides: it may be next to nothing.
NEGLIGIBLE = 0.1
# Seconds after which a file counts as left alone: what is kept of it is used.
SETTLED = 0.2
MEMORY = Path("/dev/shm")

KINDS = {
    "stat": "stat lstat fstat newfstatat statx access faccessat faccessat2 readlink",
    "open": "open openat openat2",
    "read": "read pread64 lseek getdents64",
    "write": "write pwrite64 copy_file_range sendfile",
    "change": "rename renameat renameat2 unlink unlinkat mkdir mkdirat rmdir link "
    "linkat symlink symlinkat chmod fchmod fchmodat chown fchown lchown fchownat "
    "utimensat truncate ftruncate",
    "sync": "fsync fdatasync sync syncfs sync_file_range",
    "lock": "flock fcntl",
    "process": "clone clone3 fork vfork execve",
}
KIND = {name: kind for kind, names in KINDS.items() for name in names.split()}

CALIBRATION = """
import json, os
def walk(number, seen):
    text = f"out/{number}.txt"
    seen[text] = seen.get(text, 0) + 1
    return len(json.dumps({"path": text, "size": number}))
for _ in range(20):
    seen = {}
    for number in range(2000):
        walk(number, seen)
        if not number % 4:
            os.stat("/")
"""

# Runs DVC, which does not give the repo up for a moment every half a second: counting
# makes it slow, and what that costs is of the clock, not of a stage.
RUN = """
import sys
from dvc.cli import main
from dvc_parallel.engine import repo_lock
repo_lock.MAX_HOLD = 3600
"""

# Runs DVC, and writes how many functions it has called to a file.
COUNT_CALLS = f"""{RUN}
import itertools, threading
file, *sys.argv[1:] = sys.argv[1:]
calls = itertools.count()
def count(frame, event, arg, calls={{"call", "c_call"}}, add=calls.__next__):
    if event in calls:
        add()
threading.setprofile(count)
sys.setprofile(count)
try:
    status = main(sys.argv[1:])
finally:
    sys.setprofile(None)
    threading.setprofile(None)
    with open(file, "w") as fobj:
        fobj.write(str(next(calls)))
sys.exit(status)
"""

# Name of a run -> name of a count -> how many.
Costs = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Counting:
    """A way to count what a run costs.

    Attributes:
        count: runs the ``dvc repro`` of a folder of executables, with a number of jobs,
            in a project, with variables.
        rounds: how often, and
        tries: at most, where a count is above its limit.
    """

    count: Callable[[Path, int, Path, Mapping[str, str]], dict[str, float]]
    rounds: int = 1
    tries: int = 3


def _run(command: Sequence[str], root: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, cwd=root, env=dict(env), capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise RunError(f"`{' '.join(command[:2])}` failed: {lines[-1]}")


def _repro(jobs: int) -> list[str]:
    return ["repro", "--quiet", "--jobs", str(jobs)]


def _count_calls(
    folder: Path, jobs: int, root: Path, env: Mapping[str, str]
) -> dict[str, float]:
    with tempfile.NamedTemporaryFile("r") as file:
        python = str(folder / "python")
        _run([python, "-c", COUNT_CALLS, file.name, *_repro(jobs)], root, env)
        return {"calls": float(file.read())}


def _count_system_calls(
    folder: Path, jobs: int, root: Path, env: Mapping[str, str]
) -> dict[str, float]:
    with tempfile.NamedTemporaryFile("r", errors="replace") as file:
        strace = ["strace", "-f", "-qq", "-s", "0", "-o", file.name]
        python = [str(folder / "python"), "-c", f"{RUN}sys.exit(main(sys.argv[1:]))"]
        _run([*strace, *python, *_repro(jobs)], root, env)
        return system_calls(file)


def system_calls(lines: Iterable[str]) -> dict[str, float]:
    """Count what ``strace -f`` has written down."""
    counts = dict.fromkeys(("files", *KINDS), 0.0)
    for line in lines:
        # NOTE: what was interrupted has another line for its end, without "name("
        match = re.match(r"\d+ +(\w+)\(", line)
        if not match:
            continue
        name = match[1]
        if name in KIND:
            counts[KIND[name]] += 1
        if KIND.get(name) == "open" and re.search(r"\bO_(WRONLY|RDWR)\b", line):
            counts["files"] += 1
    return counts


def _count_cpu_and_bytes(
    folder: Path, jobs: int, root: Path, env: Mapping[str, str]
) -> dict[str, float]:
    def seconds(command: list[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _run(command, root, env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return sum(getattr(after, n) - getattr(before, n) for n in TIMES)

    loop = [str(folder / "python"), "-I", "-S", "-c", CALIBRATION]
    before = seconds(loop)
    written = _written()
    run = seconds([str(folder / "dvc"), *_repro(jobs)])
    written = _written() - written
    return {
        "kilobytes": written / 1000,
        "cpu": 2 * run / (before + seconds(loop)),
    }


def _written() -> int:
    """Bytes that this process and those that it has waited for have written."""
    text = Path("/proc/self/io").read_text(encoding="ascii")
    return int(text.partition("wchar: ")[2].split()[0])


TIMES = ("ru_utime", "ru_stime")
CALLS = Counting(_count_calls)
SYSTEM_CALLS = Counting(_count_system_calls)
CPU_AND_BYTES = Counting(_count_cpu_and_bytes, rounds=3, tries=8)


@contextmanager
def _scratch() -> Iterator[Path]:
    workdir = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="dvc-cost-", dir=workdir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def count(
    found: Install, stages: int, counting: Counting, runs: Sequence[str]
) -> Costs:
    """Count what runs cost, each in a fresh project.

    Args:
        stages: how many there are, but for ``start``.
        runs: those that are wanted.
    """
    costs: Costs = {}

    def measure(size: int, jobs: int, *names: str) -> None:
        if not set(names) & set(runs):
            return
        workload = cp_fan(size)
        with _scratch() as folder:
            root, home = folder / "project", folder / "home"
            home.mkdir()
            project.create(root, workload, formats.dvc(workload))
            env = found.env(home)
            for name in names:
                time.sleep(SETTLED)
                costs[name] = counting.count(found.folder, jobs, root, env)

    measure(1, JOBS[0], "first start", START)
    for jobs in JOBS:
        measure(stages, jobs, f"first -j {jobs}", f"no-op -j {jobs}")
    costs.pop("first start", None)
    return costs


def smallest(costs: Sequence[Costs]) -> Costs:
    """Of several countings of the same, the smallest for each count."""
    merged: Costs = {}
    for run in (name for each in costs for name in each):
        counted = [each[run] for each in costs if run in each]
        names = dict.fromkeys(name for each in counted for name in each)
        merged[run] = {
            name: min(each[name] for each in counted if name in each) for name in names
        }
    return merged


def per_stage(costs: Costs, stages: int) -> Costs:
    """What a stage costs, without the start of DVC; and that start as it is."""
    start = costs[START]

    def share(run: str, name: str, value: float) -> float:
        if run != START and name != "cpu":
            value = (value - start[name]) / stages
        return float(f"{value:.4g}")

    return {
        run: {name: share(run, name, value) for name, value in counts.items()}
        for run, counts in costs.items()
    }


def limit(committed: Costs, run: str, name: str) -> float:
    """What a count may be; nothing, if it is not among those committed."""
    value = committed.get(run, {}).get(name)
    if value is None:
        return float("-inf")
    if name == "cpu":
        return value * (1 + CPU_TOLERANCE)
    # NOTE: next to nothing, less that of a start, may be negative
    return value + abs(value) * TOLERANCE + NEGLIGIBLE


def risen(found: Costs, committed: Costs) -> list[tuple[str, str]]:
    """The run and the name of each count that is above its limit."""
    return [
        (run, name)
        for run, counts in found.items()
        for name, value in counts.items()
        if value > limit(committed, run, name)
    ]


def count_all(
    countings: Sequence[Counting],
    count: Callable[[Counting, Sequence[str]], Costs],
    stages: int,
    committed: Costs,
) -> Costs:
    """Count per stage; what is above its limit several times.

    Args:
        count: counts what some runs cost.
    """
    found: Costs = {}
    for counting in countings:
        rounds = [count(counting, RUNS) for _ in range(counting.rounds)]
        costs = per_stage(smallest(rounds), stages)
        while len(rounds) < counting.tries and (above := risen(costs, committed)):
            runs = [START, *(run for run, _ in above)]
            rounds.append(count(counting, runs))
            costs = per_stage(smallest(rounds), stages)
        for run, counts in costs.items():
            found.setdefault(run, {}).update(counts)
    return found


def table(found: Costs, committed: Costs) -> str:
    """What was counted, a line for each count; what has risen is marked."""
    lines = []
    for run, counts in found.items():
        lines.append(f"{run}:")
        for name, value in counts.items():
            before = committed.get(run, {}).get(name)
            change = "new" if before is None else f"{_percent(value, before)}"
            mark = " <-- has risen" if value > limit(committed, run, name) else ""
            lines.append(f"  {name:10} {value:>10g}  {change:>8}{mark}")
    return "\n".join(lines)


def _percent(value: float, before: float) -> str:
    return f"{100 * (value / before - 1):+.1f} %" if before else ""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--accept", action="store_true", help=f"write the counts to {COMMITTED.name}"
    )
    parser.add_argument(
        "--dvc",
        type=Path,
        metavar="DVC",
        default=Path(sys.executable).parent / "dvc",
        help="executable; default: of the Python that counts",
    )
    return parser


def main(argv: Optional[list[str]] = None) -> int:
    args = parser().parse_args(argv)
    try:
        found = install(tools("")[OURS], args.dvc)
    except NotAvailableError as exc:
        sys.exit(f"{args.dvc}: {exc}")
    with tempfile.TemporaryDirectory() as home:
        check_plugin(found, found.env(Path(home)))

    data = json.loads(COMMITTED.read_text(encoding="utf-8"))
    versions, committed = data["counted with"], data["costs"]
    countings = [CALLS, CPU_AND_BYTES]
    if (problem := _without_strace()) is None:
        countings.append(SYSTEM_CALLS)
    else:
        print(f"system calls are not counted: {problem}")
    if args.accept:
        # NOTE: there is nothing that it could be above
        countings = [replace(each, tries=each.rounds) for each in countings]
    counts = count_all(countings, partial(count, found, STAGES), STAGES, committed)
    print(table(counts, committed))
    if args.accept:
        data = {"counted with": _versions(found), "costs": counts}
        text = json.dumps(data, indent=2, sort_keys=False)
        COMMITTED.write_text(text + "\n", encoding="utf-8")
        return 0
    if versions != _versions(found):
        print(f"compares with {versions}, and this is {_versions(found)}")
    if above := risen(counts, committed):
        print(
            f"{len(above)} counts have risen. Where that is worth it, say why in the "
            "commit that has what `python -m benchmarks.cost --accept` writes."
        )
    return 1 if above else 0


def _without_strace() -> Optional[str]:
    """Why ``strace`` cannot be used, if so."""
    if not shutil.which("strace"):
        return "there is no strace"
    tried = subprocess.run(
        ["strace", "-f", "true"], capture_output=True, text=True, check=False
    )
    lines = tried.stderr.splitlines() or [""]
    return f"strace does not work: {lines[0]}" if tried.returncode else None


def _versions(found: Install) -> str:
    # NOTE: not of what is counted itself, nor what differs without changing counts much
    versions = dict(part.rsplit(" ", 1) for part in found.version.split(", "))
    python = ".".join(versions["Python"].split(".")[:2])
    return f"Python {python}, DVC {versions['dvc']}"


if __name__ == "__main__":
    sys.exit(main())
