"""What stages use: recorded, shown, and used for the next run."""

import json
import math
import os
import re
import sys

import pytest
from dvc.exceptions import ReproductionError
from ruamel.yaml import YAML

from dvc_parallel.commands.sizes import Machine, Use, notable, uses
from dvc_parallel.engine.machine import available_memory
from dvc_parallel.engine.usage import size
from dvc_parallel.processes import measuring
from tests.support.capabilities import needs_keep_going
from tests.support.journals import Journal

PYTHON = sys.executable
MB = 1_000_000

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="much of it is not known on this system"
)


def logs(project):
    stages = json.loads(project.own("logs", "--json").stdout)["stages"]
    return {stage["name"]: stage["used"] for stage in stages}


@pytest.fixture
def looks(monkeypatch, tmp_path):
    """Create a file once a look has found a large command; return its path."""
    path = tmp_path / "looked"
    look = measuring.Meter._look

    def look_and_tell(meter):
        look(meter)
        if any(command.memory > 60 * MB for command in meter._commands):
            path.touch()

    monkeypatch.setattr(measuring, "AFTER", 0)
    monkeypatch.setattr(measuring, "EVERY", 0.05)
    monkeypatch.setattr(measuring.Meter, "_look", look_and_tell)
    return path


def test_what_a_stage_uses_is_recorded(make_project, looks):
    wait = f"until [ -e {looks} ]; do sleep 0.01; done"
    grow = f"x = bytearray({60 * MB}); print(1, flush=True); input()"
    project = make_project(
        dvc_yaml=f"""
        stages:
          long:
            cmd:
              - |
                sleep 300 & sleeper=$!
                {PYTHON} -c '{grow}' < fifo > out &
                exec 9> fifo; until [ -s out ]; do sleep 0.01; done
                {wait}; exec 9>&-; kill $sleeper
              - {PYTHON} -c 'open("big", "wb").write(bytes({2 * MB}))'
            outs: [big]
          none: {{cmd: "true"}}
          data: {{cmd: exit 3, deps: [big]}}
        """
    )
    os.mkfifo(project.path / "fifo")
    with pytest.raises(Exception, match="data"):
        project.reproduce(jobs=2)
    used = logs(project)
    long = used["long"]
    assert 60 * MB < long["memory"] < 300 * MB
    assert long["cpu"] > 0
    assert long["seconds"] > 0
    assert set(long) == {
        *("seconds", "cpu", "cores", "memory", "process", "read", "written"),
        "out_of_memory",
    }
    assert used["none"]["out_of_memory"] is used["data"]["out_of_memory"] is False
    report = project.own("report", "--json").stdout
    assert json.loads(report)["used"]["memory"] == long["memory"]
    assert json.loads(report)["used"]["largest"] == "long"


GIB = 2**30
PIPELINE = """
    stages:
      prepare: {cmd: "true"}
      train:
        foreach: [svm, forest, boosting]
        do:
          cmd: echo ${item}
          meta: {parallel: {pools: {gpu: 1, mem: 1}}}
      tiny: {cmd: "true"}
"""
NAMES = ["prepare", "train@svm", "train@forest", "train@boosting", "tiny"]


def record(project, used, **kwargs):
    """Have a run recorded in which stages have used something."""
    journal = Journal({}, [10.0] * len(NAMES), names=NAMES, used=used, **kwargs)
    journal.write(project.path / ".dvc/tmp/parallel/runs")


@pytest.fixture
def known(make_project):
    """A project that knows what its stages use: two of three have room."""
    project = make_project(dvc_yaml=PIPELINE)
    room = available_memory()
    large = {"seconds": 10.0, "cpu": 5.0, "memory": int(room / 2.5)}
    record(
        project,
        {
            0: {"seconds": 10.0, "cpu": 39.0, "memory": 3 * GIB},
            1: large,
            2: {**large, "memory": 5},
            4: {"seconds": 0.2, "cpu": 0.2, "memory": 9},
        },
    )
    # NOTE: a later run with smaller data does not take that back
    record(project, {1: {**large, "memory": 7}}, id="20261122-083000-test")
    return project, room


def test_plan_tells_how_many_fit(known):
    project, room = known
    lines = project.own("plan", "-j", "4").stdout.splitlines()
    told = [line for line in lines if "at its peak" in line]
    # NOTE: before 3.4.0, DVC goes through stages in any order
    assert sorted(told) == [
        "prepare: 3.0 GiB at its peak, 3.9 cores",
        f"train@*: {size(int(room / 2.5))} at its peak, 0.5 cores: with {size(room)}, "
        "-j 2",
    ]
    sizes = json.loads(project.own("plan", "--json").stdout)["sizes"]
    known = {one["stages"]: (one["count"], one["jobs"], one["limit"]) for one in sizes}
    assert known == {
        "prepare": (1, 1, None),
        "train@*": (3, 2, "memory"),
        "tiny": (1, 1, None),
    }
    by_name = {one["stages"]: one for one in sizes}
    assert by_name["train@*"]["memory"] == int(room / 2.5)
    assert by_name["tiny"]["cores"] is None


