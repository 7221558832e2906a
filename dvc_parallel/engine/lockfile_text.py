"""The text of a dvc.lock, of which single entries are read and replaced.

To parse the whole dvc.lock, change one entry and write all of it again after every
stage is, for n stages, O(n^2) work in a slow parser.  Here the text is cut
into the blocks of its entries, and only one block is made anew::

    schema: '2.0'               <- head
    stages:
      train:                    <- begin of a block
        cmd: python train.py
        deps:
        - path: train.py
          hash: md5

The result is byte for byte what DVC leaves, which loads the file and dumps it; only
where a value would then read as another one, it is as it was.

Most blocks are what :mod:`.simple_yaml` writes.  The others are odd: with comments, in
flow style, folded by an older ruamel.yaml, with aliases to other entries, and so on.
They take one round trip in ruamel.yaml, apart from the rest, as DVC would have them
take one; and one more only if an entry is put that they share something with.
"""

import marshal
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import lru_cache
from itertools import count, repeat
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Optional

from dvc.utils.serialize._yaml import (
    dumps_yaml,
    parse_yaml,
    parse_yaml_for_update,
)

from .yaml_subset import NotSimpleError, dumps_quoted, format_value, read, read_again

if TYPE_CHECKING:
    from typing_extensions import Self

_HEAD = "schema: '2.0'\nstages:\n"
_STAGES = "stages:\n"
_STUB = "  s:\n    cmd: s\n"

_BEGIN = re.compile(r"(?:.*\n)*?stages: *(?:#.*)?\n(?: *(?:#.*)?\n)*")
# A block begins with a key in the third column; what follows is further to the right,
# a comment, or empty.
_BLOCK = re.compile(r"  [^ #\n].*\n(?:(?:   .*| {,2}#.*| {,2})\n)*")
_TOP_LEVEL = re.compile(r"^[^ #\n]", re.MULTILINE)
_COMMENT = re.compile(r"^ *\n|(?:^|\s)#", re.MULTILINE)
_COMMENT_AT_END = re.compile(r"\n *(?:#.*)?\n\Z")
_ANCHOR = re.compile(r"(?:^|[\[{,:?-]|!\S*) *([&*][^\s&*\[\]{},]+)", re.MULTILINE)
_TEMPLATED = re.compile(r"id[0-9]{3,}")
_MARK = re.compile("\0([&*])([^\0]*)\0")

# A key between blocks that take a round trip together
_FENCE = f"fence-{token_hex(8)}-"
_FENCES = re.compile(rf"  {_FENCE}[0-9]+: s\n")

_numbers = count(1)


