"""A small subset of YAML, written and read exactly as by ruamel.yaml.

Mappings and sequences in block style, with strings, numbers, booleans and null as plain
scalars.  That is what nearly all of a dvc.lock consists of, and it is
read and written here in a small part of the time.  Whatever is beyond it, is
ruamel.yaml's.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from typing import Any, Optional

from dvc.utils.serialize._yaml import dumps_yaml

from .lockfile_text import is_self_contained

# NOTE: lines end at "\n" only; str.splitlines() knows of more line breaks
_ROW = re.compile(r"( *)(.*)\n")
_KEY = re.compile(r"(.*?):(?: (.*))?")
# Longer lines are folded by ruamel.yaml.
WIDTH = 80
_SPACES = re.compile(r"( +)")

# Strings that are written as they are, and read as strings again: they start with
# nothing that has a meaning in YAML, or could start a number; if with a digit, there
# is a letter that is in no number or date.  In a hash, any two of its letters will
# do, as it is too long for a date and has no prefix as in 0x1f.
_CHAR = r"!-~\u00a1-\u167f\u3041-\ud7a3"
SIMPLE_STR = re.compile(
    rf"""
    (?! .*(?: :[ ] | :\Z | [ ]\# | [ ]\Z ) )
    (?! (?i: true | false | null )\Z )
    (?: [a-zA-Z_/$(\u00a1-\u167f\u3041-\ud7a3]
      | \.(?! inf | nan )[a-z/]
      | \.\./
      | [0-9] (?= [{_CHAR}]* [g-np-su-wyG-NP-SU-WY/] )
      | (?= [0-9a-f]{{32}}\Z ) (?= (?: [0-9]*[a-f] ){{2}} ) [0-9]
    )
    [{_CHAR}\ ]*
    """,
    re.VERBOSE,
)
_INT = re.compile(r"-?[0-9]+")
# NOTE: with an exponent, ruamel.yaml changes the last digit of a long mantissa in
# every round trip
_SIMPLE_FLOAT = re.compile(r"-?[0-9]+\.[0-9]+|-?[0-9](?:\.[0-9]{1,2})?e[+-][0-2][0-9]")

_COLLECTIONS = {dict, OrderedDict, list}


class NotSimpleError(Exception):
    """Beyond the subset of YAML that is known here."""


def dumps_simple(data: Mapping[str, Any]) -> Optional[str]:
    """Write data as ``dvc.utils.serialize.dumps_yaml`` does, if it is simple.

    Returns:
        None if it takes ruamel.yaml to write it.
    """
    if not data or not is_self_contained(data):
        return None
    try:
        return format_value(data, "data:", -2)[len("data:\n") :]
    except NotSimpleError:
        return None


def format_value(value: Any, head: str, column: int) -> str:
    """Write a value exactly as ``dumps_yaml`` does.

    Args:
        value: data of any depth.
        head: what the first line begins with, up to the colon of the value's key.
        column: where the key begins.

    Raises:
        NotSimpleError: only ruamel.yaml knows how to write this.
    """
    lines: list[str] = []
    _append(lines, value, head, column)
    return "\n".join([*lines, ""])


def _append(lines: list[str], value: Any, head: str, column: int) -> None:
    kind = type(value)
    after_dash = head[-1] == "-"
    if kind not in _COLLECTIONS:
        if value is None and not after_dash:
            lines.append(head)
        else:
            lines.extend(_fold(head, _format_scalar(value), column + 2))
        return
    if not value:
        lines.append(head + (" []" if kind is list else " {}"))
        return

    if kind is not list or after_dash:
        column += 2
    start = " " * column
    if after_dash:
        start = head + " "
    else:
        lines.append(head)
    for item in value:
        if kind is list:
            _append(lines, item, start + "-", column)
        elif _is_simple_key(item) and len(start) + len(item) < WIDTH:
            _append(lines, value[item], f"{start}{item}:", column)
        else:
            raise NotSimpleError
        start = " " * column


def _is_simple_key(key: Any) -> bool:
    return type(key) is str and SIMPLE_STR.fullmatch(key) is not None


def _fold(head: str, text: str, indent: int) -> list[str]:
    if len(head) + 1 + len(text) <= WIDTH:
        return [f"{head} {text}"]
    if not _folds_as_ruamel():
        raise NotSimpleError
    lines = _fold_long(head, text, indent)
    # NOTE: ruamel.yaml reads several spaces before a line break as a single one
    if any(line.endswith("  ") for line in lines[:-1]):
        raise NotSimpleError
    return lines


def _fold_long(head: str, text: str, indent: int) -> list[str]:
    """Fold a long line as ``Emitter.write_plain`` of ruamel.yaml 0.18 does."""
    lines = []
    line = head + " "
    for part in _SPACES.split(text):
        if part[0] != " ":
            too_long = len(line) + len(part) > WIDTH and len(line) > indent
        else:
            too_long = part == " " and len(line) >= WIDTH
        if too_long:
            lines.append(line)
            line = " " * indent
        if part != " " or not too_long:
            line += part
    return [*lines, line]


@cache
def _folds_as_ruamel() -> bool:
    """Whether the installed ruamel.yaml is one that folds as ``_fold_long``."""
    words = ["a" * (i % 13 + 1) for i in range(50)]
    texts = [" ".join(words[i:]) for i in (0, 2, 6)]
    texts += ["a " + "b" * 100 + " c", "a" * 71 + " b c", "a" * 70 + "  b c"]
    for head, indent in (("t:", 2), ("  t:", 4), ("-", 2), ("  -", 4)):
        above = indent // 2 - (head[-1] == ":")
        for text in texts:
            data: Any = [text] if head[-1] == "-" else {"t": text}
            for _ in range(above):
                data = {"d": data}
            if dumps_yaml(data).splitlines()[above:] != _fold_long(head, text, indent):
                return False
    return True


def _format_scalar(value: Any) -> str:
    kind = type(value)
    if kind is str and SIMPLE_STR.fullmatch(value):
        return value
    if kind is int or (kind is float and _SIMPLE_FLOAT.fullmatch(repr(value))):
        return repr(value)
    if kind is bool:
        return "true" if value else "false"
    raise NotSimpleError


def parse_field(field: str) -> dict[str, Any]:
    """Read a field that is a fixed point beyond doubt.

    Raises:
        NotSimpleError: only ruamel.yaml can tell whether it is.
    """
    rows = [(len(spaces), row) for spaces, row in _ROW.findall(field)]
    rows.reverse()
    data = _read(rows)
    # NOTE: this is what decides, so that reading may be lax
    if format_value(data, "  s:", 2) != "  s:\n" + field:
        raise NotSimpleError
    return data


def _read(rows: list[tuple[int, str]]) -> Any:
    """Take a mapping or sequence from rows of (indentation, text), last row first."""
    column, row = rows[-1]
    if column > WIDTH:
        raise NotSimpleError
    if row.startswith("- "):
        items = []
        while rows and rows[-1][0] == column and rows[-1][1].startswith("- "):
            item = rows.pop()[1][2:]
            if item.startswith("- ") or _KEY.fullmatch(item):
                rows.append((column + 2, item))
                items.append(_read(rows))
            else:
                items.append(_read_scalar(_unfold(item, rows, column)))
        return items

    data: dict[str, Any] = {}
    while rows and rows[-1][0] == column:
        match = _KEY.fullmatch(rows[-1][1])
        if not match:
            break
        key, value = match.groups()
        rows.pop()
        if value is not None:
            data[key] = _read_scalar(_unfold(value, rows, column))
        # NOTE: below a key, the dashes of a sequence are not indented
        elif rows and rows[-1][0] + rows[-1][1].startswith("- ") > column:
            data[key] = _read(rows)
        else:
            data[key] = None
    return data


def _unfold(text: str, rows: list[tuple[int, str]], column: int) -> str:
    while rows and rows[-1][0] > column:
        # NOTE: a word that is too long for the line leaves a space behind
        text = text.rstrip(" ") + " " + rows.pop()[1]
    return text


def _read_scalar(text: str) -> Any:
    if text in {"true", "false"}:
        return text == "true"
    if text in {"[]", "{}"}:
        return [] if text == "[]" else {}
    if _INT.fullmatch(text):
        return int(text)
    if _SIMPLE_FLOAT.fullmatch(text):
        return float(text)
    return text
