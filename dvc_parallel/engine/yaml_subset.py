"""Block-style YAML, written and read exactly as by ruamel.yaml, in a part of the time.

That is what nearly all of a dvc.lock consists of: mappings and sequences in block
style.  Strings, numbers, booleans and null that are plain scalars are handled here.
Other scalars and keys are ruamel.yaml's, each by itself and once in a process, and
whatever else there may be in YAML is beyond this module (:class:`NotSimpleError`).

What is written reads as it was.  Where ruamel.yaml folds a string so that it reads as
another one, the string gets another style, and a float always has its shortest form,
whereas ruamel.yaml changes the last digit of some in every round trip.

Collections that are there more than once have marks instead of anchors and aliases,
as the numbers of these depend on what else is in the file::

    a: \\0&1\\0       for    a: &id007
      b: 1                   b: 1
    c: \\0*1\\0              c: *id007
"""

import datetime as dt
import io
import marshal
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, Callable, Optional

from dvc.utils.serialize._yaml import _get_yaml, dumps_yaml, parse_yaml

# NOTE: lines end at "\n" only; str.splitlines() knows of more line breaks
_ROW = re.compile(r"( *)(.*)\n")
_KEY = re.compile(r"('(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"|[^'\"].*?):(?: (.*))?")
_ANCHOR = re.compile(r"&(id[0-9]{3,})(?: (.*))?")
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
_FLOAT = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?")
_CONSTANTS = {"true": True, "false": False, ".inf": float("inf"), ".nan": float("nan")}
_CONSTANTS["-.inf"] = -_CONSTANTS[".inf"]

# What stands alone in a line that people may have written
_TEXT = rf"[{_CHAR}\ ]"
_PLAIN_ROW = re.compile(r"(- +)?(?:([^'\"].{,99}?):(?: +(.+))?|(.+))")
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")
_QUOTED = re.compile(rf"\"((?:(?![\"\\]){_TEXT})*)\"|'((?:(?!'){_TEXT})*)'")
_COMMENT = re.compile(
    r"#[\t\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]*"
)

# The form of `marshal` in which equal data is equal
_NO_REFS = 2

_COLLECTIONS = {dict, OrderedDict, list}
_ODD_SCALARS = {str, bytes, dt.date, dt.datetime}
_ODD_KEYS = {str, int, bool, dt.date, type(None)}


class NotSimpleError(Exception):
    """Beyond what of YAML is known here."""


class _SharedError(Exception):
    """Something is there more than once."""


def dumps_simple(data: Mapping[str, Any]) -> Optional[str]:
    """Write data as ``dvc.utils.serialize.dumps_yaml`` does, if it is simple.

    Returns:
        None if it takes ruamel.yaml to write it.
    """
    try:
        text = format_value(data, "data:", -2)[len("data:\n") :] if data else None
    except NotSimpleError:
        return None
    if text is None or "\0" not in text:
        return text
    return re.sub("\0([&*])([0-9]+)\0", lambda it: f"{it[1]}id{int(it[2]):03d}", text)


def dumps_quoted(data: Any) -> str:
    """As ``dumps_yaml``, but with quotes instead of folded lines."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    known: dict[int, Any] = {}

    def quoted(node: Any) -> Any:
        if isinstance(node, str):
            return (
                node if SIMPLE_STR.fullmatch(node) else DoubleQuotedScalarString(node)
            )
        if id(node) not in known and isinstance(node, dict):
            copy = known[id(node)] = dict[Any, Any]()
            copy.update((quoted(key), quoted(value)) for key, value in node.items())
        elif id(node) not in known and isinstance(node, (list, tuple)):
            items = known[id(node)] = list[Any]()
            items.extend(map(quoted, node))
        return known.get(id(node), node)

    stream = io.StringIO()
    yaml = _get_yaml()
    yaml.width = 10**9
    yaml.dump(quoted(data), stream)
    return stream.getvalue()


def format_value(value: Any, head: str, column: int) -> str:
    """Write a value as ``dumps_yaml`` does.

    Args:
        value: data of any depth.
        head: what the first line begins with, up to the colon of the value's key.
        column: where the key begins.

    Raises:
        NotSimpleError: only ruamel.yaml knows how to write this.
        RecursionError: the value is in itself.
    """
    try:
        lines = _Writer({}).lines_of(value, head, column)
    except _SharedError:
        lines = _Writer(_labels(value)).lines_of(value, head, column)
    return "\n".join([*lines, ""])


def _labels(value: Any) -> dict[int, int]:
    """Numbers of what is there more than once, by identity, as ruamel.yaml counts."""
    seen: set[int] = set()
    labels: dict[int, int] = {}

    def visit(node: Any) -> None:
        if type(node) not in _COLLECTIONS:
            return
        if id(node) in seen:
            labels.setdefault(id(node), len(labels) + 1)
            return
        seen.add(id(node))
        for item in node if type(node) is list else node.values():
            visit(item)

    visit(value)
    return labels


class _Writer:
    def __init__(self, labels: Mapping[int, int]):
        self._labels = labels
        self._seen: set[int] = set()
        self._lines: list[str] = []

    def lines_of(self, value: Any, head: str, column: int) -> list[str]:
        self._add(value, head, column)
        return self._lines

    def _add(self, value: Any, head: str, column: int) -> None:
        kind = type(value)
        if kind not in _COLLECTIONS:
            self._add_scalar(value, head, column)
            return
        after_dash = head[-1] == "-"
        label = self._labels.get(id(value))
        if id(value) in self._seen:
            if label is None:
                raise _SharedError
            self._lines.append(f"{head} \0*{label}\0")
            return
        self._seen.add(id(value))
        if label is not None:
            head += f" \0&{label}\0"
        if not value:
            self._lines.append(head + (" []" if kind is list else " {}"))
            return

        if kind is not list or after_dash:
            column += 2
        start = " " * column
        if after_dash and label is None:
            start = head + " "
        else:
            self._lines.append(head)
        for item in value:
            if kind is list:
                self._add_item(item, start, column)
            else:
                self._add(value[item], f"{start}{self._key(item, start)}:", column)
            start = " " * column

    def _add_item(self, item: Any, start: str, column: int) -> None:
        """Add an item of a sequence; most are mappings of short and plain scalars."""
        rows: list[str] = []
        if type(item) is dict and id(item) not in self._seen and not self._labels:
            # NOTE: what `marshal` has not is no such scalar
            with suppress(ValueError):
                rows = _flat_rows(marshal.dumps(item, _NO_REFS), column + 2)
        if not rows:
            self._add(item, start + "-", column)
            return
        self._seen.add(id(item))
        self._lines.append(f"{start}- {rows[0]}")
        self._lines.extend(rows[1:])

    def _key(self, key: Any, start: str) -> str:
        text = key
        if type(key) is not str or not SIMPLE_STR.fullmatch(key):
            self._see(key)
            text = _format_odd_key(key)
        if len(start) + len(text) >= WIDTH:
            raise NotSimpleError
        return text

    def _see(self, scalar: Any) -> None:
        """Take note of a date: the same one once more would be an alias to it."""
        if isinstance(scalar, dt.date):
            # NOTE: those of different time zones may be equal
            if id(scalar) in self._seen or getattr(scalar, "tzinfo", None):
                raise NotSimpleError
            self._seen.add(id(scalar))

    def _add_scalar(self, value: Any, head: str, column: int) -> None:
        text = _format_scalar(value)
        if text is None:
            self._see(value)
            self._lines.extend(_format_odd(value, head, column))
        elif text == "" and head[-1] != "-":
            self._lines.append(head)
        elif len(head) + 1 + len(text) <= WIDTH:
            self._lines.append(f"{head} {text}")
        else:
            lines = _fold(head, text, column + 2) if _folds_as_ruamel() else ["  ", ""]
            # NOTE: of several spaces before a line break, ruamel.yaml reads one
            if any(line.endswith("  ") for line in lines[:-1]):
                lines = _format_odd(value, head, column)
            self._lines.extend(lines)


@lru_cache(maxsize=2**10)
def _is_simple_key(key: str) -> bool:
    return bool(SIMPLE_STR.fullmatch(key))


@lru_cache(maxsize=2**14)
def _flat_rows(item: bytes, column: int) -> list[str]:
    """The lines of a mapping, the first one without indentation.

    Nothing, if not all of it is plain scalars that fit into a line.
    """
    rows = []
    for key, value in marshal.loads(item).items():  # noqa: S302  # our own
        text = _format_scalar(value)
        if text is None or type(key) is not str or not _is_simple_key(key):
            return []
        row = f"{' ' * column}{key}: {text}" if text else f"{' ' * column}{key}:"
        if len(row) > WIDTH:
            return []
        rows.append(row)
    return [rows[0][column:], *rows[1:]] if rows else []


def _fold(head: str, text: str, indent: int) -> list[str]:
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
    """Whether the installed ruamel.yaml is one that folds as ``_fold``."""
    words = ["a" * (i % 13 + 1) for i in range(50)]
    texts = [" ".join(words[i:]) for i in (0, 2, 6)]
    texts += ["a " + "b" * 100 + " c", "a" * 71 + " b c", "a" * 70 + "  b c"]
    for head, indent in (("t:", 2), ("  t:", 4), ("-", 2), ("  -", 4)):
        for text in texts:
            rows = _rows_of(text, indent - 2, len(head) - indent + 1)
            if [head + rows[0], *rows[1:]] != _fold(head, text, indent):
                return False
    return True


def _format_scalar(value: Any) -> Optional[str]:
    """A plain scalar; None if it takes ruamel.yaml to write it."""
    kind = type(value)
    if kind is str:
        return value if SIMPLE_STR.fullmatch(value) else None
    if kind is int:
        return repr(value)
    if kind is bool:
        return "true" if value else "false"
    if value is None:
        return ""
    if kind is float:
        text = repr(value)  # NOTE: "inf" and "nan", in YAML, begin with a dot
        return (
            text if _FLOAT.fullmatch(text) else re.sub("(?=[in])", ".", text, count=1)
        )
    return None


def _format_odd(value: Any, head: str, column: int) -> list[str]:
    length = 0 if head[-1] == "-" else len(head) - column - 1
    if type(value) not in _ODD_SCALARS:
        raise NotSimpleError
    rows = _format_odd_scalar(value, column, length)
    return [head + rows[0], *rows[1:]]


@lru_cache(maxsize=2**14)
def _format_odd_scalar(value: Any, column: int, length: int) -> list[str]:
    """The lines of a scalar, the first of which goes after its key or dash.

    Args:
        column: where the key or dash is.
        length: of the key; 0 for a dash.
    """
    rows = _rows_of(value, column, length)
    if type(value) is not str or _reads_as(rows, value):
        return rows
    # NOTE: a literal scalar stays one in the round trips of DVC, a quoted one does not
    from ruamel.yaml.scalarstring import LiteralScalarString

    if not value.endswith("\n"):
        rows = _rows_of(LiteralScalarString(value), column, length)
        if rows[0].startswith(" |") and _reads_as(rows, value):
            return rows
    return _rows_of(value, column, length, dumps_quoted)


def _rows_of(
    scalar: Any, column: int, length: int, dumps: Callable = dumps_yaml
) -> list[str]:
    data: Any = {"k" * length: scalar} if length else {"d": [scalar]}
    for _ in range(column // 2):
        data = {"d": data}
    above = column // 2 + (length == 0)
    first, *rest = dumps(data).split("\n")[above:-1]
    return [first[column + length + 1 :], *rest]


def _reads_as(rows: list[str], value: Any) -> bool:
    try:
        return _parse_odd("k:" + "\n".join([*rows, ""]))["k"] == value
    except NotSimpleError:
        return False


@lru_cache(maxsize=2**14, typed=True)
def _format_odd_key(key: Any) -> str:
    """A key that is no simple string.

    Raises:
        NotSimpleError: it takes more than one line.
    """
    if type(key) not in _ODD_KEYS:
        raise NotSimpleError
    text = dumps_yaml({key: "s"})
    if not text.endswith(": s\n") or "\n" in text[:-1] or text[0] == "?":
        raise NotSimpleError
    if repr(_parse_odd(text)) != repr({key: "s"}):
        raise NotSimpleError
    return text[: -len(": s\n")]


def read(text: str) -> tuple[dict[Any, Any], str]:
    """Read a mapping in block style, of which nothing is shared with other texts.

    Returns:
        the mapping, and its text with marks.

    Raises:
        NotSimpleError: only ruamel.yaml can tell what this is, or how to write it.
    """
    reader = _Reader(text)
    data = reader.mapping()
    written = format_value(data, "data:", -2)[len("data:\n") :]
    # NOTE: this is what decides, so that reading may be lax
    marked = text if "\0" not in written else reader.marked(text)
    if written != marked:
        raise NotSimpleError
    return data, written


def read_again(text: str) -> dict[Any, Any]:
    """Read what :func:`read` has read before, or :func:`format_value` has written."""
    return _Reader(text).mapping()


def read_plain(text: str) -> Optional[dict[Any, Any]]:
    """Read a mapping as ``parse_yaml`` does, if each of its lines is plain.

    Besides blank lines and comments, each has a dash, a key or a scalar that can be
    nothing else, wherever it is.

    Returns:
        None if it takes ruamel.yaml to read it.
    """
    rows = _ROW.findall(text if text.endswith("\n") else f"{text}\n")
    rows.reverse()
    try:
        data = _plain_collection([(len(it), row) for it, row in rows if _counts(row)])
    except (NotSimpleError, RecursionError):
        return None
    return data if type(data) is dict else None


def _counts(row: str) -> bool:
    if row[:1] == "#" and not _COMMENT.fullmatch(row):
        raise NotSimpleError
    return row[:1] not in ("", "#")


def _plain_collection(rows: list[tuple[int, str]], above: int = -1) -> Any:
    """Take a mapping or sequence from rows, the first of which is the last of these.

    Args:
        above: where the lines begin that it belongs to.
    """
    data: Any = None
    start, _ = rows[-1] if rows else (-1, "")
    while rows and rows[-1][0] == start:
        dash, key, text = _plain_row(rows[-1][1])
        if data is None:
            data = [] if dash else {}
        if bool(dash) != (type(data) is list):
            break
        column, row = rows.pop()
        if not dash:
            if key is None or key in data:
                raise NotSimpleError
            value = None if text is None else _plain_scalar(text)
            if text is None and rows:
                below, first = rows[-1]
                if below > column or (below == column and first[:2] == "- "):
                    value = _plain_collection(rows, column)
            data[key] = value
        elif key is None:
            data.append(_plain_scalar(text))
        else:
            rows.append((column + dash, row[dash:]))
            data.append(_plain_collection(rows, column))
    # NOTE: what is further to the right goes on with a scalar, or is an error
    if not data or (rows and rows[-1][0] > above >= 0) or (rows and above < 0):
        raise NotSimpleError
    return data


@lru_cache(maxsize=2**14)
def _plain_row(row: str) -> tuple[int, Optional[str], Optional[str]]:
    """The length of a dash, a key, and the text of a scalar."""
    match = _PLAIN_ROW.fullmatch(row.rstrip(" "))
    if not match:
        raise NotSimpleError
    dash, key, value, text = match.groups()
    if key is not None and not SIMPLE_STR.fullmatch(key):
        raise NotSimpleError
    return len(dash or ""), key, value if key is not None else text


@lru_cache(maxsize=2**14)
def _plain_scalar(text: str) -> Any:
    if SIMPLE_STR.fullmatch(text):
        return text
    if quoted := _QUOTED.fullmatch(text):
        return quoted[1] if quoted[2] is None else quoted[2]
    if number := _PLAIN_NUMBER.fullmatch(text):
        return float(text) if number[1] else int(text)
    if text in ("true", "false"):
        return text == "true"
    raise NotSimpleError


class _Reader:
    """Reads rows of (indentation, text)."""

    def __init__(self, text: str):
        self._rows = [(len(spaces), row) for spaces, row in _ROW.findall(text)]
        self._rows.reverse()
        self._anchors: dict[str, Any] = {}
        self._names: list[str] = []  # of anchors, in the order of their first aliases

    def mapping(self) -> dict[Any, Any]:
        data = self._collection()
        if self._rows or type(data) is not dict:
            raise NotSimpleError
        return data

    def marked(self, text: str) -> str:
        """The text with marks in place of anchors and aliases."""
        for label, name in enumerate(self._names, 1):
            end = rf"{name}(?=[ \n])"
            text = re.sub(rf"(?<=[:-] )([&*]){end}", rf"\0\g<1>{label}\0", text)
        return text

    def _collection(self, anchor: str = "") -> Any:
        """Take a mapping or sequence from the rows."""
        rows = self._rows
        column, row = rows[-1] if rows else (WIDTH + 1, "")
        if column > WIDTH:
            raise NotSimpleError
        if row.startswith("- "):
            self._anchors[anchor] = []
            return self._sequence(self._anchors[anchor], column)

        data: dict[Any, Any] = {}
        self._anchors[anchor] = data
        while rows and rows[-1][0] == column:
            match = _KEY.fullmatch(rows[-1][1])
            if not match:
                break
            key, value = match.groups()
            rows.pop()
            if not SIMPLE_STR.fullmatch(key):
                (key,) = _parse_odd(f"{key}: s\n")
            if value is not None:
                data[key] = self._value(value, column)
            # NOTE: below a key, the dashes of a sequence are not indented
            elif rows and rows[-1][0] + rows[-1][1].startswith("- ") > column:
                data[key] = self._collection()
            else:
                data[key] = None
        return data

    def _sequence(self, items: list[Any], column: int) -> list[Any]:
        rows = self._rows
        while rows and rows[-1][0] == column and rows[-1][1].startswith("- "):
            item = rows.pop()[1][2:]
            if flat := self._flat(item, column + 2):
                items.append(flat)
            elif item.startswith("- ") or _KEY.fullmatch(item):
                rows.append((column + 2, item))
                items.append(self._collection())
            else:
                items.append(self._value(item, column))
        return items

    def _flat(self, first: str, column: int) -> dict[Any, Any]:
        """Take the rest of a mapping in a sequence if it is nothing but plain scalars.

        Args:
            first: its first row.
            column: of the others.
        """
        rows, end, texts = self._rows, len(self._rows), [first]
        while end and rows[end - 1][0] == column:
            end -= 1
            texts.append(rows[end][1])
        # NOTE: what is further to the right, or empty, goes on with a scalar
        if end and (rows[end - 1][0] > column or not rows[end - 1][1]):
            return {}
        flat = _read_flat(*texts)
        if flat is None:
            return {}
        del rows[end:]
        return marshal.loads(flat)  # noqa: S302  # our own

    def _value(self, text: str, column: int) -> Any:
        """The value whose first row goes on with a text."""
        if not text and not (self._rows and self._rows[-1][0] > column):
            return None
        if text[:1] == "*" and text[1:] in self._anchors:
            if text[1:] not in self._names:
                self._names.append(text[1:])
            return self._anchors[text[1:]]
        match = _ANCHOR.fullmatch(text) if text[:1] == "&" else None
        if match and match[1] not in self._names:
            if not match[2]:
                return self._collection(match[1])
            text = match[2]
        if text in ("[]", "{}"):
            empty: Any = [] if text == "[]" else {}
            self._anchors[match[1] if match else ""] = empty
            return empty
        if match:
            raise NotSimpleError
        return self._scalar(text, column)

    def _scalar(self, text: str, column: int) -> Any:
        rows = self._rows
        lines = [text]
        while rows and (rows[-1][0] > column or rows[-1] == (0, "")):
            indent, row = rows.pop()
            lines.append(" " * indent + row)
            # NOTE: a word that is too long for the line leaves a space behind
            text = f"{text.rstrip(' ')} {row}".lstrip(" ")
        if SIMPLE_STR.fullmatch(text):
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        return _parse_odd("k: " + "\n".join([*lines, ""]))["k"]


@lru_cache(maxsize=2**14)
def _read_flat(*rows: str) -> Optional[bytes]:
    """What rows say, if each is a key and a plain scalar."""
    data: dict[str, Any] = {}
    for row in rows:
        key, _, text = row.partition(": ")
        if not _is_simple_key(key) or key in data:
            return None
        if SIMPLE_STR.fullmatch(text):
            data[key] = text
        elif text in ("true", "false"):
            data[key] = text == "true"
        elif _INT.fullmatch(text):
            data[key] = int(text)
        else:
            return None
    return marshal.dumps(data)


@lru_cache(maxsize=2**14)
def _parse_odd(text: str) -> dict[Any, Any]:
    """A mapping of one scalar, which is not to be changed."""
    try:
        data = parse_yaml(text, "dvc.lock")
    except Exception as exc:
        # NOTE: not all that ruamel.yaml raises is a YAMLError, as for bad dates
        raise NotSimpleError from exc
    if not isinstance(data, dict) or len(data) != 1:
        raise NotSimpleError
    (value,) = data.values()
    if type(value) not in _ODD_SCALARS:
        raise NotSimpleError
    return data
