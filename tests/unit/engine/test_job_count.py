import os

import pytest

from dvc_parallel.engine.job_count import count_jobs, parse_jobs
from dvc_parallel.engine.machine import available_cpus


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


@pytest.mark.parametrize("quota, cpus", [(None, 8), (0.5, 1), (2.9, 2), (64.0, 8)])
def test_auto_heeds_the_quota(monkeypatch, quota, cpus):
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False
    )
    monkeypatch.setattr("dvc_parallel.engine.machine._cgroup_cpus", lambda: quota)
    assert count_jobs("auto") == cpus
