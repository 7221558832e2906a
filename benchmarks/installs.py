"""A virtual environment for each tool, made when it is first needed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, Optional, Union

from .tools import PARALLEL, SERIAL, Tool

VENVS = Path(__file__).parent / ".venvs"
# In an environment: what has been installed there.
DONE = "requirements.txt"

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


def install_all(
    tools: Iterable[Tool],
    executables: Mapping[str, Optional[Path]],
    say: Callable[[str], None],
) -> list[Union[Install, NotAvailableError]]:
    """Make several tools ready for use, two at a time; the order is kept.

    Args:
        executables: name of a tool -> the one to use, instead of a new environment.
        say: is told what goes on.
    """

    def ready(tool: Tool) -> Union[Install, NotAvailableError]:
        executable = executables.get(tool.name)
        if not executable and not is_installed(tool):
            what = ", ".join(tool.requirements)
            say(f"installing {tool.name}: {what}, into {VENVS / tool.name}, once ...")
        start = time.monotonic()
        try:
            found = install(tool, executable)
        except NotAvailableError as exc:
            say(f"left out: {tool.name}: {exc}")
            return exc
        say(f"ready after {time.monotonic() - start:.0f} s: {found.version}")
        return found

    tools = list(tools)
    new = sum(not (is_installed(tool) or executables.get(tool.name)) for tool in tools)
    if new and not shutil.which("uv"):
        say(
            f"{new} tools are not installed yet. With pip, that takes a few minutes "
            "for each that has DVC in it; with uv in PATH, seconds."
        )

    # More than two only wait for each other's disk.
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(ready, tools))


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


def is_installed(tool: Tool) -> bool:
    """Whether nothing has to be installed but, maybe, the code of this clone."""
    if not tool.requirements:
        return True
    done = VENVS / tool.name / DONE
    wanted = "\n".join(tool.requirements)
    return done.exists() and done.read_text(encoding="utf-8") == wanted


def _make_venv(tool: Tool) -> Path:
    folder = VENVS / tool.name
    python = folder / "bin" / "python"
    if not is_installed(tool):
        _create(folder, tool.python)
        _install(python, *tool.requirements)
        done = folder / DONE
        done.write_text("\n".join(tool.requirements), encoding="utf-8")
    if tool.source:
        # The code may have changed since.
        with TemporaryDirectory() as tmp:
            source = tool.source(Path(tmp) / "source")
            _install(python, *_again(), "--no-deps", str(source))
    return python.parent


def _create(folder: Path, version: Optional[str]) -> None:
    interpreter = _interpreter(version)
    if uv := shutil.which("uv"):
        command = [uv, "venv", "--quiet", "--clear"]
        _run([*command, "--python", interpreter or str(version), str(folder)])
    elif interpreter is None:
        raise NotAvailableError(f"needs Python {version}, which is not on this machine")
    else:
        _run([interpreter, "-m", "venv", "--clear", str(folder)])


def _interpreter(version: Optional[str]) -> Optional[str]:
    """A Python of that version, in PATH or of pyenv; None: ours will do."""
    if version is None:
        return sys.executable
    found = [shutil.which(f"python{version}")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found += sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")))
    for path in filter(None, found):
        # pyenv has a `python3.13` in PATH for what is not the version in use, too.
        done = subprocess.run([path, "-c", ""], capture_output=True, check=False)
        if done.returncode == 0:
            return path
    return None


def _install(python: Path, *args: str) -> None:
    # Compiled, as pip does: the first run must not pay for it.
    if uv := shutil.which("uv"):
        _run(
            [
                uv,
                "pip",
                "install",
                "--quiet",
                "--compile-bytecode",
                "--python",
                str(python),
                *args,
            ]
        )
    else:
        _run([str(python), "-m", "pip", "install", "--quiet", *args])


def _again() -> list[str]:
    return ["--reinstall"] if shutil.which("uv") else ["--force-reinstall"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines
        reason = errors[-1] if errors else f"{command[0]} exited with {done.returncode}"
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
