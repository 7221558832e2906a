import json

import pytest

from benchmarks import cost
from benchmarks.cost import (
    COMMITTED,
    KINDS,
    RUNS,
    START,
    Counting,
    count_all,
    limit,
    per_stage,
    risen,
    smallest,
    system_calls,
    table,
)

TRACE = """\
71 openat(AT_FDCWD, ""..., O_RDONLY|O_CLOEXEC) = 3
71 openat(AT_FDCWD, ""..., O_WRONLY|O_CREAT|O_TRUNC, 0666 <unfinished ...>
7  newfstatat(AT_FDCWD, ""..., {st_mode=S_IFREG|0644}, 0) = 0
71 <... openat resumed>) = 4
71 write(4, ""..., 5) = 5
71 fsync(4) = 0
71 rename(""..., ""...) = 0
71 futex(0x1, FUTEX_WAIT) = 0
71 --- SIGCHLD {si_signo=SIGCHLD} ---
71 +++ exited with 0 +++
"""


def test_system_calls_are_counted_by_kind_and_once():
    counts = system_calls(TRACE.splitlines())
    expected = {"files": 1, "open": 2, "stat": 1, "write": 1, "sync": 1, "change": 1}
    assert counts == {**dict.fromkeys(KINDS, 0), **expected}


def test_the_start_does_not_count_for_a_stage():
    costs = {START: {"calls": 100.0, "cpu": 5.0}, "first": {"calls": 300.0, "cpu": 9.0}}
    assert per_stage(costs, 20) == {
        START: {"calls": 100.0, "cpu": 5.0},
        "first": {"calls": 10.0, "cpu": 9.0},
    }


def test_the_smallest_of_several_countings_holds():
    first = {START: {"calls": 10.0, "cpu": 3.0}, "no-op": {"calls": 7.0, "cpu": 1.0}}
    again = {START: {"calls": 11.0, "cpu": 2.0}}
    assert smallest([first, again]) == {
        START: {"calls": 10.0, "cpu": 2.0},
        "no-op": {"calls": 7.0, "cpu": 1.0},
    }


@pytest.mark.parametrize(
    "name,value,is_risen",
    [
        ("calls", 104.0, False),
        ("calls", 106.0, True),
        ("calls", 50.0, False),
        ("cpu", 114.0, False),
        ("cpu", 116.0, True),
        ("unheard of", 1.0, True),
    ],
)
def test_what_has_risen(name, value, is_risen):
    committed = {"first": {"calls": 100.0, "cpu": 100.0}}
    found = {"first": {name: value}}
    assert risen(found, committed) == ([("first", name)] if is_risen else [])
    assert ("has risen" in table(found, committed)) == is_risen


def test_next_to_nothing_may_vary():
    committed = {"no-op": {"sync": -0.01, "process": 0.0}}
    assert not risen({"no-op": {"sync": 0.01, "process": 0.02}}, committed)
    assert risen({"no-op": {"sync": 1.0}}, committed)


@pytest.mark.parametrize("values,tries", [([90], 1), ([120, 101], 2), ([120] * 9, 3)])
def test_what_has_risen_is_counted_again(values, tries):
    asked = []

    def count(_counting, runs):
        asked.append(list(runs))
        return {run: {"calls": float(values[len(asked) - 1])} for run in runs}

    committed = {START: {"calls": 100.0}}
    committed.update({run: {"calls": 100.0} for run in RUNS[1:]})
    counting = Counting(lambda *_: {}, rounds=1, tries=3)
    found = count_all([counting], count, 1, committed)
    assert len(asked) == tries
    assert asked[0] == RUNS
    assert found[START]["calls"] == min(values[:tries])


def test_all_that_is_counted_is_committed():
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))["costs"]
    assert list(committed) == RUNS
    names = {"calls", "cpu", "kilobytes", "files", *KINDS}
    assert all(set(counts) == names for counts in committed.values())
    assert all(
        limit(committed, run, name) < float("inf") for run in RUNS for name in names
    )


@pytest.fixture
def counted(mocker, tmp_path):
    """Have counts be what a test says."""
    file = tmp_path / "cost.json"
    file.write_text(
        json.dumps({"counted with": "Python 3.11, DVC 3.67.1", "costs": {}}),
        encoding="utf-8",
    )
    mocker.patch.object(cost, "COMMITTED", file)
    install = mocker.Mock(version="dvc 3.67.1, dvc-parallel 1.0, Python 3.11.7")
    mocker.patch.object(cost, "install", return_value=install)
    mocker.patch.object(cost, "check_plugin")

    def counted(value):
        costs = {run: {"calls": value} for run in RUNS}
        mocker.patch.object(cost, "count", return_value=costs)
        return file

    return counted


def test_fails_where_a_count_has_risen_until_that_is_accepted(counted, capsys):
    counted(100.0)
    assert cost.main([]) == 1  # nothing is committed
    assert cost.main(["--accept"]) == 0
    assert cost.main([]) == 0
    file = counted(200.0)
    before = file.read_text(encoding="utf-8")
    assert cost.main([]) == 1
    assert "have risen" in capsys.readouterr().out
    assert file.read_text(encoding="utf-8") == before
    assert cost.main(["--accept"]) == 0
    assert cost.main([]) == 0


def test_says_that_system_calls_are_not_counted(counted, capsys, mocker):
    counted(1.0)
    mocker.patch.object(cost.shutil, "which", return_value=None)
    assert cost.main(["--accept"]) == 0
    assert "system calls are not counted: there is no strace" in capsys.readouterr().out


def test_what_is_less_than_nothing_has_not_risen_by_staying_so():
    assert -1.7 <= limit({"no-op -j 1": {"read": -1.7}}, "no-op -j 1", "read") < 0
