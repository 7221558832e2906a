"""Messages as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import pytest
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from dvc_parallel.remote.clones.requests import Leaf, Result
from dvc_parallel.remote.typed import MalformedError, plain, typed


@dataclass(frozen=True)
class One:
    name: str
    size: int = 0
    share: float = 1.0


@dataclass(frozen=True)
class Other:
    data: bytes


@dataclass(frozen=True)
class All:
    items: tuple[tuple[int, Union[One, Other]], ...] = ()
    names: frozenset[str] = frozenset()
    sizes: Mapping[str, int] = field(default_factory=dict)
    anything: Any = None
    maybe: Optional[One] = None


FULL = All(
    ((1, One("a")), (2, Other(b"b"))), frozenset("xy"), {"x": 3}, {"k": [1]}, One("c")
)


@pytest.mark.parametrize("message", [All(), FULL])
def test_there_and_back(message):
    assert typed(All, plain(message)) == message


def test_a_result_with_what_yaml_makes():
    entry = CommentedMap({"cmd": DoubleQuotedScalarString("x"), "outs": [{"size": 3}]})
    result = Result(entry, (Leaf("a", 0o100644, b"x"),), ("cmd", 3))
    data = plain(result)
    assert type(data["entry"]) is dict
    assert type(data["entry"]["cmd"]) is str
    assert typed(Result, data) == result


@pytest.mark.parametrize(
    "change",
    [
        {"items": 3},
        {"items": [[1]]},
        {"items": [[1, {"name": "a"}]]},
        {"items": [["1", {"data": b""}]]},
        {"names": [1]},
        {"names": "xy"},
        {"sizes": {"x": True}},
        {"sizes": []},
        {"maybe": {"name": "a", "size": 1.5, "share": 1}},
        {"maybe": {"name": "a", "size": 1, "share": 1, "more": 1}},
        {"more": 1},
    ],
)
def test_what_is_refused(change):
    with pytest.raises(MalformedError, match="expected"):
        typed(All, {**plain(FULL), **change})


@pytest.mark.parametrize("data", [None, 1, "x", [], {}, b""])
def test_what_is_no_message(data):
    with pytest.raises(MalformedError):
        typed(All, data)


def test_other_objects_are_no_plain_data():
    with pytest.raises(TypeError, match="no plain data"):
        plain(All(anything=object()))
