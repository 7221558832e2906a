"""Entries of dvc.lock and of the run cache, checked by their shapes.

DVC's schema takes long for each dependency and output.  Nearly all of them have the
same keys, and values of the same types: to have found one of these right is enough.
"""

import re
from typing import Any, Callable, Optional

from dvc.dvcfile import is_lock_file

Shape = tuple[Any, ...]

# Of what a dependency or output has in an entry
_TYPES = {"path": str, "hash": str, "md5": str, "size": int, "isexec": bool}
_TYPES["nfiles"] = int
_MD5 = re.compile(r"[0-9a-f]{32}(?:\.dir)?")
_ROWS = ("deps", "outs")
# Those that DVC's schema, the same in all of a process, has found right.
_RIGHT: set[Shape] = set()


def check_entry(original: Callable, entry: Any) -> Any:
    """``COMPILED_LOCK_FILE_STAGE_SCHEMA``: see that an entry is one."""
    shapes = _shapes_of(entry)
    if shapes is None:
        return original(entry)
    if not shapes <= _RIGHT:
        checked = original(entry)
        if checked == entry:
            _RIGHT.update(shapes)
        return checked
    if _is_usual(entry):
        return {**entry}
    rows = {key: entry[key] for key in _ROWS if key in entry}
    return {**original({**entry, **{key: [] for key in rows}}), **rows}


def validate(
    original: Callable,
    data: Any,
    schema: Callable,
    text: Optional[str] = None,
    path: Optional[str] = None,
    rev: Optional[str] = None,
) -> Any:
    """``dvc.utils.strictyaml.validate``: see that what is in a file is right.

    Raises:
        YAMLValidationError: as ``original`` does.
    """
    stages = data.get("stages") if type(data) is dict else None
    # NOTE: only where DVC reads a file, it does not use what is returned
    if text is None or not is_lock_file(path or "") or type(stages) is not dict:
        return original(data, schema, text, path, rev)
    new: set[Shape] = set()
    left = {}
    for name, entry in stages.items():
        is_usual = type(name) is str and type(entry) is dict and _is_usual(entry)
        shapes = _shapes_of(entry) if is_usual else None
        if shapes is None or not shapes <= _RIGHT | new:
            left[name] = entry
            new |= shapes or set()
    some = {**data, "stages": left}
    try:
        is_same = original(some, schema, text, path, rev) == some
    except Exception:  # noqa: BLE001
        return original(data, schema, text, path, rev)
    if not is_same:
        return original(data, schema, text, path, rev)
    _RIGHT.update(new)
    return data


def _is_usual(entry: dict[Any, Any]) -> bool:
    """Whether nothing but the shapes of its rows can be wrong in an entry."""
    return type(entry.get("cmd")) is str and entry.keys() <= {"cmd", *_ROWS}


def _shapes_of(entry: Any) -> Optional[set[Shape]]:
    """Shapes of the rows of an entry; None if more than these can be wrong."""
    if not isinstance(entry, dict):
        return None
    rows = [entry.get(key, []) for key in _ROWS]
    if any(type(part) is not list for part in rows):
        return None
    shapes = {_shape_of(row) for part in rows for row in part}
    return None if () in shapes else shapes


def _shape_of(row: Any) -> Shape:
    """Keys and types of a row where no more than these can be wrong; else nothing."""
    if type(row) is not dict or not row.keys() <= _TYPES.keys():
        return ()
    types = tuple(map(type, row.values()))
    if types != tuple(map(_TYPES.get, row)) or not _MD5.fullmatch(row.get("md5", "")):
        return ()
    return (*row, *types)
