"""Calling git."""

import os
import subprocess
from typing import Optional

from dvc.exceptions import DvcException

# What would have git look elsewhere than where it is told to.
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")


def git(
    *args: str,
    cwd: str,
    env: Optional[dict[str, str]] = None,
    stdin: bytes = b"",
    check: bool = True,
    purpose: str = "for workers with clones",
) -> bytes:
    """Run git, without hooks; return what it prints.

    Args:
        env: variables besides those of this process.
        check: whether its failure is an error.
        purpose: what git is needed for, for the error where it is missing.

    Raises:
        DvcException: git is missing, cannot be started, or refuses.
    """
    clean = {k: v for k, v in os.environ.items() if k not in _MISLEADING}
    command = ["git", "-c", f"core.hooksPath={os.devnull}", *args]
    try:
        result = subprocess.run(  # noqa: S603
            command,
            cwd=cwd,
            env={**clean, **(env or {})},
            input=stdin,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as exc:
        raise DvcException(f"`git` is needed {purpose}") from exc
    except OSError as exc:
        raise DvcException(f"cannot start 'git': {exc.strerror}") from exc
    if check and result.returncode:
        error = result.stderr.decode(errors="replace").strip()
        raise DvcException(f"git {args[0]} failed in '{cwd}': {error}")
    return result.stdout


def line(output: bytes) -> Optional[str]:
    """The only line of an output, if there is one."""
    return os.fsdecode(output.rstrip(b"\n")) or None
