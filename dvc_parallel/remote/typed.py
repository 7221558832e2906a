"""Messages of dataclasses as plain data, which can do nothing where they are read.

What comes from another machine is a stranger's.  A pickle would run what it says; plain
data becomes what is declared here, or is refused.
"""

from collections import abc
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class MalformedError(ValueError):
    """What was sent is not what was to be sent."""


def plain(value: Any) -> Any:
    """A message in dicts, lists, strings, bytes, numbers, booleans and None.

    Raises:
        TypeError: there is something else in it.
    """
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    kinds: tuple[Any, ...] = (str, bytes, int, float)
    for kind in kinds:
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"{value!r} is no plain data")


def typed(kind: type[T], data: Any) -> T:
    """A message, from what :func:`plain` has made of it.

    Raises:
        MalformedError: it is none of that kind.
    """
    return _as(kind, data)


def _as(kind: Any, data: Any) -> Any:
    hints = _hints(kind) if hasattr(kind, "__dataclass_fields__") else None
    if kind is Any or type(data) is kind or (kind is float and type(data) is int):
        return data
    if get_origin(kind) is Union:
        for one in get_args(kind):
            with suppress(MalformedError):
                return _as(one, data)
    elif isinstance(data, Mapping):
        if hints and {*data} == {*hints}:
            return kind(**{name: _as(hints[name], item) for name, item in data.items()})
        if get_origin(kind) is abc.Mapping:
            key, item = get_args(kind)
            return {_as(key, k): _as(item, v) for k, v in data.items()}
    elif isinstance(data, (list, tuple)) and get_origin(kind) in (tuple, frozenset):
        return _several(get_origin(kind), get_args(kind), data)
    raise MalformedError(f"expected {kind}, got {str(data)[:100]!r}")


def _several(origin: Any, kinds: tuple[Any, ...], data: Sequence[Any]) -> Any:
    if origin is frozenset or kinds[1:] == (...,):
        kinds = kinds[:1] * len(data)
    if len(kinds) != len(data):
        raise MalformedError(f"expected {len(kinds)} values, got {len(data)}")
    return origin(map(_as, kinds, data))


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)
