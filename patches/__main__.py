"""Make, check and try the upstream series.

python -m patches apply FOLDER      DVC with it: a new folder, or onto a clone of DVC
python -m patches make FOLDER       write the commits of that repository as patches
python -m patches check             lines, ruff and mypy, after each patch
python -m patches try [PYTEST ...]  run DVC's own tests with it, in a folder of its own

To change a patch: apply, edit and commit as on any branch, make. A test or an error of
mypy that is there without the series, too, is none of its failures.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

from tests.dvc_suite.__main__ import HERE as DVC_SUITE
from tests.dvc_suite.__main__ import TESTS, as_ordinary_user

from . import (
    BASE,
    MOST_LINES,
    MOST_LINES_OF_ALL,
    PATCHES,
    am,
    apply,
    git,
    lines_added,
    make,
)

# Those that the series brings, besides.
NEW_TESTS = ["tests/unit/utils", "tests/unit/command"]
SYSTEMS = ["linux", "win32", "darwin"]
ERROR = re.compile(r"^(\S+?):\d+:\d+: (error: .*)$", re.MULTILINE)


def check() -> int:
    """Check each patch on top of those before it.

    Returns:
        int: exit status, 1 if something is wrong.
    """
    wrong = []
    total = 0
    with TemporaryDirectory() as tmp:
        folder = Path(tmp) / "dvc"
        apply(folder, [])
        known = mypy_errors(folder)
        for patch in PATCHES:
            code, tests = lines_added(patch)
            total += code
            print(f"{patch.name}: {code} lines, and {tests} of tests", flush=True)
            if code > MOST_LINES:
                wrong.append(f"{patch.name}: more than {MOST_LINES} lines")
            am(folder, [patch])
            names = git(folder, "diff", "--name-only", "HEAD~", "--", "*.py").split()
            for command in (["check", "--quiet"], ["format", "--check", "--quiet"]):
                done = subprocess.run(
                    [sys.executable, "-m", "ruff", *command, *names],
                    cwd=folder,
                    check=False,
                )
                if done.returncode:
                    wrong.append(f"{patch.name}: ruff {command[0]}")
            new = mypy_errors(folder) - known
            wrong += [f"{patch.name}: {error}" for error in new]
    if total > MOST_LINES_OF_ALL:
        wrong.append(f"more than {MOST_LINES_OF_ALL} lines in all")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def mypy_errors(folder: Path) -> "Counter[str]":
    """What mypy says with DVC's settings, for each system, without the lines."""
    errors: Counter[str] = Counter()
    for system in SYSTEMS:
        command = [sys.executable, "-m", "mypy", "--platform", system, "--no-pretty"]
        command += ["--cache-dir", f".mypy_cache/{system}"]
        done = subprocess.run(
            command, cwd=folder, check=False, capture_output=True, text=True
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stdout + done.stderr)
        for name, error in ERROR.findall(done.stdout):
            errors[f"{system}: {name}: {error}"] += 1
    return errors


def failing(folder: Path, tests: list[str], jobs: Optional[int]) -> set[str]:
    """Run tests of DVC, with the DVC that is in the folder.

    Args:
        jobs: ``core.parallel_jobs`` of every repo.

    Returns:
        set: the tests that have failed.
    """
    env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{DVC_SUITE}"}
    env.pop("PARALLEL_JOBS", None)
    if jobs:
        env["PARALLEL_JOBS"] = str(jobs)
    # NOTE: some tests start `dvc`
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    with TemporaryDirectory() as cache:
        options = ["-o", f"cache_dir={cache}", "-p", "parallel_option", "-n2", "-q"]
        options += ["-rfE", "--timeout=1800", *tests]
        command = [*as_ordinary_user(), sys.executable, "-m", "pytest", *options]
        status = subprocess.run(command, cwd=folder, env=env, check=False).returncode
        path = Path(cache, "v/cache/lastfailed")
        names = set(json.loads(path.read_text())) if path.exists() else set()
    if status not in (0, 1) or (status and not names):
        names.add(f"pytest ends with {status}")
    return names


def try_series(tests: list[str], first: Optional[int]) -> int:
    """Run tests of DVC with the series, and those that fail without it as well.

    Args:
        tests: what pytest gets; default: what touches `dvc repro`.
        first: how many patches to try; default: all of them.

    Returns:
        int: exit status, 1 if a test fails that does not fail without the series.
    """
    if any(distributions(name="dvc-parallel")):
        sys.exit("needs an environment without dvc-parallel: tox -e patches")
    # NOTE: whoever runs this in the background may have it ignore SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    patches = PATCHES[:first]
    with TemporaryDirectory() as tmp:
        folder = Path(tmp) / "dvc"
        apply(folder, patches)
        tests = tests or [t for t in [*TESTS, *NEW_TESTS] if (folder / t).exists()]
        failed = set()
        for jobs in (None, 4) if patches == PATCHES else (None,):
            print(f"core.parallel_jobs={jobs or 'unset'}:", flush=True)
            failed |= failing(folder, tests, jobs)
        git(folder, "checkout", "--quiet", BASE)
        there = [t for t in failed if (folder / t.partition("::")[0]).exists()]
        if there:
            print("Those that have failed, without the series:", flush=True)
            failed -= failing(folder, there, None)
    for test in sorted(failed):
        print(f"fails with the series only: {test}")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m patches", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    applying = commands.add_parser("apply")
    applying.add_argument("folder", type=Path, help="to be made, or a clone of DVC")
    making = commands.add_parser("make")
    making.add_argument("folder", type=Path, help="repository with the commits")
    commands.add_parser("check")
    trying = commands.add_parser("try")
    trying.add_argument("--first", type=int, help="try that many patches only")
    trying.add_argument("pytest", nargs=argparse.REMAINDER, help="what pytest gets")
    args = parser.parse_args()
    if args.command == "check":
        return check()
    if args.command == "try":
        return try_series(args.pytest, args.first)
    folder = args.folder.absolute()
    if args.command == "make":
        make(folder)
    elif (folder / ".git").exists():
        am(folder, PATCHES)
    else:
        apply(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
