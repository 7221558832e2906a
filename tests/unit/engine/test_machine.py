import psutil
import pytest

from dvc_parallel.engine.machine import _cgroup_cpus, available_memory, oom_kills


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_cgroup_v2_takes_the_tightest_limit_on_the_way(tmp_path):
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path / "sys/fs/cgroup/a/cpu.max", "300000 100000\n")
    write(tmp_path / "sys/fs/cgroup/a/b/cpu.max", "400000 100000\n")
    write(tmp_path / "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert _cgroup_cpus(str(tmp_path)) == 3


def test_cgroup_v1(tmp_path):
    write(tmp_path / "proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/x\n")
    folder = tmp_path / "sys/fs/cgroup/cpu,cpuacct/x"
    write(folder / "cpu.cfs_quota_us", "150000\n")
    write(folder / "cpu.cfs_period_us", "100000\n")
    assert _cgroup_cpus(str(tmp_path)) == 1.5


def test_cgroup_v1_takes_the_tightest_limit_on_the_way(tmp_path):
    write(tmp_path / "proc/self/cgroup", "4:cpu:/x/y\n0::/\n")
    folder = tmp_path / "sys/fs/cgroup/cpu"
    for name, quota in (("", -1), ("x", 200000), ("x/y", 400000)):
        write(folder / name / "cpu.cfs_quota_us", f"{quota}\n")
        write(folder / name / "cpu.cfs_period_us", "50000\n")
    assert _cgroup_cpus(str(tmp_path)) == 4


@pytest.mark.parametrize("quota, cpus", [("max", None), ("50000", 0.5)])
def test_a_container_sees_its_own_cgroup_as_the_root(tmp_path, quota, cpus):
    write(tmp_path / "proc/self/cgroup", "0::/\n")
    write(tmp_path / "sys/fs/cgroup/cpu.max", f"{quota} 100000\n")
    assert _cgroup_cpus(str(tmp_path)) == cpus


def test_no_cgroup_limit(tmp_path):
    assert _cgroup_cpus(str(tmp_path)) is None


@pytest.mark.parametrize("root, cgroup", [("", "0::/a/b"), ("memory", "4:memory:/a/b")])
def test_memory_is_the_tightest_limit_on_the_way(tmp_path, root, cgroup):
    total = psutil.virtual_memory().total
    assert available_memory(str(tmp_path)) == total
    write(tmp_path / "proc/self/cgroup", f"{cgroup}\n")
    name = "memory.limit_in_bytes" if root else "memory.max"
    folder = tmp_path / "sys/fs/cgroup" / root
    write(folder / "a" / name, "3000000\n")
    write(folder / "a/b" / name, str(2**63 - 4096) if root else "max\n")
    assert available_memory(str(tmp_path)) == 3000000


def test_kills_are_those_of_the_own_cgroup_or_of_the_machine(tmp_path):
    assert oom_kills(str(tmp_path)) is None
    write(tmp_path / "proc/vmstat", "pgfault 77\noom_kill 3\n")
    assert oom_kills(str(tmp_path)) == 3
    write(tmp_path / "proc/self/cgroup", "4:memory:/a\n0::/a\n")
    folder = tmp_path / "sys/fs/cgroup/memory/a"
    write(folder / "memory.oom_control", "oom_kill_disable 0\noom_kill 2\n")
    assert oom_kills(str(tmp_path)) == 2
    write(tmp_path / "sys/fs/cgroup/a/memory.events", "oom 4\noom_kill 1\n")
    assert oom_kills(str(tmp_path)) == 1
