"""What `auto` finds on a machine, with an nvidia-smi that says what a test wants."""

import sys

import pytest

from dvc_parallel.scheduling import auto_pools
from dvc_parallel.scheduling.auto_pools import gpus, machine_sizes
from dvc_parallel.scheduling.pools import Size, parse_pools

if sys.platform == "win32":
    pytest.skip("the stand-in is a shell script", allow_module_level=True)

# As of driver 535, with the second GPU split into two.
TWO = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-0f1f0a2c-0001-4111-8888-000000000001)
"""
SPLIT = f"""\
{TWO}\
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
"""
MIG = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"
BOTH_MIG = (MIG, "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    for name in (auto_pools.CUDA, auto_pools.NVIDIA):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Have an nvidia-smi that lists something, and notes that it was asked."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    def make(text, status=0):
        path = tmp_path / "nvidia-smi"
        asked = tmp_path / "asked"
        path.write_text(
            f"#!/bin/sh\necho $@ >> {asked}\ncat <<'EOF'\n{text}EOF\nexit {status}\n"
        )
        path.chmod(0o755)
        return asked

    return make


@pytest.mark.parametrize(
    "text, names",
    [
        (TWO, ("0", "1")),
        (SPLIT, ("0", *BOTH_MIG)),
        ("", ()),
        ("No devices found.\n", ()),
    ],
)
def test_gpus_are_those_listed(nvidia_smi, text, names):
    assert nvidia_smi(text)
    assert gpus() == names


def test_nobody_to_tell_of_gpus(monkeypatch, tmp_path, nvidia_smi, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() is None
    assert auto_pools.GPU not in machine_sizes()
    assert not caplog.text
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    nvidia_smi("", status=9)
    assert gpus() is None
    assert "cannot tell which GPUs there are" in caplog.text


@pytest.mark.parametrize(
    "granted, names",
    [
        ("all", ("0", "1")),
        ("none", ()),
        ("void", ()),
        ("", ()),
        ("1", ("1",)),
        ("1,0", ("1", "0")),
        ("GPU-0f1f0a2c-0001-4111-8888-000000000001", ("1",)),
        ("4,7", ("0", "1")),  # the numbers outside of the container
    ],
)
def test_what_a_container_was_given(nvidia_smi, monkeypatch, granted, names):
    nvidia_smi(TWO)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", granted)
    assert gpus() == names


def test_a_mig_device_of_a_container(nvidia_smi, monkeypatch):
    nvidia_smi(SPLIT)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", MIG)
    assert gpus() == (MIG,)


@pytest.mark.parametrize(
    "visible, names",
    [
        ("1", ("1",)),
        ("3, 2", ("3", "2")),
        (MIG, (MIG,)),
        ("MIG-GPU-5d5ba0d6/1/0", ("MIG-GPU-5d5ba0d6/1/0",)),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", ("0",)),
        ("NoDevFiles", ()),
        ("0,0", ("0",)),
    ],
)
def test_what_programs_see(nvidia_smi, monkeypatch, visible, names):
    asked = nvidia_smi(TWO)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "all")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == names
    assert not asked.exists()


def test_auto_beside_others(monkeypatch, nvidia_smi):
    nvidia_smi(TWO)
    monkeypatch.setattr(auto_pools, "available_memory", lambda: 64 * 2**30 - 1)
    monkeypatch.setattr(auto_pools, "available_cpus", lambda: 8)
    sizes = {"mem": Size(63), "cpu": Size(8), "gpu": Size(2, ("0", "1"))}
    assert parse_pools("auto", machine_sizes) == sizes
    sizes.update(gpu=Size(1, ("1",)), db=Size(2))
    assert parse_pools("gpu=1, auto db=2", machine_sizes) == sizes
    assert parse_pools("auto db=2") == {"db": Size(2)}


def test_a_small_machine(monkeypatch):
    monkeypatch.setattr(auto_pools, "available_memory", lambda: 2**29)
    assert machine_sizes()["mem"] == Size(1)


def test_gpus_are_asked_for_where_a_stage_takes_one(nvidia_smi):
    asked = nvidia_smi(TWO)
    assert "gpu" not in machine_sizes(lambda: False)
    assert not asked.exists()
