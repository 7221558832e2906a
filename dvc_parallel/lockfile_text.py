"""Replacing single entries in the text of a dvc.lock.

DVC parses the whole dvc.lock, changes one entry and writes all of it again, after
every stage: for n stages that is O(n^2) work in a slow parser.  Here the text is cut
into the blocks of its entries, and only one block is made anew::

    schema: '2.0'
    stages:
      train:                      <- begin of a block
        cmd: python train.py      <- a field of the entry
        deps:                     <- the next field, down to the next key
        - path: train.py
          hash: md5

The result is byte for byte what DVC's round trip (load and dump by ruamel.yaml)
leaves.  For that, the round trip must not change any other part of the text: every
field has to be a fixed point of it.  A field certainly is one if it consists of a
small subset of YAML, which ``_format`` writes and ``_parse`` reads.  Any other field
is sent through DVC's round trip, by itself and once in a process.

Where a field is not a fixed point, or could depend on the rest of the text (aliases,
comments), nothing is done here, and the whole file has to take DVC's round trip.
"""

import datetime as dt
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Optional

from dvc.utils.serialize._yaml import (
    dumps_yaml,
    parse_yaml,
    parse_yaml_for_update,
)

_HEADER = "schema: '2.0'\nstages:\n"
# What a block or a field stands in when it is by itself
_STAGES = "stages:\n"
_STAGE = "stages:\n  s:\n"
_CMD = "    cmd: s\n"

# NOTE: lines end at "\n" only; str.splitlines() knows of more line breaks
_BLOCK = re.compile(r"  [^ \n].*:\n(?=    [^ \-])(?:    .+\n)+")
_FIELD = re.compile(r"    [^ \-].*\n(?:    [ \-].*\n)*")
_ROW = re.compile(r"( *)(.*)\n")
_KEY = re.compile(r"(.*?):(?: (.*))?")
# NOTE: ruamel.yaml folds lines that are longer than 80 characters
_LONG_LINE = re.compile(r".{81}")

