"""The source of released DVC, and with the series."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from .make import OUTPUT, git, start
from .series import BASE


def release(folder: Path) -> None:
    """Have a repository with the source of the release, from PyPI, in a new folder."""
    with TemporaryDirectory() as tmp:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", tmp, f"dvc=={BASE}"]
        subprocess.run(command, check=True)
        with tarfile.open(Path(tmp) / f"dvc-{BASE}.tar.gz") as archive:
            archive.extractall(tmp)
        source = Path(tmp) / f"dvc-{BASE}"
        # NOTE: what is made for the sdist, and is not in the repository; the version
        # stays, as some of DVC's tests need one
        for name in ("PKG-INFO", "setup.cfg"):
            (source / name).unlink(missing_ok=True)
        shutil.rmtree(source / "dvc.egg-info")
        # NOTE: not moved, as files in it may belong to somebody else
        shutil.copytree(source, folder, symlinks=True)
    start(folder)
    # NOTE: its build derives the version from that
    git(folder, "tag", BASE)


def patches() -> list[Path]:
    """Those of the series, in their order."""
    return sorted(OUTPUT.glob("*.patch"))


def apply(folder: Path) -> None:
    """Have the release with the series, to be looked at or installed, in a new folder.

    Raises:
        FileExistsError: the folder is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    release(folder)
    git(folder, "am", "--quiet", *map(str, patches()))
