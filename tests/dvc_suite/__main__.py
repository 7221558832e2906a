"""Run DVC's own tests, of the release that is installed, with the plugin.

    python -m tests.dvc_suite                 with no setting
    python -m tests.dvc_suite --jobs 4        with core.parallel_jobs=4 in every repo
    python -m tests.dvc_suite --repro         the tests of `dvc repro` alone

Everything after ``--`` goes to pytest.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent

# Tests of `dvc repro`. No release has all of them.
REPRO = [
    "tests/func/repro",
    "tests/func/test_repro.py",
    "tests/func/test_repro_multistage.py",
    "tests/func/test_run_cache.py",
    "tests/func/test_lockfile.py",
    "tests/unit/command/test_repro.py",
    "tests/unit/repo/test_reproduce.py",
    "tests/unit/stage",
    "tests/unit/test_rwlock.py",
]

# What touches it: the whole suite takes an hour.
TESTS = [
    *REPRO,
    "tests/unit/repo",
    "tests/func/experiments",
    "tests/func/test_stage.py",
    "tests/func/test_run.py",
    "tests/func/test_dvcfile.py",
    "tests/func/test_scm_context.py",
    "tests/func/test_lock.py",
    "tests/func/test_commit.py",
    "tests/func/test_config.py",
    "tests/unit/test_lockfile.py",
    "tests/unit/test_run.py",
    "tests/unit/command/test_experiments.py",
]


def download(release: str, folder: Path) -> Path:
    """Get the source of a release of DVC, with its tests, from PyPI."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder)]
    command.append(f"dvc=={release}")
    subprocess.run(command, check=True)
    (sdist,) = folder.glob("dvc-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    return folder / sdist.name[: -len(".tar.gz")]


def as_ordinary_user() -> list:
    """Without what lets root write to read-only files, as some tests expect."""
    if sys.platform == "win32" or os.geteuid() or not shutil.which("setpriv"):
        return []
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", help="core.parallel_jobs of every repo")
    parser.add_argument("--repro", action="store_true", help="tests of `dvc repro`")
    parser.add_argument("pytest_args", nargs="*")
    args = parser.parse_args()

    # NOTE: whoever runs this in the background may have it ignore SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    options = ["-p", "no:cacheprovider", "--timeout=1800", "-n2", "-q", "-rfE"]
    # NOTE: pytest would load DVC itself, to rewrite its assertions, up to 3.30
    options += ["-p", "parallel_option", "-p", "with_dvc_parallel", "--assert=plain"]
    if args.jobs:
        env["PARALLEL_JOBS"] = args.jobs
    # NOTE: some tests start `dvc`
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    with tempfile.TemporaryDirectory() as tmp:
        source = download(version("dvc"), Path(tmp))
        # NOTE: the tests are to run the DVC that is installed
        shutil.rmtree(source / "dvc")
        command = [*as_ordinary_user(), sys.executable, "-m", "pytest", *options]
        tests = REPRO if args.repro else TESTS
        command += args.pytest_args or [t for t in tests if (source / t).exists()]
        return subprocess.run(command, cwd=source, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
