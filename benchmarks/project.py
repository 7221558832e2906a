"""A fresh project for one run, and what the run has made of it."""

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .model import LOG, Workload, upstream
from .process import RunError

# What `dvc init` writes, but for the words on what it is.
DVC_FILES = {
    ".dvc/config": "[core]\n    analytics = false\n    check_update = false\n",
    ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
    ".dvcignore": "",
}


def create(root: Path, workload: Workload, files: Mapping[str, str]) -> None:
    """Write the project, and commit it.

    Args:
        root: does not exist yet.
        files: what the tool reads.
    """
    # NOTE: commands write to out/, and not every tool makes it for them.
    texts = {"out/.keep": "", **DVC_FILES, **workload.files, **files}
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            path.chmod(0o755)
    _git(root, "init", "--quiet")
    _git(root, "config", "user.name", "benchmark")
    _git(root, "config", "user.email", "benchmark@localhost")
    _git(root, "add", "--all")
    _git(root, "commit", "--quiet", "--message", workload.name)


def _git(root: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=root, check=True)


def check(root: Path, workload: Workload, is_dvc: bool) -> None:
    """See to it that a run has done what it was asked for.

    Args:
        is_dvc: there have to be a dvc.lock and a cache.

    Raises:
        RunError: it has not.
    """
    for name, expected in workload.expected.items():
        path = root / name
        if not path.is_file():
            raise RunError(f"wrong result: no {name}")
        if isinstance(expected, int):
            right = path.stat().st_size == expected
        else:
            right = path.read_text(encoding="utf-8") == expected
        if not right:
            raise RunError(f"wrong result: {name} is not what it has to be")

    ran = sorted(line.split()[0] for line in _log(root))
    if ran != sorted(workload.ran):
        raise RunError(
            f"wrong result: {len(ran)} commands ran ({len(set(ran))} different "
            f"ones) instead of {len(workload.ran)}"
        )
    if is_dvc:
        _check_lock(root, workload)


def _check_lock(root: Path, workload: Workload) -> None:
    locks = [
        lock.read_text(encoding="utf-8") for lock in sorted(root.rglob("dvc.lock"))
    ]
    lines = "".join(locks).splitlines()
    # Names of stages are what is indented by two spaces; none of ours needs quotes.
    locked = {line.strip().rstrip(":") for line in lines if line[2:3].isalpha()}
    missing = [stage.name for stage in workload.stages if stage.name not in locked]
    if missing:
        raise RunError(f"wrong result: {len(missing)} stages not in dvc.lock")
    cached = sum(
        1 for path in (root / ".dvc/cache/files/md5").glob("*/*") if path.is_file()
    )
    contents = {
        workload.expected[out]
        for stage in workload.stages
        for out in stage.outs
        if isinstance(workload.expected[out], str)
    }
    if cached < len(contents):
        raise RunError(f"wrong result: {cached} files in the cache")


def forget_log(root: Path) -> None:
    """Forget which commands have run so far."""
    (root / LOG).unlink()


def _log(root: Path) -> list[str]:
    log = root / LOG
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def start_delays(root: Path, workload: Workload) -> list[float]:
    """Seconds from when a stage could have started to when its command did.

    One for every stage that has upstreams; for stamped workloads only.
    """
    times = {}
    for line in _log(root):
        name, started, ended = line.split()
        times[name] = (float(started), float(ended))
    return [
        times[name][0] - max(times[up][1] for up in names)
        for name, names in upstream(workload.stages).items()
        if names
    ]


def fingerprint(root: Path) -> str:
    """A hash of every dvc.lock and .gitignore, the same for the same contents."""
    digest = hashlib.sha256()
    paths = [*sorted(root.rglob("dvc.lock")), *sorted(root.rglob(".gitignore"))]
    for path in paths:
        name = path.relative_to(root).as_posix()
        digest.update(f"{name}\n".encode() + path.read_bytes())
    return digest.hexdigest()
