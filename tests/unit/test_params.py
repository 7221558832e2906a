import os
import time

import pytest
from dvc.fs import localfs
from dvc.utils.serialize import load_path

from dvc_parallel.params import ParamsFiles


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "params.yaml"

    def write(text, age=10.0):
        path.write_text(text)
        seconds = time.time() - age
        os.utime(path, (seconds, seconds))

    write("a: {b: 1}")
    return write


@pytest.fixture
def original(mocker):
    return mocker.Mock(side_effect=load_path)


@pytest.fixture
def ask(tmp_path, original):
    files = ParamsFiles()
    return lambda: files.load_path(original, str(tmp_path / "params.yaml"), localfs)


def test_a_file_is_read_once(params, ask, original):
    for _ in range(3):
        assert ask() == {"a": {"b": 1}}
    assert original.call_count == 1


def test_a_file_that_changes_is_read_again(params, ask, original):
    ask()
    params("a: {b: 2}", age=5)
    assert ask() == {"a": {"b": 2}}
    os.utime(original.call_args[0][0], (1, 1))
    ask()
    ask()
    assert original.call_count == 3


def test_a_file_that_was_just_written_is_not_trusted(params, ask, original):
    params("a: {b: 1}", age=-3600)
    ask()
    ask()
    assert original.call_count == 2


def test_errors_are_dvcs(tmp_path, params, ask):
    ask()
    params("a: [")
    with pytest.raises(Exception, match="unable to read"):
        ask()
    (tmp_path / "params.yaml").unlink()
    with pytest.raises(FileNotFoundError):
        ask()
    params("a: {b: 1}")
    assert ask() == {"a": {"b": 1}}
