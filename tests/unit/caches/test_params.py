import os
from contextlib import suppress
from functools import partial
from itertools import product

import pytest
from dpath.exceptions import InvalidKeyName
from dvc.dependency import param
from dvc.fs import localfs
from dvc.utils.serialize import load_path

from dvc_parallel.caches.params import ParamsFiles
from dvc_parallel.engine import file_stamp

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
    assert find.look.call_count == 3  # "a" is found without DVC


@pytest.mark.usefixtures("time_passes")
def test_dvc_goes_through_a_file_once(params, find, mocker):
    params("a: {b: 1, c.d: 2}\nx: [1, 2]")
    assert find("a.b") == {"a.b": 1}
    mocker.patch.object(param.dpath, "get", side_effect=AssertionError)
    assert find("a", "x", "a.c.d", "x.y") == {"a": {"b": 1, "c.d": 2}, "x": [1, 2]}


LEAVES = {"a": 1, "a*": 2, "ab": 3, "True": 4, "1": 5, "é": 6, "_1": 7, "x.y": 8}
TREES = [
    {**LEAVES, "b": LEAVES, "c": [LEAVES, [1], 2], "d": {"a": {"b": LEAVES}}},
    {True: {"a": 1}, "a": {1: 2, None: 3, 1.5: 4}, 2: {"b": 5}, "b": {False: 6}},
    {"a": {True: 1, "True": 2}, "b": [[{"a": 1}], "a"]},
    {"a": 1, "b": {"c": [{"": 1}]}},
    *([{"a": 1}], "a", None),
]
SEGMENTS = (
    *("a", "b", "c", "d", "ab", "a*", "?", "[a]", "[!b]", "*", "**", "é", "x", "_1"),
    *("", "/", "True", "False", "None", "0", "1", "-1", "01", " 1", "1.5", "²"),
)


@pytest.mark.parametrize("data", TREES)
def test_params_are_what_dvc_finds(tmp_path, monkeypatch, data):
    path = tmp_path / "params.yaml"
    path.touch()
    files = ParamsFiles()

    def outcome(read, key_path):
        try:
            return repr(read(localfs, str(path), [key_path, "a"], flatten=True))
        except Exception as exc:  # noqa: BLE001
            return repr(exc)

    monkeypatch.setattr(file_stamp, "SETTLED", -(10**18))
    load = partial(files.load_path, lambda *_: data)
    monkeypatch.setattr(param, "load_path", load)
    read = partial(files.read_param_file, param.read_param_file)
    with suppress(InvalidKeyName):
        read(localfs, str(path), ["a"], flatten=True)
    for size in (1, 2, 3):
        for segments in product(SEGMENTS[: 99 // size**2], repeat=size):
            key_path = ".".join(segments)
            expected = outcome(param.read_param_file, key_path)
            assert outcome(read, key_path) == expected


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
