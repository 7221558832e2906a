"""Replacing single entries in the text of a dvc.lock.

To parse the whole dvc.lock, change one entry and write all of it again after every
stage is, for n stages, O(n^2) work in a slow parser.  Here the text is cut
into the blocks of its entries, and only one block is made anew::

    schema: '2.0'
    stages:
      train:                      <- begin of a block
        cmd: python train.py      <- a field of the entry
        deps:                     <- the next field, down to the next key
        - path: train.py
          hash: md5

The result is byte for byte what a round trip (load and dump by ruamel.yaml)
leaves.  For that, the round trip must not change any other part of the text: every
field has to be a fixed point of it.  A field certainly is one if it consists of a
small subset of YAML (:mod:`dvc_parallel.simple_yaml`).  Any other field is
sent through a round trip, by itself and once in a process.

Where a field is not a fixed point, or could depend on the rest of the text (aliases,
comments), nothing is done here, and the whole file has to take the round trip.
"""

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

from .simple_yaml import (
    SIMPLE_STR,
    WIDTH,
    NotSimpleError,
    format_value,
    is_self_contained,
    parse_field,
)

_HEADER = "schema: '2.0'\nstages:\n"
# What a block or a field stands in when it is by itself
_STAGES = "stages:\n"
_STAGE = "stages:\n  s:\n"
_CMD = "    cmd: s\n"

# NOTE: lines end at "\n" only; str.splitlines() knows of more line breaks
_BLOCK = re.compile(r"  [^ \n].*:\n(?=    [^ \-])(?:    .+\n)+")
_FIELD = re.compile(r"    [^ \-].*\n(?:    [ \-].*\n)*")


class UnstableEntryError(Exception):
    """An entry that the next round trip changes, or that depends on others."""


class LockfileText:
    """The text of a dvc.lock, of which single entries are read and replaced."""

    def __init__(self) -> None:
        self._blocks: dict[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> Optional["LockfileText"]:
        """Take over the text of a dvc.lock.

        Args:
            text: as it is read from a file, that is with "\\n" for any line break;
                empty for a file that does not exist yet.

        Returns:
            None if a round trip would change the text, or if it may take a round
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
        """All data, as the loader for reading ("safe") returns it."""
        stages: dict[str, Any] = {}
        for name, block in self._blocks.items():
            entry: dict[str, Any] = {}
            for field in _FIELD.findall(block):
                try:
                    entry.update(parse_field(field))
                except NotSimpleError:
                    data = parse_yaml(_STAGE + field, "dvc.lock")
                    entry.update(data["stages"]["s"])
            stages[name] = entry
        return {"schema": "2.0", "stages": stages} if stages else {}

    def get(self, name: str) -> Optional[dict[str, Any]]:
        """Data of an entry, or None if there is none.

        It is equal to what the data that a round trip loads is equal to.
        """
        if name not in self._blocks:
            return None
        # NOTE: as what it loads, this is != to an OrderedDict in another order
        entry: dict[str, Any] = OrderedDict()
        for field in _FIELD.findall(self._blocks[name]):
            try:
                entry.update(parse_field(field))
            except NotSimpleError:
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
            UnstableEntryError: it takes a round trip to write this entry.
            KeyError: there is no entry ``before``.
            Exception: whatever ruamel.yaml raises for data that it cannot write.

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


def _format_block(name: str, entry: Mapping[str, Any]) -> str:
    block = ""
    if entry and is_self_contained(entry):
        try:
            return format_value({name: entry}, "stages:", 0)[len(_STAGES) :]
        except NotSimpleError:
            line = dumps_yaml({"stages": {name: {"cmd": "s"}}})
            block = line[len(_STAGES) : -len(_CMD)]
            block += "".join(_format_field(key, entry[key]) for key in entry)
    if not _BLOCK.fullmatch(block) or _verified_name(block) != name:
        raise UnstableEntryError(f"cannot write the entry of '{name}' by itself")
    return block


def _format_field(key: str, value: Any) -> str:
    entry = {key: value}
    try:
        return format_value(entry, "  s:", 2)[len("  s:\n") :]
    except NotSimpleError:
        return dumps_yaml({"stages": {"s": entry}})[len(_STAGE) :]


@lru_cache(maxsize=2**14)
def _verified_name(block: str) -> Optional[str]:
    """Return the name of a block's entry, or None if not all of it is a fixed point."""
    line = block[: block.index("\n") + 1]
    name: Optional[str] = line[2:-2]
    if not SIMPLE_STR.fullmatch(line, 2, len(line) - 2) or len(line) > WIDTH:
        name = _verified_key(_STAGES + line + _CMD, depth=1)

    keys: list[Optional[str]] = []
    for field in _FIELD.findall(block, len(line)):
        try:
            keys.extend(parse_field(field))
        except NotSimpleError:
            keys.append(_verified_key(_STAGE + field, depth=2))
    return name if None not in keys and len(set(keys)) == len(keys) else None


@lru_cache(maxsize=2**14)
def _verified_key(text: str, depth: int) -> Optional[str]:
    """Return the only key at a depth of a text.

    Or None if the text is not a fixed point of the round trip, whatever is around.
    """
    try:
        data = parse_yaml_for_update(text, "dvc.lock")
        if dumps_yaml(data) != text or not is_self_contained(data):
            return None
        for _ in range(depth):
            (data,) = data.values()
        (key,) = data
    except Exception:  # noqa: BLE001
        # NOTE: not all that ruamel.yaml raises is a YAMLError, as for bad dates
        return None
    return key if type(key) is str else None
