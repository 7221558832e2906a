"""Console scripts: commands that a project in the repo defines, and what they call."""

import ast
import configparser
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Optional

from dvc.utils.serialize import ParseError, parse_toml

# Of entry points, those that are commands.
_GROUPS = ("console_scripts", "gui_scripts")
# Where projects name them, and installed ones.
_SETUP, _INSTALLED = "setup.py", "entry_points.txt"


class ConsoleScripts:
    """Commands by their names, each with what it calls: ``pkg.mod:func``.

    Each file is read once.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str]] = {}

    def of_project(self, folder: str) -> dict[str, str]:
        """Those that the metadata of a project define; paths of scripts are absolute.

        In what cannot be read, nothing is defined.
        """
        if folder not in self._known:
            self._known[folder] = dict(_defined(folder))
        return self._known[folder]

    def of_installed(self, info: str) -> dict[str, str]:
        """Those of a distribution, by its folder of metadata."""
        if info not in self._known:
            text = _text(os.path.join(info, _INSTALLED))
            self._known[info] = dict(_in_ini(text, ""))
        return self._known[info]

    def may_define(self, folder: str, name: str) -> bool:
        """Whether a project may define a command in a way that is not understood."""
        source = _text(os.path.join(folder, _SETUP))
        return re.search(rf"['\"]{re.escape(name)}\s*=", source) is not None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def _defined(folder: str) -> Iterator[tuple[str, str]]:
    yield from _in_setup(_text(os.path.join(folder, _SETUP)))
    yield from _in_ini(_text(os.path.join(folder, "setup.cfg")), "options.entry_points")
    path = os.path.join(folder, "pyproject.toml")
    data: Any = {}
    with suppress(ParseError):
        data = parse_toml(_text(path), path)
    tables = [("tool", "poetry", "scripts"), ("project", "scripts")]
    for keys in (*tables, ("project", "gui-scripts")):
        for name, value in _table(data, keys).items():
            if isinstance(value, Mapping):
                # NOTE: poetry's long form
                called, is_file = value.get("callable"), value.get("type") == "file"
                if is_file and isinstance(value.get("reference"), str):
                    called = os.path.join(folder, value["reference"])
                value = called or value.get("reference")
            if isinstance(value, str):
                yield name, _called(value)


def _table(data: Any, keys: tuple[str, ...]) -> Mapping[str, Any]:
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def _in_ini(text: str, section: str) -> Iterator[tuple[str, str]]:
    """Of setup.cfg, in a section of it; without one, of a file of entry points."""
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    with suppress(configparser.Error):
        parser.read_string(text)
    for group in _GROUPS:
        if not section and parser.has_section(group):
            yield from ((name, _called(it)) for name, it in parser.items(group))
        elif parser.has_option(section, group):
            yield from _lines(parser.get(section, group).splitlines())


def _lines(lines: Any) -> Iterator[tuple[str, str]]:
    for line in lines if isinstance(lines, list) else str(lines).splitlines():
        name, equals, called = str(line).partition("=")
        if equals:
            yield name.strip(), _called(called)


def _called(text: str) -> str:
    """What an entry point names, without its extras."""
    return text.partition("[")[0].strip()


def _in_setup(source: str) -> Iterator[tuple[str, str]]:
    """Of setup.py, where they are literals."""
    with suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.keyword) and node.arg == "entry_points":
                found = _literal(node.value)
                if isinstance(found, str):
                    yield from _in_ini(found, "")
                for group in _GROUPS:
                    if isinstance(found, Mapping):
                        yield from _lines(found.get(group, []))


def _literal(node: ast.AST) -> Optional[Any]:
    try:
        return ast.literal_eval(node)  # type: ignore[arg-type]
    except ValueError:
        return None
