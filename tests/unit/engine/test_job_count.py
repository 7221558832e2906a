import os

import pytest

from dvc_parallel.engine.job_count import (
    _cgroup_cpus,
    available_cpus,
    count_jobs,
    parse_jobs,
)


@pytest.mark.parametrize(
    "value, expected",
    [(1, 1), ("8", 8), (" 8 ", 8), ("auto", "auto"), ("AUTO", "auto")],
)
def test_parse_jobs(value, expected):
    assert parse_jobs(value) == expected


@pytest.mark.parametrize("value", [0, -3, "0", "-3", "x", "", "1.5", 1.5, True, None])
def test_parse_jobs_names_the_value_and_what_would_be_right(value):
    with pytest.raises(ValueError, match="expected a positive integer or 'auto', got"):
        parse_jobs(value)


def test_auto_is_what_this_process_may_use():
    assert 1 <= count_jobs("auto") == available_cpus() <= (os.cpu_count() or 1)


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity"
)
def test_auto_heeds_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    assert available_cpus() == 1


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


@pytest.mark.parametrize("quota, cpus", [(None, 8), (0.5, 1), (2.9, 2), (64.0, 8)])
def test_auto_heeds_the_quota(monkeypatch, quota, cpus):
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False
    )
    monkeypatch.setattr("dvc_parallel.engine.job_count._cgroup_cpus", lambda: quota)
    assert count_jobs("auto") == cpus


def test_no_cgroup_limit(tmp_path):
    assert _cgroup_cpus(str(tmp_path)) is None
