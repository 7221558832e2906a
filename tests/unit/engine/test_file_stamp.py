import os

import pytest

from dvc_parallel.engine import file_stamp
from dvc_parallel.engine.file_stamp import is_settled, signature_of


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_text("a")
    os.utime(path, (1, 1))
    return path


def replaced_by_an_editor(path):
    other = path.with_name("other")
    other.write_text("b")
    os.utime(other, (1, 1))
    os.replace(other, path)


def written_over_with_its_times_kept(path):
    # NOTE: as `cp --preserve` does; by now the clock has ticked, at the latest
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.write_text("b")
        os.utime(path, (1, 1))


@pytest.mark.parametrize(
    "change", [replaced_by_an_editor, written_over_with_its_times_kept]
)
def test_same_size_and_same_time(path, change):
    before = signature_of(str(path))
    change(path)
    assert signature_of(str(path)) != before


def test_no_file(tmp_path):
    assert signature_of(str(tmp_path / "none")) is None


def test_settled_once_it_was_left_alone(path, monkeypatch):
    found = signature_of(str(path))
    assert not is_settled(found)  # though its time says so
    changed = path.stat().st_ctime_ns
    monkeypatch.setattr("time.time_ns", lambda: changed + file_stamp.SETTLED + 1)
    assert is_settled(found)
    os.utime(path, (2**32, 2**32))
    assert not is_settled(signature_of(str(path)))