# Strings that are written as they are, and read as strings again: they start with
# nothing that has a meaning in YAML, or could start a number; if with a digit, there
# is a letter that is in no number or date.  In a hash, any two of its letters will
# do, as it is too long for a date and has no prefix as in 0x1f.
_CHAR = r"!-~\u00a1-\u167f\u3041-\ud7a3"
_SIMPLE_STR = re.compile(
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

_SCALARS = {str, bool, int, float, type(None)}
_COLLECTIONS = {dict, OrderedDict, list}
# NOTE: includes what ruamel.yaml derives from these
_NODES = (dict, list, float, dt.date)


class UnstableEntryError(Exception):
    """An entry that DVC's next round trip changes, or that depends on others."""


class _NotSimpleError(Exception):
    """Beyond the subset of YAML that is known here."""


class LockfileText:
    """The text of a dvc.lock, of which single entries are read and replaced."""

    def __init__(self) -> None:
        self._blocks: dict[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> Optional["LockfileText"]:
        """Take over the text of a dvc.lock.

        Args:
            text: as DVC reads it, that is with "\\n" for any line break; empty for a
                file that does not exist yet.

        Returns:
            None if DVC's round trip would change the text, or if it may take a round
            trip of the whole text to replace an entry.
        """
        self = cls()
        if not text:
            return self
        if not text.startswith(_HEADER) or text == _HEADER:
            return None

        pos = len(_HEADER)
        while pos < len(text):
            match = _BLOCK.match(text, pos)
            name = _verified_name(match.group()) if match else None
            if match is None or name is None or name in self._blocks:
                return None
            self._blocks[name] = match.group()
            pos = match.end()
        return self

    def __str__(self) -> str:
        return _HEADER + "".join(self._blocks.values()) if self._blocks else ""

    def __iter__(self) -> Iterator[str]:
        """Names of the entries, in the order of the text."""
        return iter(self._blocks)

    def __contains__(self, name: object) -> bool:
        return name in self._blocks

    def load(self) -> dict[str, Any]:
        """All data, as DVC's loader for reading ("safe") returns it."""
        stages: dict[str, Any] = {}
        for name, block in self._blocks.items():
            entry: dict[str, Any] = {}
            for field in _FIELD.findall(block):
                try:
                    entry.update(_parse(field))
                except _NotSimpleError:
                    data = parse_yaml(_STAGE + field, "dvc.lock")
                    entry.update(data["stages"]["s"])
            stages[name] = entry
        return {"schema": "2.0", "stages": stages} if stages else {}

    def get(self, name: str) -> Optional[dict[str, Any]]:
        """Data of an entry, or None if there is none.

        It is equal to what the data that DVC loads is equal to.
        """
        if name not in self._blocks:
            return None
        # NOTE: as in DVC, this is != to an OrderedDict in another order
        entry: dict[str, Any] = OrderedDict()
        for field in _FIELD.findall(self._blocks[name]):
            try:
                entry.update(_parse(field))
            except _NotSimpleError:
                data = parse_yaml_for_update(_STAGE + field, "dvc.lock")
                entry.update(data["stages"]["s"])
        return entry

    def put(
        self, name: str, entry: Mapping[str, Any], before: Optional[str] = None
    ) -> None:
        """Replace an entry where it is, or add one.

        Args:
            name: name of the stage.
            entry: value that ``dvc.stage.serialize.to_lockfile`` has for it.
            before: name of an entry; a new one is added in front of it rather than
                at the end.

        Raises:
            UnstableEntryError: it takes DVC's round trip to write this entry.
            KeyError: there is no entry ``before``.
            Exception: whatever DVC raises for data that it cannot write.

            After any of these, nothing is changed.
        """
        block = _format_block(name, entry)
        if name in self._blocks or before is None:
            self._blocks[name] = block
            return
        if before not in self._blocks:
            raise KeyError(before)

        names = list(self._blocks)
        blocks = {other: self._blocks[other] for other in names[: names.index(before)]}
        self._blocks = {**blocks, name: block, **self._blocks}


def dumps_simple(data: Mapping[str, Any]) -> Optional[str]:
    """Write data as ``dvc.utils.serialize.dumps_yaml`` does, if it is simple.

    Returns:
        None if it takes ruamel.yaml to write it.
    """
    if not data or not _is_self_contained(data):
        return None
    try:
        return _format(data, "data:", -2)[len("data:\n") :]
    except _NotSimpleError:
        return None


def _format_block(name: str, entry: Mapping[str, Any]) -> str:
    block = ""
    if entry and _is_self_contained(entry):
        try:
            return _format({name: entry}, "stages:", 0)[len(_STAGES) :]
        except _NotSimpleError:
            line = dumps_yaml({"stages": {name: {"cmd": "s"}}})
            block = line[len(_STAGES) : -len(_CMD)]
            block += "".join(_format_field(key, entry[key]) for key in entry)
    if not _BLOCK.fullmatch(block) or _verified_name(block) != name:
        raise UnstableEntryError(f"cannot write the entry of '{name}' by itself")
    return block


def _format_field(key: str, value: Any) -> str:
    entry = {key: value}
    try:
        return _format(entry, "  s:", 2)[len("  s:\n") :]
    except _NotSimpleError:
        return dumps_yaml({"stages": {"s": entry}})[len(_STAGE) :]


@lru_cache(maxsize=2**14)
def _verified_name(block: str) -> Optional[str]:
    """Return the name of a block's entry, or None if not all of it is a fixed point."""
    line = block[: block.index("\n") + 1]
    name: Optional[str] = line[2:-2]
    if not _SIMPLE_STR.fullmatch(line, 2, len(line) - 2) or _LONG_LINE.match(line):
        name = _verified_key(_STAGES + line + _CMD, depth=1)

    keys: list[Optional[str]] = []
    for field in _FIELD.findall(block, len(line)):
        try:
            keys.extend(_parse(field))
        except _NotSimpleError:
            keys.append(_verified_key(_STAGE + field, depth=2))
    return name if None not in keys and len(set(keys)) == len(keys) else None


@lru_cache(maxsize=2**14)
def _verified_key(text: str, depth: int) -> Optional[str]:
    """Return the only key at a depth of a text.

    Or None if the text is not a fixed point of DVC's round trip, whatever is around.
    """
    try:
        data = parse_yaml_for_update(text, "dvc.lock")
        if dumps_yaml(data) != text or not _is_self_contained(data):
            return None
        for _ in range(depth):
            (data,) = data.values()
        (key,) = data
    except Exception:  # noqa: BLE001
        # NOTE: not all that ruamel.yaml raises is a YAMLError, as for bad dates
        return None
    return key if type(key) is str else None


def _is_self_contained(data: Any) -> bool:
    """Whether nothing refers to other parts of the data, and there are no comments."""
    seen = set()
    nodes = [data]
    while nodes:
        node = nodes.pop()
        if type(node) in _SCALARS:
            continue
        # NOTE: anything but these scalars becomes an alias when it is met again
        if id(node) in seen or not isinstance(node, _NODES) or _is_annotated(node):
            return False
        seen.add(id(node))
        if isinstance(node, dict):
            nodes.extend(node)
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    return True


def _is_annotated(node: Any) -> bool:
    """Whether ruamel.yaml keeps with a node what is not data."""
    anchor = getattr(node, "anchor", None)
    comments = getattr(node, "ca", None)
    return bool(
        (anchor and anchor.value)
        or (comments and (comments.comment or comments.items or comments.end))
        or getattr(node, "merge", None)
    )


def _format(value: Any, head: str, column: int) -> str:
    """Write a value exactly as DVC does.

    Args:
        value: data of any depth.
        head: what the first line begins with, up to the colon of the value's key.
        column: where the key begins.

    Raises:
        _NotSimpleError: only ruamel.yaml knows how to write this.
    """
    lines: list[str] = []
    _append(lines, value, head, column)
    text = "\n".join([*lines, ""])
    if _LONG_LINE.search(text):
        raise _NotSimpleError
    return text


def _append(lines: list[str], value: Any, head: str, column: int) -> None:
    kind = type(value)
    after_dash = head[-1] == "-"
    if kind not in _COLLECTIONS:
        if value is not None or after_dash:
            head = f"{head} {_format_scalar(value)}"
        lines.append(head)
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
        elif type(item) is str and _SIMPLE_STR.fullmatch(item):
            _append(lines, value[item], f"{start}{item}:", column)
        else:
            raise _NotSimpleError
        start = " " * column


def _format_scalar(value: Any) -> str:
    kind = type(value)
    if kind is str and _SIMPLE_STR.fullmatch(value):
        return value
    if kind is int or (kind is float and _SIMPLE_FLOAT.fullmatch(repr(value))):
        return repr(value)
    if kind is bool:
        return "true" if value else "false"
    raise _NotSimpleError


def _parse(field: str) -> dict[str, Any]:
    """Read a field that is a fixed point beyond doubt.

    Raises:
        _NotSimpleError: only ruamel.yaml can tell whether it is.
    """
    rows = [(len(spaces), row) for spaces, row in _ROW.findall(field)]
    rows.reverse()
    data = {} if _LONG_LINE.search(field) else _read(rows)
    # NOTE: this is what decides, so that reading may be lax
    if _format(data, "  s:", 2) != "  s:\n" + field:
        raise _NotSimpleError
    return data


def _read(rows: list[tuple[int, str]]) -> Any:
    """Take a mapping or sequence from rows of (indentation, text), last row first."""
    column, row = rows[-1]
    if row.startswith("- "):
        items = []
        while rows and rows[-1][0] == column and rows[-1][1].startswith("- "):
            item = rows.pop()[1][2:]
            if item.startswith("- ") or _KEY.fullmatch(item):
                rows.append((column + 2, item))
                items.append(_read(rows))
            else:
                items.append(_read_scalar(item))
        return items

    data: dict[str, Any] = {}
    while rows and rows[-1][0] == column:
        match = _KEY.fullmatch(rows[-1][1])
        if not match:
            break
        key, value = match.groups()
        rows.pop()
        if value is not None:
            data[key] = _read_scalar(value)
        # NOTE: below a key, the dashes of a sequence are not indented
        elif rows and rows[-1][0] + rows[-1][1].startswith("- ") > column:
            data[key] = _read(rows)
        else:
            data[key] = None
    return data


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
