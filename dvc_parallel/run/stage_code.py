"""The Python code of a stage: what its command runs, and where modules are found."""

import os
from collections.abc import Iterator, Sequence
from glob import glob
from typing import TYPE_CHECKING, NamedTuple, Optional

from dvc_parallel.code import Project
from dvc_parallel.code.command_line import CommandLine, PythonRun
from dvc_parallel.code.places import Packages, Places

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

# In a folder with one of these, Python packages of the project may be, which are
# installed in whatever way.
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


class StageCode(NamedTuple):
    """What a stage runs.

    Attributes:
        entries: paths of scripts, each with the folders in which it finds modules.
        unclear: what was not understood of its command, and why.
    """

    entries: list[tuple[str, tuple[str, ...]]]
    unclear: list[str]


class Projects:
    """The Python projects of a repo, each read once.

    Single use: files must not change meanwhile.
    """

    def __init__(self, repo: "Repo"):
        self._repo = repo
        self._projects: dict[tuple[str, ...], Project] = {}
        own = glob(os.path.join(repo.root_dir, ".venv", "lib", "*", "site-packages"))
        self._packages: Optional[Sequence[str]] = own or None

    def of(self, roots: tuple[str, ...]) -> Project:
        """The project with some folders of modules."""
        if roots not in self._projects:
            tmp_dir = self._repo.tmp_dir
            cache = tmp_dir and os.path.join(tmp_dir, "parallel", "code")
            self._projects[roots] = Project(roots, cache, self._packages)
        return self._projects[roots]

    def code_of(self, stage: "Stage") -> StageCode:
        """What a stage runs."""
        line = CommandLine.of(stage.cmd)
        unclear, entries = list(line.unclear), []
        for run in line.runs:
            entry = self._entry(stage.wdir, run)
            if entry is not None:
                entries.append(entry)
            elif not run.is_module:
                unclear.append(f"there is no script '{run.name}'")
            elif not self._is_installed(run.name):
                unclear.append(f"there is no module '{run.name}'")
        return StageCode(entries, unclear)

    def named(
        self, stage: "Stage", entries: Sequence[str], code: StageCode
    ) -> list[tuple[str, tuple[str, ...]]]:
        """Entries of a stage, where it finds modules; scripts by their paths."""
        roots = [root for _, found in code.entries for root in found]
        roots += self._roots(stage.wdir, stage.wdir, ())
        where = tuple(dict.fromkeys(roots))
        return [
            (os.path.join(stage.wdir, it) if it.endswith(".py") else it, where)
            for it in entries
        ]

    def _is_installed(self, name: str) -> bool:
        packages = Packages(self._packages)
        return packages.is_standard(name) or bool(packages.of(name))

    def _entry(
        self, wdir: str, run: PythonRun
    ) -> Optional[tuple[str, tuple[str, ...]]]:
        folder = os.path.join(wdir, run.folder)
        paths = [os.path.join(folder, path) for path in run.paths]
        if not run.is_module:
            path = os.path.realpath(os.path.join(folder, run.name))
            if os.path.isdir(path):
                path = os.path.join(path, "__main__.py")
            if not os.path.isfile(path):
                return None
            return path, self._roots(os.path.dirname(path), folder, paths, path)
        roots = self._roots(folder, folder, paths)
        places = Places(roots, Packages(self._packages))
        place = places.find(run.name)
        if place and place.package:
            place = places.find(f"{run.name}.__main__")
        return place and (place.path, roots)

    def _roots(
        self, first: str, folder: str, paths: Sequence[str], script: str = ""
    ) -> tuple[str, ...]:
        """Folders in which modules are found, as in ``sys.path``."""
        top = self._repo.root_dir
        roots = [first, *paths, *_project_roots(folder, top)]
        if script and _changes_path(script):
            # NOTE: to what, only the script knows
            roots += [folder, os.path.dirname(first), top]
        inside = [os.path.realpath(root) for root in roots]
        return tuple(dict.fromkeys(root for root in inside if os.path.isdir(root)))


def _project_roots(folder: str, top: str) -> Iterator[str]:
    """Where packages may be that are installed in place (``pip install -e``)."""
    folder = os.path.realpath(folder)
    while True:
        if any(os.path.exists(os.path.join(folder, name)) for name in _PROJECT_FILES):
            yield from (os.path.join(folder, "src"), folder)
        parent = os.path.dirname(folder)
        if parent == folder or not _is_in(parent, top):
            return
        folder = parent


def _is_in(path: str, folder: str) -> bool:
    return f"{path}{os.sep}".startswith(f"{os.path.realpath(folder)}{os.sep}")


def _changes_path(script: str) -> bool:
    try:
        with open(script, "rb") as file:
            return b"sys.path" in file.read()
    except OSError:
        return False
