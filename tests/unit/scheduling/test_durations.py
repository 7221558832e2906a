import os

import pytest

from dvc_parallel.scheduling.durations import Durations

PATH = ("parallel", "durations.json")


@pytest.fixture
def durations(tmp_path):
    return Durations(str(tmp_path))


def test_what_is_saved_is_added_to_what_is_known(durations):
    assert durations.load() == {}
    durations.save({"a": 1.23456, "b": 2})
    durations.save({"b": 3, "c": 0})
    assert durations.load() == {"a": 1.235, "b": 3, "c": 0}


def test_damage_at_every_byte(durations, tmp_path):
    durations.save({"a": 1.5, "b": 20.25})
    path = tmp_path.joinpath(*PATH)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert durations.load() == {}
        path.write_bytes(whole[:length] + b"\xff" + whole[length + 1 :])
        durations.load()
    durations.save({"a": 2})
    assert durations.load()["a"] == 2


@pytest.mark.parametrize(
    "text", ["[]", "1", '"x"', "null", '{"a": "1", "b": -1, "c": true, "d": NaN}']
)
def test_other_data_is_left_out(durations, tmp_path, text):
    path = tmp_path.joinpath(*PATH)
    path.parent.mkdir()
    path.write_text(text)
    assert durations.load() == {}


def test_nothing_to_save_makes_no_file(durations, tmp_path):
    durations.save({})
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "parallel").write_text("in the way")
    durations = Durations(str(tmp_path))
    durations.save({"a": 1})
    assert durations.load() == {}
