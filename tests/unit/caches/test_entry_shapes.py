from copy import deepcopy
from functools import partial

import pytest
from dvc.dvcfile import Lockfile
from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA as SCHEMA
from dvc.utils import strictyaml
from voluptuous import Invalid

from dvc_parallel.caches import entry_shapes
from dvc_parallel.caches.entry_shapes import check_entry, validate

# NOTE: before DVC 3.0, "hash" is not known
RIGHT = {"path": "a", "md5": "0" * 32, "size": 1}


@pytest.mark.parametrize(
    "dep",
    [
        RIGHT,
        {**RIGHT, "isexec": True},
        {**RIGHT, "hash": "md5"},
        {**RIGHT, "md5": "0" * 32 + ".dir", "nfiles": 1},
        {**RIGHT, "md5": "A" * 32},
        {**RIGHT, "md5": "a"},
        {**RIGHT, "md5": None},
        {**RIGHT, "md5": 12345},
        {**RIGHT, "size": "1"},
        {**RIGHT, "size": True},
        {**RIGHT, "hash": 1},
        {**RIGHT, "path": 1},
        {**RIGHT, "other": 1},
        {"path": "a"},
        {"md5": "0" * 32},
        "a",
    ],
)
@pytest.mark.parametrize("more", [{}, {"cmd": 1}, {"outs": [{"path": 1}]}, {"x": 1}])
def test_entries_are_as_the_schema_has_them(dep, more):
    def outcome(check):
        try:
            return check({"cmd": "s", "deps": [RIGHT, dep], **more})
        except Invalid as exc:
            return type(exc)

    assert outcome(partial(check_entry, SCHEMA)) == outcome(SCHEMA)
    for deps in (None, {}, "a"):
        more = {**more, "deps": deps}
        assert outcome(partial(check_entry, SCHEMA)) == outcome(SCHEMA)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(entry_shapes, "_RIGHT", set())


def test_the_schema_is_asked_once_for_each_shape(mocker):
    original = mocker.Mock(side_effect=SCHEMA)
    for number in range(3):
        row = {**RIGHT, "path": str(number)}
        assert check_entry(original, {"cmd": "a", "deps": [row]})
    assert original.call_count == 1


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        dict.copy,
        lambda data: data.update(schema="1.0"),
        lambda data: data.pop("schema"),
        lambda data: data.update(other=1),
        lambda data: data.update(stages=[]),
        lambda data: data["stages"].update(c={"deps": [RIGHT]}),
        lambda data: data["stages"].update({1: {"cmd": "a", "deps": [RIGHT]}}),
        lambda data: data["stages"].update(c={"cmd": 1, "deps": [RIGHT]}),
        lambda data: data["stages"].update(c=[]),
        lambda data: data["stages"].update(c={"cmd": ["a"], "x": 1}),
        lambda data: data["stages"].update(c={"cmd": "a", "params": {"p": {"k": [1]}}}),
        lambda data: data["stages"].update(c={"cmd": "a", "params": {"p": 1}}),
        lambda data: data["stages"]["b"]["deps"].append({**RIGHT, "size": "1"}),
        lambda data: data["stages"]["b"]["deps"].append({**RIGHT, "md5": "A" * 32}),
        lambda data: data["stages"]["b"]["outs"].append({"path": 1}),
        lambda data: data["stages"]["b"]["outs"].append({**RIGHT, "x": 1}),
        lambda data: data["stages"]["b"].update(outs={"a": 1}),
    ],
)
def test_a_lock_file_is_as_the_schema_has_it(change, known, tmp_path):
    entries = {name: {"cmd": name, "deps": [RIGHT], "outs": [RIGHT]} for name in "ab"}
    data = deepcopy({"schema": "2.0", "stages": entries})
    args = Lockfile.SCHEMA, "text", str(tmp_path / "dvc.lock")
    if known:
        validate(strictyaml.validate, data, *args)
    change(data)

    def outcome(check):
        try:
            check(deepcopy(data), *args)
        except strictyaml.YAMLValidationError as exc:
            return str(exc.exc)
        return None

    for _ in range(2):
        assert outcome(partial(validate, strictyaml.validate)) == (
            outcome(strictyaml.validate)
        )


def test_other_files_are_for_dvc(mocker):
    original = mocker.Mock(return_value="checked")
    data = {"stages": {"a": {"cmd": "a"}}}
    assert validate(original, data, "schema", "text", "dvc.yaml") == "checked"
    assert validate(original, data, "schema", None, "dvc.lock") == "checked"
    assert validate(original, data, "schema") == "checked"