class LockfileText:
    """The text of a dvc.lock, in the form that DVC leaves.

    Its blocks have marks in place of anchors and aliases, with a label for each anchor
    in the text.
    """

    def __init__(self) -> None:
        self._head, self._tail = _HEAD, ""
        self._top: dict[str, Any] = {"schema": "2.0", "stages": {}}
        self._blocks: dict[str, str] = {}  # by the names of their entries
        # What blocks say, of those that were read and have not changed
        self._read_already: dict[str, bytes] = {}
        # What only ruamel.yaml reads, as the loader for reading ("safe") returns it
        self._odd: dict[str, dict[str, Any]] = {}
        self._is_settled = True

    @classmethod
    def parse(cls, text: str) -> "Optional[Self]":
        """Take over the text of a dvc.lock.

        Args:
            text: as it is in the file; empty for a file that does not exist yet.

        Returns:
            None if only DVC can tell what this is.
        """
        self = cls()
        if not text:
            return self
        if (parts := cut(text)) is None:
            return None
        self._head, raws, self._tail = parts
        try:
            return self if raws and self._take(raws) else None
        except Exception:  # noqa: BLE001
            # NOTE: not all that ruamel.yaml raises is a YAMLError, as for bad dates
            return None

    def _take(self, raws: list[str]) -> bool:
        """Take over blocks as they are in a file; return whether that makes sense."""
        around = self._head + self._tail
        if around != _HEAD:
            self._is_settled = False
            self._top = parse_yaml(self._head + _STUB + self._tail, "dvc.lock")
            is_cut = self._top["stages"] == {"s": {"cmd": "s"}}
            if not is_cut or "%" in around or _ANCHOR.search(around):
                return False
        known = [_read_block(raw) for raw in raws]
        odd = [raw for raw, block in zip(raws, known) if block is None]
        needed = {f"&{name[1:]}" for raw in odd for name in _foreign(raw)}
        if needed:
            # NOTE: what they refer to is odd as well
            odd = [
                raw
                for raw, block in zip(raws, known)
                if block is None or not needed.isdisjoint(_ANCHOR.findall(raw))
            ]
        if odd:
            self._is_settled = False
            self._odd = parse_yaml("".join([_STAGES, *odd]), "dvc.lock")["stages"]
            _, *blocks, _ = _FENCES.split(_marked(_fenced(odd)))
            named = dict(zip(odd, zip(self._odd, blocks, repeat(None))))
            if not len(self._odd) == len(odd) == len(named):
                return False
            known = [named.get(raw) or block for raw, block in zip(raws, known)]
        for name, block, data in known:  # type: ignore[misc]
            self._blocks[name] = block if name in self._odd else _with_own_labels(block)
            if data is not None:
                self._read_already[name] = data
        entries = self._odd.values()
        return len(self._blocks) == len(raws) and all(
            isinstance(entry, dict) for entry in entries
        )

    def __str__(self) -> str:
        self._settle()
        if not self._blocks:
            return ""
        return _numbered("".join([self._head, *self._blocks.values(), self._tail]))

    def __iter__(self) -> Iterator[str]:
        """Names of the entries, in the order of the text."""
        return iter(self._blocks)

    def __contains__(self, name: object) -> bool:
        return name in self._blocks

    @property
    def top(self) -> dict[str, Any]:
        """What there is besides the entries."""
        return deepcopy({key: self._top[key] for key in self._top if key != "stages"})

    def load(self) -> dict[str, Any]:
        """All data, as the loader for reading ("safe") returns it."""
        stages = {name: self._read(name) for name in self._blocks}
        return {**self._top, **self.top, "stages": stages} if stages else {}

    def get(self, name: str) -> Optional[dict[str, Any]]:
        """Data of an entry, or None if there is none.

        It is equal to what the data that a round trip loads is equal to.
        """
        # NOTE: like what a round trip loads, != to an OrderedDict in another order
        return OrderedDict(self._read(name)) if name in self._blocks else None

    def _read(self, name: str) -> dict[str, Any]:
        if name in self._odd:
            return deepcopy(self._odd[name])
        if name in self._read_already:
            return marshal.loads(self._read_already[name])  # noqa: S302  # our own
        return read_again(_STAGES + _numbered(self._blocks[name]))["stages"][name]

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
            KeyError: there is no entry ``before``.
            Exception: whatever ruamel.yaml raises for data that it cannot write.

            After any of these, nothing is changed.
        """
        if before is not None and before not in self._blocks:
            raise KeyError(before)
        self._settle()
        is_new = name not in self._blocks
        affected = self._affected(name, before)
        if affected:
            self._round_trip(affected, {name: entry})
        else:
            self._set(name, entry)
        if is_new and before is not None:
            move_before(self._blocks, name, before)

    def _set(self, name: str, entry: Mapping[str, Any]) -> None:
        """Put an entry that has nothing to do with others."""
        data = {"stages": {name: entry}}
        try:
            text = format_value(data, "data:", -2)[len("data:\n") :]
        except (NotSimpleError, RecursionError):
            text = dumps_yaml(data)
            if not _is_same(_stages(text).get(name), entry):
                text = dumps_quoted(data)
            self._adopt(name, _marked(text)[len(_STAGES) :], entry)
        else:
            self._blocks[name] = _with_own_labels(text[len(_STAGES) :])
            self._odd.pop(name, None)
            self._read_already.pop(name, None)

    def _adopt(self, name: str, block: str, entry: Mapping[str, Any]) -> None:
        """Take over a block that ruamel.yaml has written."""
        known = _read_block(_numbered(block))
        self._blocks[name] = _with_own_labels(known[1]) if known else block
        self._odd.pop(name, None)
        self._read_already.pop(name, None)
        if not known:
            self._odd[name] = _stages(_numbered(_STAGES + block)).get(name, entry)

    def _affected(self, name: str, before: Optional[str]) -> list[str]:
        """Entries whose blocks take a round trip when one is put, in their order."""
        if name not in self._blocks:
            last = list(self._blocks)[-1:] if before is None and self._odd else []
            return [
                other
                for other in last
                if other in self._odd and _COMMENT_AT_END.search(self._blocks[other])
            ]
        if name not in self._odd:
            return []
        affected = {name} if _COMMENT.search(self._blocks[name]) else set()
        own = _labels(self._blocks[name])
        for label in own:
            others = [
                other
                for other in self._blocks
                if other in self._odd and other != name
                if label in _labels(self._blocks[other])
            ]
            # NOTE: the next one has to have the value, the last one needs no anchor
            if others and ("&" in own[label] or len(others) == 1):
                affected.update((name, others[0]))
        return [other for other in self._blocks if other in affected]

    def _settle(self) -> None:
        """Have all be as it is after a round trip."""
        if self._is_settled:
            return
        self._is_settled = True
        for group in self._groups():
            self._round_trip(group, {})
        if self._head + self._tail != _HEAD:
            text = self._head + _STUB + self._tail
            text = dumps_yaml(parse_yaml_for_update(text, "dvc.lock"))
            self._head, _, self._tail = text.partition(_STUB)

    def _groups(self) -> list[list[str]]:
        """Odd entries, together with those that they share something with."""
        groups = {name: [name] for name in self._odd}
        owners: dict[str, str] = {}
        for name in self._odd:
            for label in _labels(self._blocks[name]):
                group = groups[owners.setdefault(label, name)]
                if group is not groups[name]:
                    group += groups[name]
                    groups.update(dict.fromkeys(groups[name], group))
        unique = {id(group): group for group in groups.values()}.values()
        return [[name for name in self._odd if name in group] for group in unique]

    def _round_trip(self, names: list[str], put: Mapping[str, Any]) -> None:
        """Have entries take a round trip, with those that have what they refer to.

        Args:
            names: of odd entries, in their order.
            put: an entry to be put, by its name.
        """
        uses = {name: _labels(self._blocks[name]) for name in self._odd}
        owners = {
            label: name
            for name, labels in uses.items()
            for label in labels
            if "&" in labels[label]
        }
        needed = list(names)
        for name in needed:
            needed.extend({owners[label] for label in uses[name]}.difference(needed))
        names = [name for name in self._blocks if name in needed]
        # NOTE: an anchor has to stay for those that are left out
        outer = {label for name in uses if name not in names for label in uses[name]}
        later = [label for label in sorted(outer) if owners[label] in names]

        texts = [self._blocks[name] for name in names]
        is_end = not later and names[-1] == list(self._blocks)[-1]
        if is_end:
            text = _fenced(texts[:-1]) + texts[-1] + self._tail
        else:
            text = _fenced(texts) + _aliases(later)
        data = parse_yaml_for_update(_numbered(text), "dvc.lock")
        keep_floats(data)
        is_new = not put.keys() <= set(names)
        if is_new:
            data["stages"][f"{_FENCE}{next(_numbers)}"] = "s"
        data["stages"].update(put)
        dumped = dumps_yaml(data)
        stages = _stages(dumped)
        kept = [name for name in names if name not in put]
        is_right = all(_is_same(stages.get(name), self._odd[name]) for name in kept)
        if not stages or not is_right:
            if put:
                self._part(put)
            return

        _, *blocks = _FENCES.split(_relabelled(_marked(dumped), later))
        if is_end:
            end = _TOP_LEVEL.search(blocks[-1])
            pos = end.start() if end else len(blocks[-1])
            blocks[-1], self._tail = blocks[-1][:pos], blocks[-1][pos:]
        counts = Counter(label for block in blocks for label in _labels(block))
        shared = {*later, *(label for label in counts if counts[label] > 1)}
        for name, block in zip([*kept, *put] if is_new else names, blocks):
            if not shared.isdisjoint(_labels(block)):
                self._blocks[name], self._odd[name] = block, stages[name]
            elif name in put and not _is_same(stages.get(name), put[name]):
                self._set(name, put[name])
            else:
                self._adopt(name, block, put.get(name, {}))

    def _part(self, put: Mapping[str, Any]) -> None:
        """Put an entry, and have those of its group refer to nothing in others."""
        for group in self._groups():
            if not put.keys().isdisjoint(group):
                for name in group:
                    self._set(name, put.get(name, self._odd[name]))
        for name in put:
            self._set(name, put[name])


def cut(text: str) -> Optional[tuple[str, list[str], str]]:
    """The head, the blocks and the tail of a text; None if it has no entries there."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.removeprefix("\ufeff")
    text = text if text.endswith("\n") else f"{text}\n"
    begin = _BEGIN.match(text)
    if not begin:
        return None
    raws, pos = [], begin.end()
    while match := _BLOCK.match(text, pos):
        raws.append(match.group())
        pos = match.end()
    return begin.group(), raws, text[pos:]


