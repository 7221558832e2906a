import builtins
import re
import sys
from pathlib import Path

import pytest
from dvc.exceptions import InvalidArgumentError

from dvc_parallel.engine.runner import RunnerError, RunnerOptions
from dvc_parallel.remote.choose_runner import (
    NEEDS_DASK,
    check_runner,
    connect,
    parse_runner,
)
from dvc_parallel.remote.dask.work import portable
from tests.support.registered_runners import install_runner


@pytest.mark.parametrize(
    "text",
    [
        "local",
        "dask",
        "dask://localhost:8786",
        "dask://10.0.0.1:1",
        "dask://[::1]:8786",
        "tls://scheduler.example.com:8786",
        "dask:cluster.make",
        "dask:lab.clusters.slurm",
    ],
)
def test_runners(text):
    assert parse_runner(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Dask",
        "dask:",
        "dask://",
        "dask://host",
        "dask://host:0",
        "dask://host:65536",
        "dask://host:port",
        "dask://ho st:1",
        "dask://user@host/1:1",
        "tcp://host:8786",
        "dask:module",
        "dask:module.",
        "dask:1.x",
        "dask:module.function()",
    ],
)
def test_what_is_none(text):
    with pytest.raises(ValueError, match="expected 'local', 'dask'") as exc:
        parse_runner(text)
    assert f"got '{text}'" in str(exc.value)


@pytest.mark.parametrize("text", ["other", "other:address", "a.b-c_d:1 2"])
def test_the_config_may_name_one_that_is_not_installed_here(text):
    """Or else each command of DVC would fail, that to change the config included."""
    assert check_runner(text) == text
    with pytest.raises(ValueError, match="no package has registered any"):
        parse_runner(text)


@pytest.mark.parametrize("text", ["", "1", "other:", "other: ", "tls", "local:1"])
def test_what_none_can_be_called(text):
    with pytest.raises(ValueError, match="expected 'local', 'dask'"):
        check_runner(text)


@pytest.mark.parametrize(
    "code, error",
    [
        ("def open_runner(options): return options.jobs", "expected a Runner, got 3"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("", "AttributeError: "),
        ("def open_runner(options): 1 / 0", "ZeroDivisionError: "),
    ],
)
def test_a_registered_one_that_is_broken(tmp_path, monkeypatch, code, error):
    install_runner(tmp_path, "broken", code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "dvc_broken", raising=False)
    assert parse_runner("broken:x") == "broken:x"
    with pytest.raises(RunnerError) as exc:
        connect("broken:x", str(tmp_path), str(tmp_path), 3)
    assert str(exc.value).startswith("runner 'broken:x': ")
    assert error in str(exc.value)


def test_what_is_first_on_the_path_wins(tmp_path, monkeypatch):
    code = """
def open_runner(options):
    raise ValueError((__file__, options))
"""
    for name in ("second", "first"):
        install_runner(tmp_path / name, "twice", code)
        monkeypatch.syspath_prepend(tmp_path / name)
    monkeypatch.delitem(sys.modules, "dvc_twice", raising=False)
    with pytest.raises(RunnerError) as exc:
        connect("twice:a:b", "root", "tmp", 3)
    assert str(tmp_path / "first" / "dvc_twice.py") in str(exc.value)
    assert repr(RunnerOptions("twice:a:b", "a:b", "root", "tmp", 3)) in str(exc.value)


def test_without_the_extra(monkeypatch, tmp_path):
    real = builtins.__import__

    def without_dask(name, *args):
        if name == "distributed":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_dask)
    with pytest.raises(InvalidArgumentError, match="pip install 'distributed>="):
        connect("dask", str(tmp_path), str(tmp_path), 1)


def test_variables_of_a_machine_stay_there(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("TMPDIR", "/scratch/1")
    env = {
        "CUDA_VISIBLE_DEVICES": "1",  # the slot that the run has given to a stage
        "SLURM_JOB_ID": "1",
        "TMPDIR": "/scratch/1",
        "PATH": "/bin",
    }
    assert portable(env) == {"CUDA_VISIBLE_DEVICES": "1", "PATH": "/bin"}


def test_what_is_to_be_installed_for_dask():
    """By a spelling that needs no index which has this package."""
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    (requirement,) = re.findall(r'^dask = \["(.+)"\]$', project, re.MULTILINE)
    assert NEEDS_DASK.endswith(f"pip install '{requirement}'")
