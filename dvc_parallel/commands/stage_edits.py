"""Changes of dvc.yaml that leave the rest of it as it stands, comments and all.

Lines are put into the text.  Where that does not give the wanted content, as in a stage
that is written in one line, DVC's own round trip with ruamel.yaml is used.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from dvc.utils.serialize import (
    YAMLFileCorruptedError,
    modify_yaml,
    parse_yaml,
    parse_yaml_for_update,
)

from dvc_parallel.engine.atomic import atomic_write

_PLAIN = re.compile(r"[A-Za-z0-9_./@][A-Za-z0-9_./@-]*")


def add_deps(path: str, tmp_dir: str, deps: Mapping[str, Sequence[str]]) -> None:
    """Add dependencies to stages of a dvc.yaml.

    Args:
        tmp_dir: where its new text is made.
        deps: for each entry of ``stages``, paths as they are to be there.

    Raises:
        YAMLFileCorruptedError: it is no YAML.
    """
    with open(path, encoding="utf-8", newline="") as file:
        text = before = file.read()
    left = {}
    for name, paths in deps.items():
        changed = _with_deps(text, path, name, paths)
        if changed is None:
            left[name] = paths
        text = changed or text
    if text != before:
        with atomic_write(path, tmp_dir, newline="") as output:
            output.write(text)
    if left:
        with modify_yaml(path) as data:
            for name, paths in left.items():
                stage = _template(data["stages"][name])
                stage["deps"] = [*(stage.get("deps") or ()), *paths]


def _template(entry: Any) -> Any:
    """The part of an entry that has deps."""
    return entry.get("do", entry)


def _with_deps(text: str, path: str, name: str, paths: Sequence[str]) -> Optional[str]:
    """The text with more dependencies; None if that is not easily done."""
    stage = _template(parse_yaml_for_update(text, path)["stages"][name])
    lines = text.splitlines(keepends=True)
    end = "\r\n" if lines[0].endswith("\r\n") else "\n"
    if not lines[-1].endswith("\n"):
        lines[-1] += end
    deps = stage.get("deps")
    items = [_scalar(it) for it in paths]
    if deps and deps.fa.flow_style():
        row, column = deps.lc.item(len(deps) - 1)
        column = lines[row].find("]", column)
        _insert(lines, row, column, "".join(f", {it}" for it in items))
    elif deps:
        place, indent = _after_last(deps, lines)
        lines[place:place] = [f"{indent}- {it}{end}" for it in items]
    elif stage.fa.flow_style():
        _insert(lines, stage.lc.line, stage.lc.col + 1, f"deps: [{', '.join(items)}], ")
    else:
        place, indent = _place_of_deps(stage, lines)
        added = [f"{indent}deps:{end}", *(f"{indent}  - {it}{end}" for it in items)]
        lines[place:place] = added
    changed = "".join(lines)
    return changed if _is_right(text, changed, path, name, paths) else None


def _insert(lines: list[str], row: int, column: int, text: str) -> None:
    lines[row] = lines[row][:column] + text + lines[row][column:]


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and parse_yaml(text, text) == text:
        return text
    return "'{}'".format(text.replace("'", "''"))


def _place_of_deps(stage: Any, lines: Sequence[str]) -> tuple[int, str]:
    """Where the deps of a stage without some go, behind its command, and how far in."""
    keys = list(stage)
    row, column = stage.lc.key("cmd")
    indent = " " * column
    behind = keys.index("cmd") + 1
    if behind == len(keys):
        return row, indent
    place = stage.lc.key(keys[behind])[0]
    # NOTE: comments above a key belong to it
    while re.match(rf"{indent}#", lines[place - 1]):
        place -= 1
    return place, indent


def _after_last(deps: Any, lines: Sequence[str]) -> tuple[int, str]:
    """The line behind the last dependency, or of the first; how far in dashes are."""
    first = deps.lc.item(0)[0]
    last = deps.lc.item(len(deps) - 1)[0]
    indent = " " * lines[first].index("-")
    return (last + 1 if isinstance(deps[-1], str) else first), indent


def _is_right(
    before: str, text: str, path: str, name: str, paths: Sequence[str]
) -> bool:
    """Whether a text has the new dependencies, and all that was there."""
    expected = parse_yaml(before, path)
    stage = _template(expected["stages"][name])
    stage["deps"] = [*(stage.get("deps") or ()), *paths]
    try:
        found = parse_yaml(text, path)
    except YAMLFileCorruptedError:
        return False
    there = _template(found["stages"][name]).get("deps")
    if not isinstance(there, list):
        return False
    for deps in (there, stage["deps"]):
        deps.sort(key=str)
    return found == expected
