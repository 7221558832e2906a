import builtins

import pytest
from dvc.exceptions import InvalidArgumentError

from dvc_parallel.remote.choose_runner import connect, parse_runner
from dvc_parallel.remote.dask.work import portable


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


def test_without_the_extra(monkeypatch, tmp_path):
    real = builtins.__import__

    def without_dask(name, *args):
        if name == "distributed":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_dask)
    with pytest.raises(InvalidArgumentError, match=r"pip install 'dvc-parallel\[dask"):
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
