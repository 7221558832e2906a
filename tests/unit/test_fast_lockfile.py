"""FastLockfileText: what LockfileText does, and that ruamel.yaml is seldom needed."""

import pytest
from dvc.utils.serialize._yaml import parse_yaml

from dvc_parallel import fast_lockfile, lockfile_text, simple_yaml
from dvc_parallel.fast_lockfile import FastLockfileText
from dvc_parallel.lockfile_text import UnstableEntryError

from . import test_lockfile_text
from .test_lockfile_text import *  # noqa: F403
from .test_lockfile_text import ENTRY, LOCK, dvc_put


@pytest.fixture(autouse=True)
def the_same_tests(mocker):
    """Have the tests of LockfileText, which are in this module as well, try this."""
    mocker.patch.object(test_lockfile_text, "LockfileText", FastLockfileText)
    original = test_lockfile_text.check_contents

    def check_contents(lock, text):
        original(lock, text)
        assert repr(lock.load()) == repr(parse_yaml(text, "dvc.lock"))

    mocker.patch.object(test_lockfile_text, "check_contents", check_contents)


@pytest.fixture
def no_ruamel(mocker):
    for module in (lockfile_text, fast_lockfile):
        mocker.patch.object(module, "parse_yaml_for_update", side_effect=Exception)
        mocker.patch.object(module, "dumps_yaml", side_effect=Exception)


def test_load_of_no_file():
    assert FastLockfileText.parse("").load() == parse_yaml("", "dvc.lock") == {}


def test_keys_that_are_no_strings_are_left_to_dvc():
    lock = FastLockfileText.parse(LOCK)
    with pytest.raises(UnstableEntryError):
        lock.put("a", {1: 2})


def test_simple_forms_need_no_round_trip(no_ruamel):
    lock = FastLockfileText.parse(LOCK)
    options = 20 * " --long-option"
    lock.put("wide", {**ENTRY, "cmd": f"python train.py{options}"})
    assert "\n      --long-option" in str(lock)
    lock.put("new", ENTRY, before="prepare")
    for name in list(lock):
        lock.put(name, lock.get(name))
    lock.put("new", lock.get("train@lr-0.1"))
    assert lock.get("new") == lock.get("train@lr-0.1")


def test_long_lines_are_ruamels_if_it_folds_in_another_way(mocker):
    entry = {**ENTRY, "cmd": "python train.py" + 20 * " --long-option"}
    expected = dvc_put(LOCK, "new", entry)

    def fold_later(head, text, indent):
        return [f"{head} {text[:200]}", " " * indent + text[201:]]

    mocker.patch.object(simple_yaml, "_fold_long", fold_later)
    simple_yaml._folds_as_ruamel.cache_clear()
    try:
        assert not simple_yaml._folds_as_ruamel()
        lock = FastLockfileText.parse(LOCK)
        lock.put("new", entry)
        assert str(lock) == expected
        assert FastLockfileText.parse(expected).get("new") == entry
    finally:
        simple_yaml._folds_as_ruamel.cache_clear()


def test_round_trip_of_a_field_is_made_once(mocker):
    entry = {"cmd": "a: b " + 80 * "c "}
    text = dvc_put(LOCK, "new", entry)
    assert FastLockfileText.parse(text)
    mocker.patch.object(lockfile_text, "parse_yaml_for_update", side_effect=Exception)
    mocker.patch.object(fast_lockfile, "parse_yaml_for_update", side_effect=Exception)
    lock = FastLockfileText.parse(text)
    lock.put("other", entry)
    assert str(lock).count("cmd: 'a: b") == 2


def test_a_read_that_fails_leaves_nothing(tmp_path, mocker):
    path = tmp_path / "dvc.lock"
    path.write_text(LOCK)
    lockfiles = fast_lockfile.FastLockfiles(str(tmp_path))
    name = next(iter(parse_yaml(LOCK, "dvc.lock")["stages"]))
    before = lockfiles.entry(str(path), name)
    assert before
    path.write_text("schema: '2.0'\nstages:\n")
    failing = mocker.patch("builtins.open", side_effect=PermissionError("no"))
    for _ in range(2):
        with pytest.raises(PermissionError):
            lockfiles.entry(str(path), name)
    mocker.stop(failing)
    assert lockfiles.entry(str(path), name) is None
    path.write_text(LOCK)
    assert lockfiles.entry(str(path), name) == before