def move_before(mapping: dict, name: str, successor: str) -> None:
    """Move the last key of a mapping in front of another one."""
    names = list(mapping)
    moved = names[names.index(successor) : -1]
    for other in [name, *moved]:
        mapping[other] = mapping.pop(other)


def has_anchors(text: str) -> bool:
    """Whether there may be anchors or aliases in it."""
    return _ANCHOR.search(text) is not None


def _is_same(read: Any, entry: Any) -> bool:
    """Whether an entry is what was read of it."""
    entry = _without_tuples(entry)
    # NOTE: what is not a number is not equal to itself
    return read == entry or repr(read) == repr(entry)


def _without_tuples(node: Any) -> Any:
    """What YAML makes of a node: params in Python files can be tuples."""
    if isinstance(node, dict):
        return {key: _without_tuples(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_without_tuples(item) for item in node]
    return node


def _stages(text: str) -> dict[str, Any]:
    """What the loader for reading finds; nothing where it fails."""
    try:
        return parse_yaml(text, "dvc.lock")["stages"]
    except Exception:  # noqa: BLE001
        # NOTE: not all that ruamel.yaml raises is a YAMLError, as for bad dates
        return {}


@lru_cache(maxsize=2**14)
def _read_block(raw: str) -> Optional[tuple[str, str, Optional[bytes]]]:
    """The name of a block's entry, the block, and what it says; None if it is odd.

    Reading it again takes 30 times as long as ``marshal``, which has no dates.
    """
    try:
        data, text = read(_STAGES + raw)
    except NotSimpleError:
        return None
    ((name, entry),) = data["stages"].items()
    if type(name) is not str or not isinstance(entry, dict):
        return None
    with suppress(ValueError):
        return name, text[len(_STAGES) :], marshal.dumps(entry)
    return name, text[len(_STAGES) :], None


def _foreign(raw: str) -> set[str]:
    """Aliases in a block to what is in others."""
    names = _ANCHOR.findall(raw)
    first = {name[1:]: name for name in reversed(names)}
    return {name for name in first.values() if name[0] == "*"}


def _with_own_labels(block: str) -> str:
    """A block whose marks cannot be mistaken for those of others."""
    if "\0" not in block:
        return block
    number = next(_numbers)
    return _MARK.sub(lambda mark: f"\0{mark[1]}{number}.{mark[2]}\0", block)


def _labels(block: str) -> dict[str, str]:
    """What of each anchor there is in a block: it, aliases to it, or both."""
    labels: dict[str, str] = {}
    if "\0" in block:
        for sigil, label in _MARK.findall(block):
            labels[label] = labels.get(label, "") + sigil
    return labels


def _aliases(labels: list[str]) -> str:
    """Entries that keep anchors in use."""
    rows = (f"  {_FENCE}alias{nr}: \0*{label}\0\n" for nr, label in enumerate(labels))
    return "".join(rows)


def _relabelled(dumped: str, labels: list[str]) -> str:
    """What has been written with :func:`_aliases`, with the labels that it had."""
    found = re.findall(rf"  {_FENCE}alias[0-9]+: \0.([^\0]*)\0", dumped)
    known = dict(zip(found, labels))
    return _MARK.sub(lambda it: f"\0{it[1]}{known.get(it[2], it[2])}\0", dumped)


def _fenced(blocks: list[str]) -> str:
    fences = [f"  {_FENCE}{next(_numbers)}: s\n" for _ in range(len(blocks) + 1)]
    return "".join(
        [_STAGES, fences[0], *(it for pair in zip(blocks, fences[1:]) for it in pair)]
    )


def _marked(text: str) -> str:
    """Put marks in place of anchors and aliases."""
    if not _ANCHOR.search(text):
        return text
    from ruamel.yaml import YAML
    from ruamel.yaml.tokens import AliasToken, AnchorToken

    parts, pos = [], 0
    labels: dict[str, str] = {}
    for token in YAML().scan(text):
        if isinstance(token, (AnchorToken, AliasToken)):
            start, name = token.start_mark.index, token.value
            if isinstance(token, AnchorToken):
                own_name = "" if _TEMPLATED.match(name) else f"={name}"
                labels[name] = f"{next(_numbers)}{own_name}"
            parts += [text[pos:start], f"\0{text[start]}{labels[name]}\0"]
            pos = token.end_mark.index
    return "".join([*parts, text[pos:]])


def _numbered(text: str) -> str:
    """Put anchors and aliases in place of marks, numbered as ruamel.yaml does."""
    if "\0" not in text:
        return text
    parts = text.split("\0")
    names: dict[str, str] = {}
    number = 0
    # NOTE: it numbers an anchor when it meets the first alias
    for mark in sorted(parts[1::2], key=lambda mark: mark[0] != "*"):
        if mark[1:] not in names:
            _, is_named, name = mark[1:].partition("=")
            number += not is_named
            names[mark[1:]] = name if is_named else f"id{number:03d}"
    for place in range(1, len(parts), 2):
        parts[place] = parts[place][0] + names[parts[place][1:]]
    return "".join(parts)


def _nodes(value: Any) -> Iterator[Any]:
    """The collections in a value, with those that are merged in."""
    seen = set()
    nodes = [value]
    while nodes:
        node = nodes.pop()
        if id(node) not in seen and isinstance(node, (dict, list)):
            seen.add(id(node))
            yield node
            nodes.extend(node.values() if isinstance(node, dict) else node)


def keep_floats(data: Any) -> None:
    """Have floats in what a round trip loads be written as they are."""
    for node in _nodes(data):
        if not getattr(node, "merge", None):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            for key, value in list(items):
                if isinstance(value, float) and not _keeps_digits(value):
                    node[key] = float(value)


def _keeps_digits(value: float) -> bool:
    *_, text = dumps_yaml([value]).split()
    # NOTE: of another length, it is in another form than Python's
    return text == repr(float(value)) or len(text) != len(repr(float(value)))
