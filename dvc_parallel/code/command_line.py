"""Which Python scripts, modules and other programs a command of a shell runs.

It reads the words of a command, and looks at no file.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Union

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*w?(?:\.exe)?")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_OPERATORS = "();<>|&\n"
# Options of Python with a value.
_WITH_VALUE = "WX"
# Modules that run the script after them.
_RUNNERS = frozenset(
    [
        "accelerate.commands.launch",
        "cProfile",
        "coverage",
        "kernprof",
        "line_profiler",
        "memory_profiler",
        "pdb",
        "profile",
        "torch.distributed.launch",
        "torch.distributed.run",
        "trace",
    ]
)
# Commands that do so.
_LAUNCHERS = frozenset(
    ["accelerate", "coverage", "deepspeed", "kernprof", "pipx", "torchrun", "uv"]
)
# Commands that run the program after them.
_WRAPPERS = frozenset(
    ["env", "mpiexec", "mpirun", "nice", "nohup", "srun", "stdbuf", "time", "timeout"]
)
# Those that run commands from files of their own.
_TASKS = frozenset(
    ["inv", "invoke", "just", "make", "nox", "poe", "snakemake", "task", "tox"]
)
_NOTEBOOKS = frozenset(["jupyter", "jupytext", "papermill", "ploomber"])
_SHELLS = frozenset(["bash", "dash", "ksh", "sh", "source", ".", "zsh"])


@dataclass(frozen=True)
class PythonRun:
    """A script or a module that is run.

    Attributes:
        name: path of a script, or name of a module.
        is_module: whether it is a module (``python -m``).
        folder: where it is run; relative to where the command is.
        paths: folders in PYTHONPATH, which are relative to that folder.
    """

    name: str
    is_module: bool = False
    folder: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProgramRun:
    """A program that is run, which may be one of the project's own.

    Attributes:
        words: one of them is its name, or its path; the first that can be.
        shown: the command.
        folder, paths: as for a script.
    """

    words: tuple[str, ...]
    shown: str
    folder: str = ""
    paths: tuple[str, ...] = ()


@dataclass
class CommandLine:
    """What a command runs.

    Attributes:
        runs: scripts and modules.
        programs: others.
        unclear: parts that may run Python in a way that is not understood, and why.
    """

    runs: list[PythonRun] = field(default_factory=list)
    programs: list[ProgramRun] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, cmd: Union[str, Iterable[str], None]) -> "CommandLine":
        """Read the command of a stage, or several of them."""
        found = cls()
        for text in [cmd] if isinstance(cmd, str) else cmd or ():
            found._read(text)
        return found

    def _read(self, text: str) -> None:
        folder, paths = "", ""
        try:
            commands = list(_commands(text))
        except ValueError as exc:
            self.unclear.append(f"`{text}`: {str(exc).lower()}")
            return
        for words in filter(None, commands):
            if words[:1] == ["cd"] and len(words) == 2:
                folder = os.path.join(folder, words[1])
                continue
            if words[:1] == ["export"]:
                words = words[1:]
                paths = _python_path(words, paths)
                continue
            self._command(words, folder, _python_path(words, paths))

    def _command(self, words: list[str], folder: str, paths: str) -> None:
        where = filter(None, paths.split(os.pathsep))
        here: dict[str, Any] = {"folder": folder, "paths": tuple(where)}
        shown = shlex.join(words)
        while words and _ASSIGNMENT.match(words[0]):
            words = words[1:]
        names = [os.path.basename(word) for word in words]
        if any(name.endswith(".ipynb") for name in names) or (
            not _NOTEBOOKS.isdisjoint(names[:3])
        ):
            self.unclear.append(f"`{shown}`: notebooks are not read")
            return
        for place, name in enumerate(names):
            if _PYTHON.fullmatch(name):
                self._python(words[place + 1 :], shown, here)
                return
        if names[:2] == ["uv", "run"] and "-m" in words[:-1]:
            self._python(words[words.index("-m") :], shown, here)
            return
        script = next((w for w in words if w.endswith(".py")), None)
        if names and script and (words[0] == script or _launches(names)):
            self._add(script, shown, here)
        elif names and (
            names[0].endswith((".sh", ".bash"))
            or (names[0] in _SHELLS and len(words) > 1)
        ):
            self.unclear.append(f"`{shown}`: scripts of a shell are not read")
        elif names and names[0] in _TASKS:
            self.unclear.append(f"`{shown}`: files of {names[0]} are not read")
        elif names:
            wraps = names[0] in _WRAPPERS or _launches(names)
            found = words if wraps else words[:1]
            self.programs.append(ProgramRun(tuple(found), shown, **here))

    def _python(self, words: list[str], shown: str, here: dict) -> None:
        """The arguments of Python."""
        rest = iter(words)
        for word in rest:
            if not word.startswith("-") or word == "-":
                if word == "-":
                    break
                self._add(word, shown, here)
                return
            if word.startswith("--"):
                continue
            flag = next((c for c in word[1:] if c in "mc" + _WITH_VALUE), None)
            if flag is None:
                continue
            value = word[word.index(flag) + 1 :] or next(rest, "")
            if flag == "m":
                self._module(value, list(rest), shown, here)
                return
            if flag == "c":
                break
        else:
            return
        self.unclear.append(f"`{shown}`: code in a command is not read")

    def _module(self, name: str, words: list[str], shown: str, here: dict) -> None:
        if name not in _RUNNERS:
            self._add(name, shown, here, is_module=True)
            return
        script = next((word for word in words if word.endswith(".py")), None)
        if script is not None:
            self._add(script, shown, here)
        elif "-m" in words[:-1]:
            self._add(words[words.index("-m") + 1], shown, here, is_module=True)
        else:
            self.unclear.append(f"`{shown}`: which script '{name}' runs is unknown")

    def _add(self, name: str, shown: str, here: dict, is_module: bool = False) -> None:
        if re.search(r"[$*?`]", name + here["folder"]):
            self.unclear.append(f"`{shown}`: the shell makes up '{name}' as it runs")
        else:
            self.runs.append(PythonRun(name, is_module, **here))


def _launches(names: list[str]) -> bool:
    """Whether a command runs a script that is among its arguments."""
    return names[0] in _LAUNCHERS or "run" in names[1:2]


def _python_path(words: Iterable[str], before: str) -> str:
    for word in words:
        if word.startswith("PYTHONPATH="):
            value = word.partition("=")[2]
            value = re.sub(r"\$\{PYTHONPATH[^}]*\}|\$PYTHONPATH\b", before, value)
            return re.sub(r"\$\{?PWD\}?", ".", value)
    return before


def _commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command, without redirections and comments.

    Raises:
        ValueError: the quotes do not match.
    """
    lexer = shlex.shlex(
        text.replace("\\\n", " "), posix=True, punctuation_chars=_OPERATORS
    )
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for word in lexer:
        if word.startswith("#"):
            while word and "\n" not in word:
                word = lexer.get_token() or ""
        if not set(word) <= set(_OPERATORS):
            words.append(word)
        elif "<" in word or ">" in word:
            # NOTE: 2>&1 comes as 2, >& and 1
            if words and words[-1].isdigit():
                words.pop()
            lexer.get_token()
        else:
            yield words
            words = []
    yield words
