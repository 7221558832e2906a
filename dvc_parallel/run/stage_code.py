"""The Python code of a stage: what its command runs, and where modules are found."""

import os
from collections.abc import Iterator, Sequence
from glob import glob
from typing import TYPE_CHECKING, NamedTuple, Optional

from dvc_parallel.code import Project
from dvc_parallel.code.closure import split_entry
from dvc_parallel.code.command_line import CommandLine, ProgramRun, PythonRun
from dvc_parallel.code.places import Packages, Places

from .console_scripts import ConsoleScripts

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

# In a folder with one of these, Python packages of the project may be, which are
# installed in whatever way.
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


# What is run, and the folders in which it finds modules.
Entry = tuple[str, tuple[str, ...]]


class StageCode(NamedTuple):
    """What a stage runs.

    Attributes:
        entries: paths of scripts, or functions of console scripts, each with the
            folders in which it finds modules.
        unclear: what was not understood of its command, and why.
    """

    entries: list[Entry]
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
        self._installed = Packages(self._packages)
        self._console_scripts = ConsoleScripts()

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
        for program in line.programs:
            found, why = self._program(stage.wdir, program)
            entries += found
            unclear += why
        return StageCode(entries, unclear)

    def named(
        self, stage: "Stage", entries: Sequence[str], code: StageCode
    ) -> list[Entry]:
        """Entries of a stage, where it finds modules; scripts by their paths."""
        roots = [root for _, found in code.entries for root in found]
        roots += self._roots(stage.wdir, stage.wdir, ())
        where = tuple(dict.fromkeys(roots))
        return [
            (os.path.join(stage.wdir, it) if split_entry(it)[0] else it, where)
            for it in entries
        ]

    def _is_installed(self, name: str) -> bool:
        return self._installed.is_standard(name) or bool(self._installed.of(name))

    def _program(self, wdir: str, program: ProgramRun) -> tuple[list[Entry], list[str]]:
        """What a program runs of the project, and what is not understood of that."""
        folder = os.path.join(wdir, program.folder)
        paths = [os.path.join(folder, path) for path in program.paths]
        for word in program.words:
            name = os.path.basename(word)
            called, why = self._console_script(folder, name)
            if called:
                # NOTE: that finds no modules in the folder where it is run
                return [(called, self._roots("", folder, paths))], []
            if not why and os.sep in word:
                shebang = _shebang(os.path.join(folder, word))
                if b"python" in shebang:
                    entry = self._entry(wdir, PythonRun(word, folder=program.folder))
                    return [entry] if entry else [], []
                why = "scripts of a shell are not read" if shebang else ""
            if why:
                return [], [f"`{program.shown}`: {why}"]
        return [], []

    def _console_script(self, folder: str, name: str) -> tuple[str, str]:
        """What a command of the project calls, or what is not understood of it."""
        scripts = self._console_scripts
        projects = list(_projects(folder, self._repo.root_dir))
        for project in projects:
            if called := scripts.of_project(project).get(name):
                return called, ""
        places = Places(self._roots("", folder, ()), self._installed)
        for info in self._installed.infos if projects else ():
            called = scripts.of_installed(info).get(name, "")
            if called and places.find(called.partition(":")[0]):
                return called, ""
        if any(scripts.may_define(project, name) for project in projects):
            return "", f"what '{name}' calls is not read from setup.py"
        return "", ""

    def _entry(self, wdir: str, run: PythonRun) -> Optional[Entry]:
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
        places = Places(roots, self._installed)
        place = places.find(run.name)
        if place and place.package:
            place = places.find(f"{run.name}.__main__")
        return place and (place.path, roots)

    def _roots(
        self, first: str, folder: str, paths: Sequence[str], script: str = ""
    ) -> tuple[str, ...]:
        """Folders in which modules are found, as in ``sys.path``."""
        top = self._repo.root_dir
        roots = [*filter(None, [first]), *paths]
        for project in _projects(folder, top):
            roots += [os.path.join(project, "src"), project]
        if script and _changes_path(script):
            # NOTE: to what, only the script knows
            roots += [folder, os.path.dirname(first), top]
        inside = [os.path.realpath(root) for root in roots]
        return tuple(dict.fromkeys(root for root in inside if os.path.isdir(root)))


def _projects(folder: str, top: str) -> Iterator[str]:
    """Where packages may be that are installed in place (``pip install -e``)."""
    folder = os.path.realpath(folder)
    while True:
        if any(os.path.exists(os.path.join(folder, name)) for name in _PROJECT_FILES):
            yield folder
        parent = os.path.dirname(folder)
        if parent == folder or not _is_in(parent, top):
            return
        folder = parent


def _shebang(path: str) -> bytes:
    """The first line of a program of the project, if it says by what it is run."""
    above = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    try:
        if os.path.exists(os.path.join(above, "pyvenv.cfg")):
            return b""
        with open(path, "rb") as file:
            line = file.readline(200)
    except OSError:
        return b""
    return line if line.startswith(b"#!") else b""


def _is_in(path: str, folder: str) -> bool:
    return f"{path}{os.sep}".startswith(f"{os.path.realpath(folder)}{os.sep}")


def _changes_path(script: str) -> bool:
    try:
        with open(script, "rb") as file:
            return b"sys.path" in file.read()
    except OSError:
        return False
