"""The upstream series: ``dvc-<release>/*.patch``, for ``git am`` on that release."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.dvc_suite.__main__ import download

BASE = "3.67.1"
PATCHES = sorted((Path(__file__).parent / f"dvc-{BASE}").glob("*.patch"))


def git(folder: Path, *args: str) -> None:
    """Run git in a folder, without anybody's settings."""
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        env[f"GIT_{role}_NAME"] = "dvc-parallel"
        env[f"GIT_{role}_EMAIL"] = "dvc-parallel@example.com"
    subprocess.run(
        ["git", "-c", "safe.directory=*", *args], cwd=folder, env=env, check=True
    )


def start(folder: Path) -> None:
    """Make a repository of the source of the release that is in a folder."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--force", "--all")
    git(folder, "commit", "--quiet", "--message", f"DVC {BASE}")
    # NOTE: DVC's build derives the version from that
    git(folder, "tag", BASE)


def apply(folder: Path) -> None:
    """Have a repository with the release and the series, in a new folder.

    Raises:
        FileExistsError: the folder is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    with TemporaryDirectory(dir=folder.parent) as tmp:
        source = download(BASE, Path(tmp))
        start(source)
        git(source, "am", "--quiet", *map(str, PATCHES))
        source.rename(folder)
