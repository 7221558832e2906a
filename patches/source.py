"""A file of the plugin, as it would be in DVC."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .series import SERIES, WORDS, Copy

ROOT = Path(__file__).parent.parent

# DVC's own settings are ruff's, but for this one.
FIRST_PARTY = 'lint.isort.known-first-party=["dvc", "dvc_*", "tests"]'

_NAME = re.compile(r"\bdvc_parallel((?:\.\w+)*)")


class SourceError(Exception):
    """The plugin has changed in a way that ``series.py`` does not know of."""


def render(copy: Copy) -> str:
    """The text of the new file, before ruff has sorted and formatted it.

    Raises:
        SourceError: something is no longer as ``series.py`` says.
    """
    text = (ROOT / copy.source).read_text()
    for old, new in copy.replace:
        if text.count(old) != 1:
            raise SourceError(f"{copy.source} has {text.count(old)} times: {old!r}")
        text = text.replace(old, new)
    for old, new in WORDS:
        text = text.replace(old, new)
    text = _without(text, copy)
    text = _with_new_imports(text, copy)
    return _NAME.sub(lambda match: _new_name(match, copy), text)


def tidy(paths: Iterable[Path]) -> None:
    """Sort the imports of new files, drop those without use, and format."""
    files = [str(path) for path in paths if path.suffix == ".py"]
    ruff = [sys.executable, "-m", "ruff"]
    common = ["--isolated", "--quiet", "--target-version", "py39"]
    fix = ["check", *common, "--config", FIRST_PARTY, "--select", "I,F401", "--fix"]
    subprocess.run([*ruff, *fix, *files], check=True)
    subprocess.run([*ruff, "format", *common, *files], check=True)


def _new_names() -> dict[str, str]:
    copies = [copy for part in SERIES for copy in part.copies]
    return {copy.module: copy.new_module for copy in copies}


def _new_name(match: re.Match, copy: Copy) -> str:
    names = _new_names()
    parts = match[0].split(".")
    for end in range(len(parts), 0, -1):
        if new := names.get(".".join(parts[:end])):
            return ".".join([new, *parts[end:]])
    raise SourceError(f"{copy.source} uses {match[0]}, which is not in the series")


def _without(text: str, copy: Copy) -> str:
    lines = text.splitlines(keepends=True)
    for name in copy.without:
        node: ast.AST = ast.parse(text)
        for part in name.split("."):
            node = _find(node, part, copy)
        decorators = getattr(node, "decorator_list", [])
        first = min(item.lineno for item in [*decorators, node])  # type: ignore[attr-defined]
        last = node.end_lineno  # type: ignore[attr-defined]
        lines[first - 1 : last] = [""] * (last - first + 1)
    return "".join(lines)


def _find(node: ast.AST, name: str, copy: Copy) -> ast.AST:
    for child in ast.iter_child_nodes(node):
        targets = child.targets if isinstance(child, ast.Assign) else []
        for target in [child, *targets]:
            if name in (getattr(target, "name", None), getattr(target, "id", None)):
                return child
    raise SourceError(f"{copy.source} has no {name}")


def _with_new_imports(text: str, copy: Copy) -> str:
    """Import modules from where they are; each by itself, as they part ways."""
    lines = text.splitlines(keepends=True)
    package = _package(copy.module, copy.source)
    new_package = ".".join(_package(copy.new_module, copy.target))
    imports = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)]
    for node in imports:
        module = node.module or ""
        if node.level:
            above = package[: len(package) - node.level + 1]
            module = ".".join([*above, *filter(None, [module])])
        if not module.startswith(("dvc_parallel", "tests")):
            continue
        indent = " " * node.col_offset
        names: dict[str, list[str]] = {}
        for alias in node.names:
            told = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            submodule = f"{module}.{alias.name}"
            source, name = _new_names().get(module, module), told
            if submodule in _new_names():
                source, _, new = _new_names()[submodule].rpartition(".")
                name = told if new == alias.name else f"{new} as {alias.name}"
            if source == new_package or source.startswith(f"{new_package}."):
                source = source[len(new_package) :]
                source = source if source.startswith(".") else f".{source}"
            names.setdefault(source, []).append(name)
        rows = [
            f"{indent}from {source} import {', '.join(found)}\n"
            for source, found in names.items()
        ]
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        lines[first:last] = ["".join(rows), *[""] * (last - first - 1)]
    return "".join(lines)


def _package(module: str, path: str) -> list[str]:
    """The package that relative imports of a module start from."""
    parts = module.split(".")
    return parts if path.endswith("__init__.py") else parts[:-1]
