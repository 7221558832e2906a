"""Entries of a dvc.lock, read and written without ruamel.yaml where they are simple.

Nearly all consist of a small subset of YAML (:mod:`dvc_parallel.simple_yaml`), and what
does is a fixed point of the round trip beyond doubt.  Entries that do not are cut into
their fields, and only a field that is beyond the subset takes the round trip.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Callable, Optional

from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml, parse_yaml_for_update

from .lockfile import Lockfiles
from .lockfile_text import STAGES, LockfileText, fixed_point
from .simple_yaml import (
    SIMPLE_STR,
    WIDTH,
    NotSimpleError,
    format_value,
    parse_field,
)

# What a field stands in when it is by itself, and what stands in an entry without any
_STAGE = "stages:\n  s:\n"
_CMD = "    cmd: s\n"

_FIELD = re.compile(r"    [^ \-].*\n(?:    [ \-].*\n)*")


class FastLockfileText(LockfileText):
    """The text of a dvc.lock, of which all or single entries are read and replaced."""

    def load(self) -> dict[str, Any]:
        """All data, as the loader for reading ("safe") returns it."""
        stages = {
            name: _load(block, {}, parse_yaml) for name, block in self._blocks.items()
        }
        return {"schema": "2.0", "stages": stages} if stages else {}

    def get(self, name: str) -> Optional[dict[str, Any]]:
        if name not in self._blocks:
            return None
        # NOTE: like what a round trip loads, != to an OrderedDict in another order
        return _load(self._blocks[name], OrderedDict(), parse_yaml_for_update)

    @staticmethod
    def _format(name: str, entry: Mapping[str, Any]) -> str:
        try:
            return format_value({name: entry}, "stages:", 0)[len(STAGES) :]
        except NotSimpleError:
            line = dumps_yaml({"stages": {name: {"cmd": "s"}}})
            block = line[len(STAGES) : -len(_CMD)]
            return block + "".join(_format_field(key, entry[key]) for key in entry)

    @staticmethod
    def _verified_name(block: str) -> Optional[str]:
        return _verified_name(block)


class FastLockfiles(Lockfiles):
    """The dvc.lock files of a repo.  Owned by the owner of the repo."""

    _parse = staticmethod(FastLockfileText.parse)

    def entry(self, path: str, name: str) -> Optional[dict[str, Any]]:
        """The entry of a dvc.lock, or None if it has none or cannot be read."""
        text = self._text(path)
        if text is None:
            return None
        self._known[path] = (str(text), text)
        return text.get(name)


def _load(block: str, entry: dict[str, Any], parse: Callable) -> dict[str, Any]:
    for field in _FIELD.findall(block):
        try:
            entry.update(parse_field(field))
        except NotSimpleError:
            entry.update(parse(_STAGE + field, "dvc.lock")["stages"]["s"])
    return entry


def _format_field(key: str, value: Any) -> str:
    entry = {key: value}
    try:
        return format_value(entry, "  s:", 2)[len("  s:\n") :]
    except NotSimpleError:
        return dumps_yaml({"stages": {"s": entry}})[len(_STAGE) :]


@lru_cache(maxsize=2**14)
def _verified_name(block: str) -> Optional[str]:
    line = block[: block.index("\n") + 1]
    name: Optional[str] = line[2:-2]
    if not SIMPLE_STR.fullmatch(line, 2, len(line) - 2) or len(line) > WIDTH:
        name = _verified_key(STAGES + line + _CMD, depth=1)

    keys: list[Optional[str]] = []
    for field in _FIELD.findall(block, len(line)):
        try:
            keys.extend(parse_field(field))
        except NotSimpleError:
            keys.append(_verified_key(_STAGE + field, depth=2))
    return name if None not in keys and len(set(keys)) == len(keys) else None


@lru_cache(maxsize=2**14)
def _verified_key(text: str, depth: int) -> Optional[str]:
    """The only key at a depth of a text, or None if that is no fixed point."""
    data: Any = fixed_point(text)
    for _ in range(depth):
        data = next(iter(data.values())) if _is_single(data) else None
    key = next(iter(data)) if _is_single(data) else None
    return key if type(key) is str else None


def _is_single(data: Any) -> bool:
    return isinstance(data, dict) and len(data) == 1
