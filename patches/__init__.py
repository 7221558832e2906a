"""The upstream series: ``dvc-<release>/*.patch``, for ``git am`` on that release.

The patches name no author: whoever applies them is theirs, as in the settings of git.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.dvc_suite.__main__ import download

BASE = "3.67.1"
FOLDER = Path(__file__).parent / f"dvc-{BASE}"
PATCHES = sorted(FOLDER.glob("*.patch"))
# Lines outside of tests, of a patch and of all.
MOST_LINES, MOST_LINES_OF_ALL = 450, 900

_FROM = re.compile(r"^From: .*\n(?:[ \t].*\n)*", re.MULTILINE)
_NOBODY = "dvc-parallel <dvc-parallel@localhost>"


def git(folder: Path, *args: str, text: str = "") -> str:
    """Run git in a folder, without anybody's settings, and return what it prints."""
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    name, email = author().rstrip(">").split(" <")
    for role in ("AUTHOR", "COMMITTER"):
        env[f"GIT_{role}_NAME"], env[f"GIT_{role}_EMAIL"] = name, email
    command = ["git", "-c", "safe.directory=*", *args]
    done = subprocess.run(
        command,
        cwd=folder,
        env=env,
        check=True,
        text=True,
        input=text,
        stdout=subprocess.PIPE,
    )
    return done.stdout


def author() -> str:
    """Who the settings of git say that the user is."""
    name, email = (
        subprocess.run(
            ["git", "config", f"user.{key}"],
            check=False,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for key in ("name", "email")
    )
    return f"{name} <{email}>" if name and email else _NOBODY


def start(folder: Path) -> None:
    """Make a repository of the source of the release that is in a folder."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--force", "--all")
    git(folder, "commit", "--quiet", "--message", f"DVC {BASE}")
    # NOTE: DVC's build derives the version from that
    git(folder, "tag", BASE)


def am(folder: Path, patches: Sequence[Path], *options: str) -> None:
    """Commit patches in a repository, as the user's.

    Args:
        options: of ``git am``.

    Raises:
        subprocess.CalledProcessError: one does not apply; ``git am`` has said why.
    """
    for patch in patches:
        head, end, rest = patch.read_text(encoding="utf-8").partition("\n\n")
        first, _, fields = _FROM.sub("", f"{head}\n").partition("\n")
        text = f"{first}\nFrom: {author()}\n{fields.rstrip()}{end}{rest}"
        git(folder, "am", "--quiet", "--3way", *options, text=text)


def apply(folder: Path, patches: Sequence[Path] = PATCHES) -> None:
    """Have a repository with the release and the series, in a new folder.

    Raises:
        FileExistsError: the folder is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    with TemporaryDirectory(dir=folder.parent) as tmp:
        source = download(BASE, Path(tmp))
        start(source)
        am(source, patches)
        source.rename(folder)


def make(folder: Path, to: Path = FOLDER) -> None:
    """Write the commits of a repository that come after the release as the patches."""
    for patch in to.glob("*.patch"):
        patch.unlink()
    options = ["--no-signature", "--zero-commit", "--full-index", "--quiet"]
    git(folder, "format-patch", *options, "-o", str(to), f"{BASE}..HEAD")
    for patch in to.glob("*.patch"):
        head, end, rest = patch.read_text(encoding="utf-8").partition("\n\n")
        head = _FROM.sub("", f"{head}\n").rstrip()
        patch.write_text(f"{head}{end}{rest}", encoding="utf-8")


def lines_added(patch: Path) -> tuple[int, int]:
    """How many lines a patch adds: outside of tests, and in tests."""
    sums, outside = [0, 0], Path(FOLDER.anchor)
    for row in git(outside, "apply", "--numstat", str(patch)).splitlines():
        added, _, name = row.split("\t")
        sums[name.startswith("tests/")] += int(added)
    return sums[0], sums[1]
