"""A virtual environment for each tool, made when it is first needed."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

from .tools import PARALLEL, SERIAL, Tool

VENVS = Path(__file__).parent / ".venvs"

VERSIONS = """
import platform, sys
from importlib.metadata import version
found = [f"{name} {version(name)}" for name in sys.argv[1:]]
print(", ".join([*found, f"Python {platform.python_version()}"]))
"""


class NotAvailableError(Exception):
    """A tool that cannot be used here; the message says why."""


@dataclass(frozen=True)
class Install:
    """A tool that is ready for use.

    Attributes:
        folder: of its executables.
        version: for people.
    """

    tool: Tool
    folder: Path
    version: str

    def env(self, home: Path) -> dict[str, str]:
        """All of the variables for a run: nothing of the user's gets in.

        Args:
            home: an empty folder, for settings and for what DVC shares between
                projects.
        """
        return {
            "PATH": f"{self.folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "DVC_SYSTEM_CONFIG_DIR": str(home / "etc"),
            "DVC_NO_ANALYTICS": "1",
        }


def install(tool: Tool, executable: Optional[Path] = None) -> Install:
    """Make a tool ready for use.

    Args:
        executable: the one to use, instead of a new environment.

    Raises:
        NotAvailableError
    """
    if executable:
        folder = executable.absolute().parent
    elif tool.requirements:
        folder = _make_venv(tool)
    elif found := shutil.which(tool.executable):
        folder = Path(found).parent
    else:
        raise NotAvailableError(f"no `{tool.executable}` on this machine")
    if not (folder / tool.executable).exists():
        raise NotAvailableError(f"no {folder / tool.executable}")
    return Install(tool, folder, _version(tool, folder))


def _make_venv(tool: Tool) -> Path:
    folder = VENVS / tool.name
    python = folder / "bin" / "python"
    done = folder / "requirements.txt"
    wanted = "\n".join(tool.requirements)
    if not (done.exists() and done.read_text(encoding="utf-8") == wanted):
        venv.create(folder, clear=True, with_pip=True)
        _pip(python, *tool.requirements)
        done.write_text(wanted, encoding="utf-8")
    if tool.source:
        # The code may have changed since.
        with TemporaryDirectory() as tmp:
            source = tool.source(Path(tmp) / "source")
            _pip(python, "--force-reinstall", "--no-deps", str(source))
    return python.parent


def _pip(python: Path, *args: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        reason = errors[-1] if errors else f"pip exited with {done.returncode}"
        raise NotAvailableError(f"cannot be installed: {reason}")


def _version(tool: Tool, folder: Path) -> str:
    if tool.distributions:
        command = [str(folder / "python"), "-c", VERSIONS, *tool.distributions]
    else:
        command = [str(folder / tool.executable), "--version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise NotAvailableError(f"does not tell its version: {exc}") from None
    return done.stdout.splitlines()[0]


def check_plugin(found: Install, env: Mapping[str, str]) -> None:
    """See to it that `dvc repro` has --jobs unless it is serial DVC.

    Raises:
        SystemExit: it is otherwise, so that nothing would be what it is called.
    """
    if found.tool.name not in (SERIAL, *PARALLEL):
        return
    command = [str(found.folder / "dvc"), "repro", "--help"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=dict(env)
    )
    has_jobs = "--jobs" in done.stdout
    if done.returncode or has_jobs != (found.tool.name in PARALLEL):
        sys.exit(
            f"{found.tool.name}: `{' '.join(command)}` exited with {done.returncode}, "
            f"and has {'' if has_jobs else 'no '}--jobs"
        )
