"""Stages in dvc.yaml: ours are written, and all the rest of its text stays.

A stage is ours if its ``meta`` has ``kedro``. What a user has added to one stays: other
keys, flags of outputs, dependencies that no fingerprint of ours has named.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from . import KedroError
from .stages import NodeStage

MARK = "kedro"
_SECTIONS = ("outs", "metrics", "plots")


def _yaml(like: str = "") -> Any:
    """What reads YAML and writes it back, with the indents of a text."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.preserve_quotes = True
    yaml.width = 10_000
    key = r"^( *)\S.*:[ \t]*(?:#.*)?\n\1"
    mapping = re.search(key + "( +)[^ \n-]", like, re.MULTILINE)
    items = re.search(key + "( *)- ", like, re.MULTILINE)
    offset = len(items[2]) if items else 0
    yaml.indent(len(mapping[2]) if mapping else 2, offset + 2, offset)
    return yaml


class DvcYaml:
    """The text of a dvc.yaml.

    Raises:
        KedroError: DVC could not read it, or its form cannot be edited.
    """

    def __init__(self, text: str):
        from ruamel.yaml import YAMLError

        self._newline = "\r\n" if "\r\n" in text else "\n"
        text = text.replace("\r\n", "\n")
        if text and not text.endswith("\n"):
            text += "\n"
        self._lines = text.splitlines(keepends=True)
        try:
            self._document: Any = _yaml().load(text) or {}
        except YAMLError as exc:
            text = " ".join(str(exc).split())
            raise KedroError(f"dvc.yaml cannot be read: {text}") from exc
        if not isinstance(self._document, dict):
            raise KedroError("dvc.yaml cannot be read: it is not a mapping")
        self._stages: Any = self._document.get("stages")
        if not self._stages:
            self._stages = {}
        elif not hasattr(self._stages, "items"):
            raise KedroError("dvc.yaml cannot be read: stages is not a mapping")
        elif self._stages.fa.flow_style():
            raise KedroError(
                "dvc.yaml has its stages in {}; write each one on lines of its own"
            )

    @property
    def ours(self) -> list[str]:
        """Names of the stages that are ours."""
        return [name for name, stage in self._stages.items() if _is_ours(stage)]

    def with_stages(
        self, stages: Sequence[NodeStage], before: Mapping[str, Iterable[str]]
    ) -> str:
        """The text with these stages, and without others of ours.

        Args:
            before: paths that we have written into each stage of ours.

        Raises:
            KedroError: somebody else's stage has such a name.
        """
        wanted = {stage.name: stage for stage in stages}
        for name in wanted:
            if name in self._stages and not _is_ours(self._stages[name]):
                raise KedroError(
                    f"dvc.yaml has a stage '{name}' that is not one of Kedro's; rename "
                    f"it, or node '{wanted[name].nodes[0]}'"
                )
        names = list(self._stages)
        lines = list(self._lines)
        like, indent, end = "", "  ", len(lines)
        if names:
            first, end = self._block(names[-1])
            like = "".join(lines[first:end])
            indent = _indent(like)
        added = [
            _indented(_dumped({name: merge({}, stage, set())}, like), indent)
            for name, stage in wanted.items()
            if name not in names
        ]
        if names:
            lines[end:end] = added
        elif added:
            lines = self._with_section(lines, added)
        for name in reversed(self.ours):
            first, last = self._block(name)
            text = "".join(self._lines[first:last])
            lines[first:last] = (
                [_changed(text, wanted[name], before.get(name, ()))]
                if name in wanted
                else []
            )
        text = "".join(lines)
        if names and not wanted and names == self.ours:
            text = re.sub(r"^stages:[ \t]*$", "stages: {}", text, flags=re.MULTILINE)
        return text.replace("\n", self._newline)

    def _with_section(self, lines: list[str], more: list[str]) -> list[str]:
        if "stages" not in self._document:
            return [*lines, "stages:\n", *more]
        place = self._document.lc.key("stages")[0]
        return [*lines[:place], "stages:\n", *more, *lines[place + 1 :]]

    def _block(self, name: str) -> tuple[int, int]:
        """First line of a stage, and the line after its last one."""
        names = list(self._stages)
        first = self._stages.lc.key(name)[0]
        place = names.index(name)
        if place + 1 < len(names):
            last = self._stages.lc.key(names[place + 1])[0]
        else:
            keys = [self._document.lc.key(key)[0] for key in self._document]
            last = min([key for key in keys if key > first], default=len(self._lines))
        # NOTE: comments and blank lines before a key are of that key
        while last - 1 > first and re.match(r"\s*(#.*)?$", self._lines[last - 1]):
            last -= 1
        return first, last


def _changed(text: str, stage: NodeStage, before: Iterable[str]) -> str:
    """The text of a stage as it is to be."""
    indent = _indent(text)
    loose = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
    document = _yaml().load(loose)
    old = document[stage.name]
    merged = merge(old, stage, set(before))
    if _plain(old) == merged:
        return text
    _assign(old, merged)
    return _indented(_dumped(document, loose), indent)


