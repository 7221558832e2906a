import os
from functools import partial

import pytest
from dvc.dependency import param
from dvc.fs import localfs
from dvc.utils.serialize import load_path

from dvc_parallel.caches.params import ParamsFiles

if not hasattr(param, "read_param_file"):
    pytest.skip("DVC before 3.20.0 reads params otherwise", allow_module_level=True)


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "params.yaml"

    def write(text, time=1):
        path.write_text(text)
        os.utime(path, (time, time))

    write("a: {b: 1}")
    return write


@pytest.fixture
def original(mocker):
    return mocker.Mock(side_effect=load_path)


@pytest.fixture
def files():
    return ParamsFiles()


@pytest.fixture
def ask(tmp_path, original, files):
    return lambda: files.load_path(original, str(tmp_path / "params.yaml"), localfs)


@pytest.fixture
def find(tmp_path, original, files, mocker):
    """Ask for some params; the mock counts how often they have been looked for."""
    load = partial(files.load_path, original)
    mocker.patch("dvc.dependency.param.load_path", load)
    look = mocker.Mock(side_effect=param.read_param_file)

    def find(*keys, flatten=True, **kwargs):
        path = str(tmp_path / "params.yaml")
        return files.read_param_file(look, localfs, path, [*keys], flatten, **kwargs)

    find.look = look
    return find


@pytest.mark.usefixtures("time_passes")
def test_a_file_is_read_once(params, ask, original):
    for _ in range(3):
        assert ask() == {"a": {"b": 1}}
    assert original.call_count == 1


@pytest.mark.usefixtures("time_passes")
def test_a_file_that_changes_is_read_again(params, ask, original):
    ask()
    params("a: {b: 2}", time=2)
    assert ask() == {"a": {"b": 2}}
    os.utime(original.call_args[0][0], (3, 3))
    ask()
    ask()
    assert original.call_count == 3


@pytest.mark.parametrize("time", [1, 2**32])
def test_a_file_that_was_just_written_is_not_trusted(params, ask, original, time):
    params("a: {b: 1}", time)
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


@pytest.mark.usefixtures("time_passes")
def test_params_are_looked_for_once(params, find):
    for _ in range(2):
        assert find("a.b", "c") == {"a.b": 1}
        assert find("a", flatten=True) == {"a": {"b": 1}}
        assert find("a.b", flatten=False) == {"a": {"b": 1}}
        assert find() == {"a": {"b": 1}}
    assert find.look.call_count == 4


def test_params_that_change_are_looked_for_again(params, find):
    for value in range(5):
        params(f"a: {{b: {value}}}")
        assert find("a.b") == {"a.b": value}


def test_params_are_ones_own(params, find):
    for _ in range(3):
        found = find("a")
        assert found == {"a": {"b": 1}}
        found["a"]["b"] = 2


@pytest.mark.usefixtures("time_passes")
def test_a_read_that_fails_leaves_nothing(params, ask, find, original):
    assert find("a.b") == {"a.b": 1}
    params("a: {b: 2}")
    original.side_effect = PermissionError("no")
    for _ in range(2):
        with pytest.raises(PermissionError):
            ask()
        with pytest.raises(PermissionError):
            find("a.b")
    original.side_effect = load_path
    assert ask() == {"a": {"b": 2}}
    assert find("a.b") == {"a.b": 2}
