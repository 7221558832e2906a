"""Trying the series: DVC's own tests, with it and without.

A test that fails without the series, too, is none of its failures.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Optional

from tests.dvc_suite.__main__ import HERE as DVC_SUITE
from tests.dvc_suite.__main__ import TESTS, as_ordinary_user

from .make import git
from .release import patches, release
from .series import BASE, SERIES

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


class TrialError(Exception):
    """The series cannot be tried here."""


@dataclass(frozen=True)
class Mode:
    """How DVC's tests are run."""

    name: str
    jobs: Optional[int] = None


MODES = (Mode("without core.parallel_jobs"), Mode("core.parallel_jobs=4", jobs=4))


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "try", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkout", nargs="?", type=Path, help=f"of DVC; default: the sdist of {BASE}"
    )
    parser.add_argument("--each", action="store_true", help="after each patch")
    parser.add_argument("--lint", action="store_true", help="ruff and mypy as DVC's")
    parser.add_argument("--all", action="store_true", help="all of DVC's tests")
    parser.add_argument(
        "--pytest", nargs=argparse.REMAINDER, default=[], help="what pytest gets"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Apply the series, and report.

    Returns:
        int: exit status, 1 if anything fails that does not fail without the series.
    """
    if any(distributions(name="dvc-parallel")):
        raise TrialError("needs an environment without dvc-parallel: tox -e patches")
    # NOTE: whoever runs this in the background may have it ignore SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _checkout(args.checkout) as folder:
        tests = args.pytest or (["tests"] if args.all else _existing(TESTS, folder))
        trial = Trial(folder, tests, args.lint)
        for number, patch in enumerate(patches(), 1):
            git(folder, "am", "--3way", str(patch))
            if number == len(SERIES) or args.each:
                # NOTE: there is no such option before the last patch
                modes = MODES if number == len(SERIES) else MODES[:1]
                trial.run(patch.stem, modes)
        trial.report()
        return 1 if trial.failed else 0


class Trial:
    """What has come of the series so far.

    Attributes:
        failed: whatever fails, but not without the series.
    """

    def __init__(self, folder: Path, tests: list[str], lint: bool):
        self.failed: set[str] = set()
        self._folder = folder
        self._tests = tests
        self._lint = lint
        self._mypy = _mypy(folder) if lint else set()
        self._base = git(folder, "rev-parse", "HEAD").strip()
        self._report: list[str] = []
        self._known: dict[str, bool] = {}  # whether a test fails without the series

    def run(self, name: str, modes: tuple[Mode, ...]) -> None:
        if self._lint:
            self._say(name, "ruff", _ruff(self._folder))
            self._say(name, "mypy", _mypy(self._folder) - self._mypy)
        for mode in modes:
            print(f"{name}: {mode.name}:", flush=True)
            failed = _pytest(self._folder, self._tests, mode)
            unknown = sorted(test for test in failed if test not in self._known)
            if unknown:
                self._try_without(unknown)
            new = {test for test in failed if not self._known[test]}
            self._say(name, mode.name, new)

    def _try_without(self, tests: list[str]) -> None:
        """Find out which tests fail without the series."""
        with TemporaryDirectory() as tmp:
            git(self._folder, "worktree", "add", "--force", tmp, self._base)
            there = [t for t in tests if Path(tmp, t.partition("::")[0]).exists()]
            print(f"{len(there)} of them without the series:", flush=True)
            failed = _pytest(Path(tmp), there, MODES[0]) if there else set()
        self._known.update({test: test in failed for test in tests})

    def _say(self, name: str, what: str, bad: set[str]) -> None:
        self.failed |= bad
        rows = [f"{name}: {what}: {f'{len(bad)} fail' if bad else 'ok'}"]
        rows += [f"    {row}" for row in sorted(bad)]
        self._report += rows
        print("\n".join(rows), flush=True)

    def report(self) -> None:
        """Say it all again, without what pytest has printed between."""
        print("", *self._report, sep="\n")


@contextmanager
def _checkout(origin: Optional[Path]) -> "Iterator[Path]":
    with TemporaryDirectory() as tmp:
        folder = Path(tmp) / "dvc"
        if origin:
            git(Path(tmp), "clone", "--quiet", str(origin.resolve()), str(folder))
        else:
            release(folder)
        yield folder


def _existing(tests: list[str], folder: Path) -> list[str]:
    # NOTE: the tests that the series brings, too
    new = ["tests/unit/utils", "tests/unit/test_path_locks.py", "tests/unit/command"]
    return [test for test in [*tests, *new] if (folder / test).exists()]


def _pytest(folder: Path, tests: list[str], mode: Mode) -> set[str]:
    """Run tests, with all that pytest prints; return those that have failed."""
    plugins = (str(HERE), str(DVC_SUITE))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *plugins])}
    env.pop("PARALLEL_JOBS", None)
    if mode.jobs:
        env["PARALLEL_JOBS"] = str(mode.jobs)
    # NOTE: some tests start `dvc`
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    options = ["-p", "no:cacheprovider", "--timeout=300", "-q", "-rfE"]
    options += ["-p", "suite_plugin", "-p", "parallel_option", "-n2", *tests]
    with TemporaryDirectory() as tmp:
        failed = Path(tmp) / "failed"
        env["FAILED_TESTS"] = str(failed)
        command = [*as_ordinary_user(), sys.executable, "-m", "pytest", *options]
        result = subprocess.run(command, cwd=folder, env=env, check=False)
        names = set(failed.read_text().splitlines()) if failed.exists() else set()
    if result.returncode not in (0, 1) or (result.returncode and not names):
        names.add(f"pytest ends with {result.returncode}")
    return names


def _ruff(folder: Path) -> set[str]:
    bad = set()
    check = ["check", "--no-fix", "--output-format=concise"]
    for command in (check, ["format", "--check"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            bad.update(result.stdout.splitlines())
    return bad


def _mypy(folder: Path) -> set[str]:
    """Errors, without their places."""
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-pretty", "--no-color-output"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    rows = re.findall(r"^(\S+?):\d+:\d+: error: (.*)$", result.stdout, re.MULTILINE)
    return {f"{path}: {error}" for path, error in rows}
