"""What is said while the Dask runner waits."""

import asyncio

import pytest

pytest.importorskip("distributed", reason="needs the extra dvc-parallel[dask]")

import dask
import yaml
from dvc.exceptions import InvalidArgumentError

from dvc_parallel.engine import lock_wait
from dvc_parallel.engine.runner import Place
from dvc_parallel.remote.dask import connection
from dvc_parallel.remote.dask.dask_runner import LEASE, PATIENCE, _seconds
from tests.support.docs import blocks


def test_a_wait_is_told_again_and_again(monkeypatch):
    monkeypatch.setattr(lock_wait, "SAYS_AGAIN", 0.0)
    monkeypatch.setattr(lock_wait, "REPEATS", 0.0)
    monkeypatch.setattr(connection, "LOOK", 0.0)
    lines = []

    async def wait():
        there = asyncio.Event()

        def say(line):
            lines.append(line)
            if len(lines) == 3:
                there.set()

        monkeypatch.setattr(lock_wait, "say", say)
        return await connection.told(there.wait(), "a worker")

    assert asyncio.run(wait())
    assert lines[:3] == [
        "Waiting for a worker",
        *["Still waiting for a worker (for 0 s)"] * 2,
    ]


def test_what_is_waited_for_ends_with_the_wait():
    async def cancel():
        never = asyncio.get_running_loop().create_future()
        wait = asyncio.ensure_future(connection.told(never, "it"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        return never

    assert asyncio.run(cancel()).cancelled()


def test_an_error_ends_it():
    async def fail():
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(OSError("no"))
        await connection.told(failed, "it")

    with pytest.raises(OSError, match="no"):
        asyncio.run(fail())


@pytest.mark.parametrize(
    "place, text",
    [
        (Place(), "a worker"),
        (Place(("lab-*", "big")), "a worker named lab-* or big"),
        (Place((), {"gpu": 1.0, "mem": 2.5}), "a worker with gpu=1, mem=2.5"),
    ],
)
def test_workers_are_told_by_what_they_have_to_have(place, text):
    assert str(place) == text


def test_times_come_from_the_settings_of_dask(monkeypatch):
    assert _seconds(*LEASE) == 60
    assert _seconds(*PATIENCE) == 300
    (block,) = (b for b in blocks("docs/cluster.md", "yaml") if "lease:" in b.text)
    with dask.config.set(yaml.safe_load(block.text)):
        assert _seconds(*LEASE) == 12 * 3600
        assert _seconds(*PATIENCE) == 1800


@pytest.mark.parametrize("value", ["", "soon", "-1s", "0", None, [3]])
def test_a_time_that_is_none(value):
    with dask.config.set({"dvc-parallel.lease": value}):
        with pytest.raises(InvalidArgumentError, match="DASK_DVC_PARALLEL__LEASE: exp"):
            _seconds(*LEASE)
