"""Taking over what was edited in a checkout of DVC with the series applied.

Files that come from the plugin are edited there; all else that the commits of the
series touch goes to ``parts/``.
"""

import shutil
from pathlib import Path

from .make import DriftError, git, of_part, sources
from .series import SERIES, Part


def take(checkout: Path) -> None:
    """Make ``parts/`` what the last commits of a checkout say, one for each patch.

    Raises:
        DriftError: the commits are not those of the series, or one edits a file that
            comes from the plugin; then nothing is written.
    """
    count = len(SERIES)
    commits = git(checkout, "rev-list", "--reverse", f"HEAD~{count}..HEAD").split()
    if len(commits) != count:
        raise DriftError(f"{checkout}: the last {count} commits are not in a row")
    for part, commit in zip(SERIES, commits):
        _compare(checkout, commit, part)
    for part, commit in zip(SERIES, commits):
        _take(checkout, commit, part)


def _compare(checkout: Path, commit: str, part: Part) -> None:
    subject = of_part(part, "message.txt").read_text().partition("\n")[0]
    found = git(checkout, "show", "--no-patch", "--format=%s", commit).strip()
    if found != subject:
        raise DriftError(f"{commit} is {found!r}, not {subject!r}")
    for target, text in sources(part).items():
        if git(checkout, "show", f"{commit}:{target}") != text:
            origin = next(c.source for c in part.copies if c.target == target)
            raise DriftError(f"{target} comes from {origin}; edit it there")


def _take(checkout: Path, commit: str, part: Part) -> None:
    copied = {copy.target for copy in part.copies}
    names = {"A": [], "M": []}  # type: dict[str, list[str]]
    rows = git(checkout, "diff", "--name-status", "--no-renames", f"{commit}~", commit)
    for row in rows.splitlines():
        status, name = row.split("\t")
        if name not in copied:
            names.setdefault(status, []).append(name)

    files = of_part(part, "files")
    if files.exists():
        shutil.rmtree(files)
    for name in names.pop("A"):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(git(checkout, "show", f"{commit}:{name}"))
    edited = sorted(name for group in names.values() for name in group)
    changes = git(checkout, "diff", f"{commit}~", commit, "--", *edited)
    of_part(part, "changes.diff").write_text(changes if edited else "")
    message = git(checkout, "show", "--no-patch", "--format=%B", commit)
    of_part(part, "message.txt").write_text(message.rstrip() + "\n")