def _is_ours(stage: Any) -> bool:
    meta = stage.get("meta") if isinstance(stage, dict) else None
    return isinstance(meta, dict) and MARK in meta


def merge(old: Mapping[str, Any], stage: NodeStage, before: set[str]) -> dict[str, Any]:
    """What a stage is to be in dvc.yaml: ours, and what its user has added.

    Args:
        old: what it is now.
        before: paths that we have written into it.
    """
    old = _plain(old)
    made: dict[str, Any] = {"cmd": stage.cmd}
    deps = [*stage.deps, *_others(old.get("deps"), {*before, *stage.deps})]
    made["deps"] = _in_order(deps, old.get("deps"))
    params = _params(stage.params, old.get("params"), before)
    if params:
        made["params"] = params
    outs = _outs(stage, old, before)
    made.update(outs)
    if stage.always_changed:
        made["always_changed"] = True
    nodes = stage.nodes[0] if len(stage.nodes) == 1 else list(stage.nodes)
    made["meta"] = {**(old.get("meta") or {}), MARK: nodes}
    ours = {"cmd", "deps", "params", *_SECTIONS, "always_changed", "meta"}
    return {**made, **{key: value for key, value in old.items() if key not in ours}}


def _path(item: Any) -> str:
    return next(iter(item)) if isinstance(item, dict) else str(item)


def _others(items: Optional[Sequence], ours: set[str]) -> list:
    return [item for item in items or () if _path(item) not in ours]


def _in_order(items: list, old: Optional[Sequence]) -> list:
    """Items in the order that they have had; new ones follow."""
    order = {_path(item): index for index, item in enumerate(old or ())}
    return sorted(items, key=lambda item: order.get(_path(item), len(order)))


def _params(ours: Mapping[str, list[str]], old: Any, before: set[str]) -> list:
    """Keys by file; those of the user are the ones that we have not written."""
    by_file: dict[str, Optional[list[str]]] = {
        file: None if "" in keys else list(keys) for file, keys in ours.items()
    }
    plain: list[str] = []
    for item in old or ():
        if not isinstance(item, dict):
            plain.append(item)
            continue
        for file, keys in item.items():
            if keys is None and f"{file}:" not in before:
                by_file[file] = None
            have = by_file.get(file, [])
            if keys is None or have is None:
                continue
            more = [key for key in keys if f"{file}:{key}" not in before]
            more = [key for key in more if key not in have]
            if have or more:
                by_file[file] = [*have, *more]
    return [*plain, *_in_order([{file: by_file[file]} for file in by_file], old)]


def _outs(
    stage: NodeStage, old: Mapping[str, Any], before: set[str]
) -> dict[str, list]:
    """Outputs by section, with flags that the user has given them, in their section."""
    had = {
        _path(item): (section, item[_path(item)] if isinstance(item, dict) else {})
        for section in _SECTIONS
        for item in old.get(section) or ()
    }
    found: dict[str, list] = {section: [] for section in _SECTIONS}
    for section, outs in stage.outs.items():
        for path, flags in outs.items():
            place, theirs = had.get(path, (section, {}))
            place = section if section != "outs" else place
            merged = {**(theirs or {}), **flags}
            found[place].append({path: merged} if merged else path)
    ours = {*before, *stage.out_paths}
    made = {}
    for section in _SECTIONS:
        items = [*found[section], *_others(old.get(section), ours)]
        if items:
            made[section] = _in_order(items, old.get(section))
    return made


def _plain(value: Any) -> Any:
    """A value without what ruamel.yaml keeps with it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _assign(old: Any, new: Mapping[str, Any]) -> None:
    """Make a mapping equal to another; what is equal keeps its comments."""
    for key in [key for key in old if key not in new]:
        del old[key]
    place = 0
    for key, value in new.items():
        if key not in old:
            old.insert(place, key, value)
        place = list(old).index(key) + 1
        if _plain(old[key]) == value:
            continue
        if isinstance(value, dict) and isinstance(old[key], dict):
            _assign(old[key], value)
        elif isinstance(value, list) and isinstance(old[key], list):
            _assign_items(old[key], value)
        else:
            old[key] = value


def _assign_items(old: list, new: Sequence[Any]) -> None:
    for index in reversed(range(len(old))):
        if _plain(old[index]) not in new:
            del old[index]
    for index, value in enumerate(new):
        if index >= len(old) or _plain(old[index]) != value:
            old.insert(index, value)
    del old[len(new) :]


def _dumped(document: Any, like: str) -> str:
    stream = io.StringIO()
    _yaml(like).dump(document, stream)
    return stream.getvalue()


def _indent(text: str) -> str:
    match = re.match(r"[ \t]*", text)
    return match[0] if match else ""


def _indented(text: str, indent: str) -> str:
    return re.sub(r"^(?=.)", indent, text, flags=re.MULTILINE)
