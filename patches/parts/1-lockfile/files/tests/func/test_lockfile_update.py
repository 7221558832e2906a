import os

import pytest

from dvc.dvcfile import LOCK_FILE
from dvc.exceptions import ReproductionError
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

COMMENT = "# comment\n"


@pytest.fixture
def add(tmp_dir, dvc):
    def add(name, text):
        cmd = f"echo {text}>{name}"
        dvc.stage.add(name=name, cmd=cmd, outs=[name], force=True)

    return add


def test_is_what_a_round_trip_leaves(tmp_dir, dvc, add):
    for text in ("1", "'a: b # c'", "é " * 60, "2"):
        for name in ("foo", "bar"):
            add(name, text)
        assert len(dvc.reproduce()) == 2
        lock = (tmp_dir / LOCK_FILE).read_text(encoding="utf-8")
        assert dumps_yaml(parse_yaml_for_update(lock, LOCK_FILE)) == lock
        assert list((tmp_dir / LOCK_FILE).parse()["stages"]) == ["foo", "bar"]
        assert dvc.reproduce() == []


def test_comments_stay(tmp_dir, dvc, add):
    add("foo", "1")
    dvc.reproduce()
    lock = (tmp_dir / LOCK_FILE).read_text()
    (tmp_dir / LOCK_FILE).write_text(COMMENT + lock)

    add("bar", "1")
    dvc.reproduce()
    new = (tmp_dir / LOCK_FILE).read_text()
    assert new.startswith(COMMENT + lock)
    assert "  bar:\n" in new


def test_edits_of_others_are_seen(tmp_dir, dvc, add):
    add("foo", "1")
    add("bar", "1")
    dvc.reproduce()
    lock = (tmp_dir / LOCK_FILE).parse()
    del lock["stages"]["foo"]
    (tmp_dir / LOCK_FILE).dump(lock)

    add("bar", "2")
    dvc.reproduce("bar")
    assert list((tmp_dir / LOCK_FILE).parse()["stages"]) == ["bar"]


def test_is_whole_if_it_cannot_be_replaced(tmp_dir, dvc, add, mocker):
    add("foo", "1")
    dvc.reproduce()
    before = (tmp_dir / LOCK_FILE).read_text()

    add("foo", "2")
    replace = os.replace

    def fail(src, dst):
        if dst.endswith(LOCK_FILE):
            raise OSError("disk is full")
        replace(src, dst)

    mocker.patch("os.replace", side_effect=fail)
    with pytest.raises(ReproductionError) as exc_info:
        dvc.reproduce()
    assert str(exc_info.value.__cause__) == "disk is full"
    assert (tmp_dir / LOCK_FILE).read_text() == before
    assert not [name for name in os.listdir(dvc.tmp_dir) if name.endswith(".tmp")]
