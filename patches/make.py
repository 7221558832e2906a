"""Making the series, as files for ``git am``.

modules and tests of the plugin ──┐
parts/<n>/files                   ├──> commits on top of released DVC ──> <n>.patch
parts/<n>/changes.diff            ┘
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

from . import source
from .series import BASE, SERIES, Part

HERE = Path(__file__).parent
OUTPUT = HERE / f"dvc-{BASE}"

AUTHOR = {"NAME": "The dvc-parallel maintainers", "EMAIL": "dvc-parallel@example.com"}
DATE = "2026-11-21T12:00:00Z"

# So that the patches are the same everywhere.
OPTIONS = [
    "core.autocrlf=false",
    "commit.gpgsign=false",
    "diff.algorithm=myers",
    "safe.directory=*",
]
FORMAT = ["--no-signature", "--zero-commit", "--full-index", "--no-renames"]


class DriftError(Exception):
    """The series is not the one that the plugin makes."""


class GitError(Exception):
    """What git has to say."""


def git(folder: Path, *args: str, text: Optional[str] = None) -> str:
    """Run git in a folder, without anybody's settings; return what it prints.

    Raises:
        GitError: it fails.
    """
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        env.update({f"GIT_{role}_{key}": value for key, value in AUTHOR.items()})
        env[f"GIT_{role}_DATE"] = DATE
    settings = [word for option in OPTIONS for word in ("-c", option)]
    result = subprocess.run(
        ["git", *settings, *args],
        cwd=folder,
        env=env,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise GitError(f"git {' '.join(args)}:\n{result.stdout}{result.stderr}")
    return result.stdout


@contextmanager
def released_dvc() -> Iterator[Path]:
    """A repository with the package of the released DVC, as it is installed here.

    Raises:
        DriftError: another DVC is installed.
    """
    if version("dvc") != BASE:
        raise DriftError(f"needs dvc {BASE}, not {version('dvc')}, to be installed")
    spec = find_spec("dvc")
    assert spec
    assert spec.origin
    with TemporaryDirectory() as tmp:
        folder = Path(tmp)
        ignore = shutil.ignore_patterns("__pycache__", "_version.py", "_build.py")
        shutil.copytree(Path(spec.origin).parent, folder / "dvc", ignore=ignore)
        start(folder)
        yield folder


def start(folder: Path) -> None:
    """Make a repository with one commit of what is in a folder."""
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--force", "--all")
    git(folder, "commit", "--quiet", "--message", f"DVC {BASE}")


def sources(part: Part) -> dict[str, str]:
    """The files that a patch takes from the plugin, by their paths in DVC."""
    with TemporaryDirectory() as tmp:
        files = {copy.target: Path(tmp, copy.target) for copy in part.copies}
        for copy in part.copies:
            files[copy.target].parent.mkdir(parents=True, exist_ok=True)
            files[copy.target].write_text(source.render(copy))
        source.tidy(files.values())
        return {target: path.read_text() for target, path in files.items()}


def of_part(part: Part, name: str) -> Path:
    return HERE / "parts" / f"{part.number}-{part.name}" / name


def commit(part: Part, folder: Path) -> None:
    """Make the commit of a patch in a repository that has those before it."""
    for target, text in sources(part).items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(text)
    own = of_part(part, "files")
    if own.is_dir():
        shutil.copytree(own, folder, dirs_exist_ok=True)
    git(folder, "apply", str(of_part(part, "changes.diff")))
    git(folder, "add", "--all")
    message = of_part(part, "message.txt").read_text()
    git(folder, "commit", "--quiet", "--file", "-", text=message)


def generated() -> dict[str, str]:
    """The patches by the names of their files."""
    with released_dvc() as folder, TemporaryDirectory() as output:
        base = git(folder, "rev-parse", "HEAD").strip()
        for part in SERIES:
            commit(part, folder)
        git(folder, "format-patch", *FORMAT, "--output-directory", output, base)
        return {path.name: path.read_text() for path in Path(output).iterdir()}


def make() -> None:
    """Write the patches."""
    patches = generated()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    for name, text in patches.items():
        (OUTPUT / name).write_text(text)


def check() -> None:
    """See that the committed patches are those that would be made.

    Raises:
        DriftError: naming those that differ.
    """
    there = {path.name: path.read_text() for path in OUTPUT.glob("*.patch")}
    made = generated()
    different = sorted(
        name for name in {*there, *made} if there.get(name) != made.get(name)
    )
    if different:
        raise DriftError(
            f"{', '.join(different)}: not what dvc_parallel and patches/parts make; "
            "see that what `python -m patches make` does is what you want"
        )
