"""Replacing single entries in the text of a dvc.lock.

To parse the whole dvc.lock, change one entry and write all of it again after every
stage is, for n stages, O(n^2) work in a slow parser.  Here the text is cut
into the blocks of its entries, and only one block is made anew::

    schema: '2.0'
    stages:
      train:                      <- begin of a block
        cmd: python train.py
        deps:
        - path: train.py
          hash: md5

The result is byte for byte what a round trip (load and dump by ruamel.yaml)
leaves.  For that, the round trip must not change any other part of the text: every
block has to be a fixed point of it.  It is sent through one by itself, once in a
process.

Where a block is not a fixed point, or could depend on the rest of the text (aliases,
comments), nothing is done here, and the whole file has to take the round trip.
"""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Optional

from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml_for_update

if TYPE_CHECKING:
    from typing_extensions import Self

_HEADER = "schema: '2.0'\nstages:\n"
# What a block stands in when it is by itself
STAGES = "stages:\n"

# NOTE: lines end at "\n" only; str.splitlines() knows of more line breaks
_BLOCK = re.compile(r"  [^ \n].*:\n(?=    [^ \-])(?:    .+\n)+")

_SCALARS = {str, bool, int, float, type(None)}
# NOTE: includes what ruamel.yaml derives from these
_NODES = (dict, list, int, float, dt.date)


class UnstableEntryError(Exception):
    """An entry that the next round trip changes, or that depends on others."""


class LockfileText:
    """The text of a dvc.lock, of which single entries are read and replaced."""

    def __init__(self) -> None:
        self._blocks: dict[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> "Optional[Self]":
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
            name = cls._verified_name(match.group()) if match else None
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

    def get(self, name: str) -> Optional[dict[str, Any]]:
        """Data of an entry, or None if there is none.

        It is equal to what the data that a round trip loads is equal to.
        """
        if name not in self._blocks:
            return None
        data = parse_yaml_for_update(STAGES + self._blocks[name], "dvc.lock")
        return data["stages"][name]

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
        block = self._format(name, entry) if entry and is_self_contained(entry) else ""
        if not _BLOCK.fullmatch(block) or self._verified_name(block) != name:
            raise UnstableEntryError(f"cannot write the entry of '{name}' by itself")
        if name in self._blocks or before is None:
            self._blocks[name] = block
            return
        if before not in self._blocks:
            raise KeyError(before)

        names = list(self._blocks)
        blocks = {other: self._blocks[other] for other in names[: names.index(before)]}
        self._blocks = {**blocks, name: block, **self._blocks}

    @staticmethod
    def _format(name: str, entry: Mapping[str, Any]) -> str:
        """The block of an entry, as a round trip writes it."""
        return dumps_yaml({"stages": {name: entry}})[len(STAGES) :]

    @staticmethod
    def _verified_name(block: str) -> Optional[str]:
        """The name of a block's entry, or None if not all of it is a fixed point."""
        return _verified_name(block)


def is_self_contained(data: Any) -> bool:
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


def fixed_point(text: str) -> Optional[dict[str, Any]]:
    """The data of a text that a round trip does not change, whatever is around it."""
    try:
        data = parse_yaml_for_update(text, "dvc.lock")
        stable = dumps_yaml(data) == text and is_self_contained(data)
    except Exception:  # noqa: BLE001
        # NOTE: not all that ruamel.yaml raises is a YAMLError, as for bad dates
        return None
    return data if stable else None


@lru_cache(maxsize=2**14)
def _verified_name(block: str) -> Optional[str]:
    stages = (fixed_point(STAGES + block) or {}).get("stages")
    if not isinstance(stages, dict) or len(stages) != 1:
        return None
    ((name, entry),) = stages.items()
    return name if type(name) is str and isinstance(entry, dict) else None