def test_pools_are_proposed(known):
    project, room = known
    table = project.own("pools").stdout
    assert re.search(r"^gpu +1 +- +train@\*: 1$", table, re.MULTILINE)
    proposed = project.own("pools", "--suggest").stdout
    assert "  train:  # " in proposed
    mem = math.ceil(1.1 * int(room / 2.5) / GIB)
    assert YAML(typ="safe").load(proposed) == {
        "stages": {
            "prepare": {"meta": {"parallel": {"pools": {"mem": 4, "cpu": 4}}}},
            "train": {"do": {"meta": {"parallel": {"pools": {"gpu": 1, "mem": mem}}}}},
        }
    }


def test_nothing_is_known_to_propose(make_project):
    project = make_project(dvc_yaml="stages: {one: {cmd: 'true'}}")
    result = project.own("pools", "--suggest", check=False)
    assert result.returncode == 255
    assert "it is not known what stages use" in result.stderr
    assert "no pools, and no stage takes one" in project.own("pools").stdout
    assert json.loads(project.own("plan", "--json").stdout)["sizes"] == []
    project.dvc("repro", "-j", 2)
    assert "No stage uses so much" in project.own("pools", "--suggest").stdout


@pytest.mark.parametrize(
    "use, memory, cpus, expected",
    [
        (Use("train@*", 9, 11 * GIB, 3.9), 64 * GIB, 64, (5, "memory")),
        (Use("train@*", 9, 11 * GIB, 3.9), 64 * GIB, 16, (4, "cpu")),
        (Use("train@*", 3, 11 * GIB, 3.9), 64 * GIB, 64, (3, None)),
        (Use("train@*", 3, 11 * GIB, 3.9), 8 * GIB, 64, (0, "memory")),
        (Use("train", 1, 1, 99.0), GIB, 2, (1, None)),
        (Use("train@*", 9, None, None), GIB, 2, (9, None)),
        (Use("train@*", 9, 0, 0.0), GIB, 2, (9, None)),
    ],
)
def test_how_many_fit(use, memory, cpus, expected):
    assert use.fitting(Machine(memory, cpus)) == expected


def test_what_plan_says_of_a_machine_that_is_too_small():
    used = [Use("train", 1, 2 * GIB, None)]
    (line,) = notable(used, Machine(GIB, 4))
    assert line == "train: 2.0 GiB at its peak: more than 1.0 GiB"
    assert [*notable(used, None)] == ["train: 2.0 GiB at its peak"]


def test_no_use_is_known_of_no_runs():
    assert uses([], ["a", "b@1"]) == []


KILLED = "memory ran out, and the kernel killed a process, probably of this stage"
OUT_OF_MEMORY = """
    stages:
      killed: {cmd: "kill -9 $$"}
      bad: {cmd: exit 3}
"""


@needs_keep_going
@pytest.mark.parametrize("kills", [[0, 1, 1], [0, 0, 0], [None]])
def test_a_stage_that_was_killed_for_want_of_memory(
    make_project, monkeypatch, caplog, kills
):
    counts = iter(kills)
    monkeypatch.setattr(measuring, "oom_kills", lambda: next(counts))
    project = make_project(dvc_yaml=OUT_OF_MEMORY)
    with pytest.raises(ReproductionError):
        # NOTE: one after the other, or else it may be the other one
        project.reproduce(jobs=2, targets=["killed"], on_error="keep-going")
    with pytest.raises(ReproductionError):
        project.reproduce(jobs=2, targets=["bad"], on_error="keep-going")
    shown = project.own("logs", "killed", check=False)
    known = kills[-1] == 1
    assert ("exited with SIGKILL; " + KILLED in shown.stderr) is known
    assert (f"hint: {KILLED}" in caplog.text) is known
    assert "3; memory" not in project.own("logs", "bad", check=False).stderr


@pytest.fixture
def limit_memory():
    """Make a cgroup with a limit; return the file that takes process IDs."""
    root = "/sys/fs/cgroup"
    v1 = os.path.isdir(f"{root}/memory")
    folder = f"{root}/{'memory/' if v1 else ''}dvc-parallel-test-{os.getpid()}"
    made = []

    def make(size):
        try:
            os.mkdir(folder)
            made.append(folder)
            name = "memory.limit_in_bytes" if v1 else "memory.max"
            with open(f"{folder}/{name}", "w") as fobj:
                fobj.write(str(size))
        except OSError as exc:
            pytest.skip(f"can make no cgroup with a limit: {exc}")
        return f"{folder}/cgroup.procs"

    yield make
    for path in made:
        os.rmdir(path)


@pytest.mark.slow
def test_a_stage_that_the_kernel_kills(make_project, limit_memory):
    procs = limit_memory(300 * MB)
    project = make_project(
        dvc_yaml=f"""
        stages:
          small: {{cmd: echo fine}}
          large: {{cmd: "{PYTHON} -c 'bytearray({600 * MB})'"}}
        """
    )
    line = f'echo $$ > {procs}; exec "$@"'
    result = project.run(
        ["/bin/sh", "-c", line, "sh", *project.command("repro", "-j", 2)], check=False
    )
    assert result.returncode
    assert KILLED in result.stderr
    assert "small | fine" in result.stdout
    assert logs(project)["large"]["out_of_memory"] is True
