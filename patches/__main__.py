"""Try the upstream series.

python -m patches apply FOLDER       write DVC with it, to look at or to install
python -m patches try [PYTEST ...]   run DVC's own tests with it, in a folder of its own

A test that fails without the series, too, is none of its failures.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

from tests.dvc_suite.__main__ import HERE as DVC_SUITE
from tests.dvc_suite.__main__ import TESTS, as_ordinary_user

from . import BASE, apply, git

# Those that the series brings, besides.
NEW_TESTS = ["tests/unit/utils", "tests/unit/test_path_locks.py", "tests/unit/command"]


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


def try_series(tests: list[str]) -> int:
    """Run tests of DVC with the series, and those that fail without it as well.

    Args:
        tests: what pytest gets; default: what touches `dvc repro`.

    Returns:
        int: exit status, 1 if a test fails that does not fail without the series.
    """
    if any(distributions(name="dvc-parallel")):
        sys.exit("needs an environment without dvc-parallel: tox -e patches")
    # NOTE: whoever runs this in the background may have it ignore SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with TemporaryDirectory() as tmp:
        folder = Path(tmp) / "dvc"
        apply(folder)
        tests = tests or [t for t in [*TESTS, *NEW_TESTS] if (folder / t).exists()]
        failed = set()
        for jobs in (None, 4):
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
    applying.add_argument("folder", type=Path, help="to be made")
    trying = commands.add_parser("try")
    trying.add_argument("pytest", nargs=argparse.REMAINDER, help="what pytest gets")
    args = parser.parse_args()
    if args.command == "try":
        return try_series(args.pytest)
    apply(args.folder.absolute())
    return 0


if __name__ == "__main__":
    sys.exit(main())
