"""``meta.parallel`` with the real DVC: pools, timeouts, retries."""

import json
import os
import re
import signal
import sys

import pytest
from dvc.exceptions import DvcException, InvalidArgumentError, ReproductionError

from tests import is_alive
from tests.support.capabilities import HAS_MATRIX, needs_keep_going
from tests.support.project import SCRIPTS, assert_same, finish

PYTHON = sys.executable

# Fails if another one is there under the same name.
ALONE = """\
import os, sys, time
for name in sys.argv[1].split(","):
    os.mkdir("busy." + name)
time.sleep(0.1)
for name in sys.argv[1].split(","):
    os.rmdir("busy." + name)
"""

FILES = {"alone.py": ALONE, **SCRIPTS}


@pytest.mark.parametrize("pools", ["[db]", "{db: 1}"])
def test_an_unsized_pool_is_a_mutex(twins, pools):
    dvc_yaml = f"""
        stages:
          query:
            foreach: [a, b, c, d]
            do:
              cmd: {PYTHON} alone.py db && echo ${{item}} > ${{item}}.txt
              outs: ["${{item}}.txt"]
              meta: {{parallel: {{pools: {pools}}}}}
    """
    serial, parallel = twins(dvc_yaml, FILES)
    expected = [f"query@{name}" for name in "abcd"]
    assert parallel.reproduce(jobs=4) == expected
    assert serial.reproduce() == expected
    assert_same(serial, parallel)


def test_who_takes_none_runs_beside(make_project):
    """Two that exclude each other, and two that meet the first of them."""
    meet = f"{PYTHON} meet.py ${{item}} 3"
    dvc_yaml = f"""
        stages:
          first:
            cmd: {PYTHON} alone.py x && {PYTHON} meet.py first 3
            meta: {{parallel: {{pools: [db]}}}}
          second:
            cmd: {PYTHON} alone.py x
            meta: {{parallel: {{pools: [db]}}}}
          other: {{foreach: [a, b], do: {{cmd: "{meet}"}}}}
    """
    project = make_project("beside", dvc_yaml, FILES)
    assert len(project.reproduce(jobs=3)) == 4


def test_each_has_its_own_gpus(make_project, monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "gpu=2,5,7 mem=64")
    dvc_yaml = f"""
        stages:
          one:
            foreach: [a, b, c]
            do:
              cmd: >-
                {PYTHON} alone.py $CUDA_VISIBLE_DEVICES && {PYTHON} meet.py ${{item}} 3
                && env > ${{item}}.env
              meta: {{parallel: {{pools: {{gpu: 1, mem: 16}}}}}}
          two:
            foreach: [d, e, f]
            do:
              cmd: {PYTHON} alone.py $DVC_POOL_GPU && env > ${{item}}.env
              meta: {{parallel: {{pools: {{gpu: 2}}}}}}
          none: {{cmd: env > none.env}}
    """
    project = make_project("gpus", dvc_yaml, FILES)
    assert len(project.reproduce(jobs=8)) == 7

    def env(name):
        lines = project.read(f"{name}.env").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    assert {env(name)["CUDA_VISIBLE_DEVICES"] for name in "abc"} == {"2", "5", "7"}
    for name in "abc":
        gpu = env(name)["DVC_POOL_GPU"]
        assert gpu == env(name)["CUDA_VISIBLE_DEVICES"]
        assert env(name)["DVC_POOL_MEM"] == "16"
        assert env(name)["DVC_PARALLEL_POOLS"] == f"gpu={gpu}, mem=16"
    for name in "def":
        assert len(env(name)["CUDA_VISIBLE_DEVICES"].split(",")) == 2
        assert "DVC_POOL_MEM" not in env(name)
    assert "DVC_POOL_GPU" not in env("none")
    assert "CUDA_VISIBLE_DEVICES" not in env("none")
    assert env("none")["DVC_PARALLEL_POOLS"] == "gpu=2,5,7 mem=64"


@pytest.mark.skipif(not HAS_MATRIX, reason="this DVC has no matrix")
def test_templates(make_project, monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "gpu=2 a=1 b=1")
    dvc_yaml = """
        stages:
          train:
            matrix:
              size: [{name: small, gpus: 0}, {name: big, gpus: 2}]
              pool: [a, b]
            cmd: echo ${item.pool} $DVC_POOL_GPU > ${item.size.name}-${item.pool}.txt
            meta:
              parallel:
                pools: {gpu: "${item.size.gpus}", "${item.pool}": 1}
    """
    project = make_project("matrix", dvc_yaml)
    assert len(project.reproduce(jobs=4)) == 4
    assert project.read("small-a.txt") == "a\n"
    assert project.read("big-b.txt") == "b 0,1\n"


@pytest.mark.parametrize(
    "parallel, message",
    [
        ("{pools: {gpu: 3}}", "'b'.*takes 3 of 'gpu', but its size is 2"),
        ("{pools: [x, x]}", r"'b': meta.parallel.pools: .*got \['x', 'x'\]"),
        ("{pool: [x]}", "'b': meta.parallel: unknown key 'pool'"),
        ("{timeout: soon}", "'b': meta.parallel.timeout: .*got 'soon'"),
    ],
)
def test_errors_come_before_anything_runs(make_project, monkeypatch, parallel, message):
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "gpu=0,1")
    dvc_yaml = f"""
        stages:
          a: {{cmd: echo a > a.txt, outs: [a.txt]}}
          b: {{cmd: echo b, deps: [a.txt], meta: {{parallel: {parallel}}}}}
    """
    project = make_project("errors", dvc_yaml)
    with pytest.raises(DvcException, match=message):
        project.reproduce(jobs=2)
    assert not project.exists("a.txt")
    # NOTE: DVC by itself does not look at it
    assert project.reproduce(jobs=1) == ["a", "b"]


def test_sizes_that_cannot_be_read(make_project, monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "gpu")
    project = make_project("sizes", "stages: {a: {cmd: touch a.txt}}")
    with pytest.raises(InvalidArgumentError, match=r"DVC_PARALLEL_POOLS: .*got 'gpu'"):
        project.reproduce(jobs=2)
    assert not project.exists("a.txt")


@needs_keep_going
@pytest.mark.parametrize("how", ["exit 1", "kill -9 $$"])
def test_slots_come_back_however_a_command_ends(make_project, how):
    dvc_yaml = f"""
        stages:
          bad:
            foreach: [a, b, c]
            do: {{cmd: {how}, meta: {{parallel: {{pools: [db]}}}}}}
          good: {{cmd: touch good.txt, meta: {{parallel: {{pools: [db]}}}}}}
    """
    project = make_project("back", dvc_yaml)
    with pytest.raises(ReproductionError):
        project.reproduce(jobs=2, on_error="keep-going")
    assert project.exists("good.txt")


# Two that exclude each other; the first one goes first, whatever order targets have.
HOLD_DB = f"""
    stages:
      hold:
        foreach: {{a: 1, b: 0}}
        do:
          cmd: exec {PYTHON} hold.py ${{key}}
          meta: {{parallel: {{pools: [db], priority: "${{item}}", retries: 3}}}}
"""


def test_an_interrupted_run_with_stages_that_wait_for_a_pool(make_project):
    project = make_project("interrupted", HOLD_DB, FILES)
    process = project.start("repro", "-j", 2)
    project.wait_for("a.runs")
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert process.returncode == 252, output
    assert not project.exists("b.runs")
    assert "attempt" not in output


# Fails at first, as often as it is told.
FLAKY = """\
import pathlib, sys
name, failures = sys.argv[1], int(sys.argv[2])
out = pathlib.Path(name + ".txt")
log = pathlib.Path(name + ".log")
said = log.read_text() if log.exists() else ""
log.write_text(said + ("dirty" if out.exists() else "clean") + " ")
out.write_text(name)
sys.exit(len(said.split()) < failures)
"""


def test_retries_start_with_clean_outputs_and_leave_what_serial_dvc_does(twins):
    dvc_yaml = f"""
        stages:
          a: {{cmd: echo a > in.txt, outs: [in.txt]}}
          flaky:
            cmd: {PYTHON} flaky.py flaky 2
            deps: [in.txt]
            outs: [flaky.txt]
            meta: {{parallel: {{retries: 2}}}}
          b: {{cmd: cat flaky.txt > b.txt, deps: [flaky.txt], outs: [b.txt]}}
    """
    serial, parallel = twins(dvc_yaml, {"flaky.py": FLAKY})
    output = parallel.dvc("repro", "-j", 2)
    assert parallel.read("flaky.log") == "clean clean clean "
    said = output.stdout + output.stderr
    for attempt in (2, 3):
        assert f"exited with 1; attempt {attempt}" in said
    assert "3 stages: 3 ran; " in said

    serial.write({"flaky.log": "clean clean "})
    serial.reproduce()
    assert_same(serial, parallel)


def test_a_stage_without_outputs_that_changed_is_tried_again(make_project):
    dvc_yaml = f"""
        stages:
          flaky:
            cmd: {PYTHON} flaky.py flaky $(cat failures.txt)
            deps: [failures.txt]
            meta: {{parallel: {{retries: 1}}}}
    """
    files = {"flaky.py": FLAKY, "failures.txt": "0"}
    project = make_project("outs", dvc_yaml, files)
    assert project.reproduce(jobs=2) == ["flaky"]
    project.write({"failures.txt": "2"})
    assert project.reproduce(jobs=2) == ["flaky"]
    assert len(project.read("flaky.log").split()) == 3


def test_retries_are_not_endless(make_project):
    dvc_yaml = f"""
        stages:
          flaky:
            cmd: {PYTHON} flaky.py flaky 9
            meta: {{parallel: {{retries: 2, pools: [db]}}}}
          other: {{cmd: touch other.txt, deps: [later.txt]}}
    """
    project = make_project("endless", dvc_yaml, {"flaky.py": FLAKY, "later.txt": ""})
    result = project.dvc("repro", "-j", 2, check=False)
    assert result.returncode == 255
    assert "failed to reproduce 'flaky'" in result.stderr
    assert len(project.read("flaky.log").split()) == 3


def test_a_retry_keeps_the_slots(make_project, monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "gpu=0,1")
    cmd = (
        f"mkdir busy.$DVC_POOL_GPU && {PYTHON} flaky.py ${{item}} 2; code=$?; "
        "rmdir busy.$DVC_POOL_GPU; echo $DVC_POOL_GPU >> ${item}.gpus; exit $code"
    )
    dvc_yaml = f"""
        stages:
          flaky:
            foreach: [a, b, c, d]
            do:
              cmd: '{cmd}'
              meta: {{parallel: {{retries: 2, pools: {{gpu: 1}}}}}}
    """
    project = make_project("slots", dvc_yaml, {"flaky.py": FLAKY})
    assert len(project.reproduce(jobs=4)) == 4
    for name in "abcd":
        gpus = project.read(f"{name}.gpus").split()
        assert len(gpus) == 3
        assert len(set(gpus)) == 1


def test_a_timeout_is_reported_and_ends_all_that_the_commands_have_begun(make_project):
    dvc_yaml = """
        stages:
          slow:
            cmd: ["echo begun", "(sleep 300 & echo $! > child; wait)"]
            meta: {parallel: {timeout: 2s}}
    """
    project = make_project("timeout", dvc_yaml)
    result = project.dvc("repro", "-j", 2, check=False)
    assert result.returncode == 255
    assert "slow | begun" in result.stdout
    assert "wait), timed out after 2 s" in result.stderr
    assert "failed to reproduce 'slow'" in result.stderr
    assert not is_alive(int(project.read("child")))


def test_a_retry_after_a_timeout(make_project):
    dvc_yaml = """
        stages:
          slow:
            cmd:
              - echo try >> tries
              - if test $(wc -l < tries) = 1; then sleep 300; fi
            meta: {parallel: {timeout: 2s, retries: 1}}
    """
    project = make_project("again", dvc_yaml)
    result = project.dvc("repro", "-j", 2)
    assert "fi, timed out after 2 s; attempt 2" in result.stderr
    assert project.read("tries") == "try\ntry\n"


def test_dvc_lock_and_status_do_not_know_of_it(make_project):
    dvc_yaml = "stages: {{a: {{cmd: echo a > a.txt, outs: [a.txt]{}}}}}"
    project = make_project("meta", dvc_yaml.format(""))
    project.reproduce(jobs=2)
    lock = project.read("dvc.lock")

    meta = ", meta: {parallel: {pools: [db], timeout: 2h, retries: 1, priority: 1}}"
    project.write({"dvc.yaml": dvc_yaml.format(meta)})
    assert "up to date" in project.dvc("status").stdout
    assert project.reproduce(jobs=2) == []
    assert project.reproduce() == []
    assert project.read("dvc.lock") == lock
    project.reproduce(jobs=2, force=True)
    assert project.read("dvc.lock") == lock


def test_the_config_tells_the_sizes_and_the_environment_wins(make_project, monkeypatch):
    dvc_yaml = """
        stages:
          a:
            cmd: echo $DVC_POOL_GPU > gpu.txt
            meta: {parallel: {pools: {gpu: 2}}}
    """
    project = make_project("config", dvc_yaml)
    project.dvc("config", "--local", "core.parallel_pools", "gpu=4,5 mem=64")
    assert project.dvc("config", "core.parallel_pools").stdout == "gpu=4,5 mem=64\n"
    project.reproduce(jobs=2)
    assert project.read("gpu.txt") == "4,5\n"

    monkeypatch.setenv("DVC_PARALLEL_POOLS", "gpu=6,7")
    project.reproduce(jobs=2, force=True)
    assert project.read("gpu.txt") == "6,7\n"
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "")
    with pytest.raises(DvcException, match="takes 2 of 'gpu', but its size is 1"):
        project.reproduce(jobs=2, force=True)


def test_load_average(make_project):
    """A limit that is never met: one stage at a time, and all of them."""
    dvc_yaml = f"""
        stages:
          a:
            foreach: [1, 2, 3]
            do: {{cmd: "{PYTHON} alone.py x"}}
    """
    project = make_project("load", dvc_yaml, FILES)
    result = project.dvc("repro", "-j", 3, "-l", "0.01")
    assert "3 stages: 3 ran; " in result.stdout


def test_stages_start_when_the_load_has_gone_down(make_project, mocker):
    """The first stage ends only after the second one has started."""
    dvc_yaml = f"""
        stages:
          a: {{foreach: [1, 2], do: {{cmd: "{PYTHON} meet.py ${{item}} 2"}}}}
    """
    mocker.patch("dvc_parallel.scheduling.ready_queue.LOOK", 0.01)
    load = mocker.patch("os.getloadavg", side_effect=[[9]] * 10 + [[0]] * 1000)
    project = make_project("load", dvc_yaml, FILES)
    assert len(project.reproduce(jobs=2, load_average=3)) == 2
    assert load.call_count > 10


@pytest.mark.parametrize("value", ["0", "x"])
def test_bad_load_average(make_project, value):
    project = make_project(dvc_yaml="stages: {a: {cmd: touch a.txt}}")
    result = project.dvc("repro", "-j2", "-l", value, check=False)
    assert result.returncode == 254
    line = f"argument -l/--load-average: expected a positive number, got '{value}'"
    assert result.stderr == f"ERROR: {line}\n"
    with pytest.raises(InvalidArgumentError, match="load_average: expected a positive"):
        project.reproduce(jobs=1, load_average=value)


def test_options_do_not_reach_dvc_with_one_job(make_project):
    project = make_project(dvc_yaml="stages: {a: {cmd: touch a.txt}}")
    assert project.reproduce(jobs=1, load_average=1) == ["a"]


def logs(project, *args):
    return project.own("logs", *args).stdout


def test_who_waits_for_a_pool_is_shown(make_project):
    project = make_project("shown", HOLD_DB, FILES)
    process = project.start("repro", "-j", 2)
    project.wait_for("a.runs")
    shown = logs(project)
    project.write({"a.go": "", "b.go": ""})
    finish(process)
    assert re.search("hold@a +running", shown)
    assert re.search("hold@b +waits for db", shown)


def test_the_output_of_all_attempts_is_kept_and_shown_once(make_project):
    dvc_yaml = f"""
        stages:
          flaky:
            cmd: echo this is $(wc -l < tries); echo >> tries; {PYTHON} flaky.py x 2
            meta: {{parallel: {{retries: 2}}}}
    """
    project = make_project("logs", dvc_yaml, {"flaky.py": FLAKY, "tries": ""})
    shown = project.dvc("repro", "-j", 2, "--output", "grouped").stdout
    log = logs(project, "flaky")
    for number in range(3):
        assert shown.count(f"this is {number}\n") == 1
        assert log.count(f"this is {number}\n") == 1
    assert shown.count("=== flaky") == 3


def test_auto_is_what_the_machine_has(make_project, monkeypatch, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'\necho 'GPU 1: B (UUID: GPU-2)'\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("NVIDIA_VISIBLE_DEVICES", raising=False)
    project = make_project(
        dvc_yaml="""
        stages:
          one:
            cmd: echo $DVC_POOL_GPU $CUDA_VISIBLE_DEVICES $DVC_POOL_DB > one.txt
            outs: [{one.txt: {cache: false}}]
            meta: {parallel: {pools: {gpu: 2, db: 2, mem: 1, cpu: 1}}}
        """
    )
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "auto db=2")
    project.dvc("repro", "-j", 2)
    assert project.read("one.txt").split() == ["0,1", "0,1", "2"]
    doctor = project.own("doctor").stdout
    assert re.search(r"pools: mem=\d+ cpu=\d+ gpu=0,1, db=2 from", doctor)

    monkeypatch.setenv("DVC_PARALLEL_POOLS", "auto gpu=7,")
    result = project.dvc("repro", "-j", 2, "-f", check=False)
    assert "takes 2 of 'gpu', but its size is 1" in result.stderr


# Succeeds with so much memory.
TRY = "echo $DVC_POOL_MEM >> {name}.tried; [ $DVC_POOL_MEM -ge {enough} ]"


def growing(name, amounts, enough, retries=3):
    cmd = TRY.format(name=name, enough=enough)
    meta = f"{{parallel: {{pools: {{mem: {amounts}}}, retries: {retries}}}}}"
    return f'{name}: {{cmd: "{cmd}", meta: {meta}}}'


@pytest.mark.parametrize(
    "size, amounts, enough, tried",
    [
        (4, [1, 2, 4], 4, [1, 2, 4]),
        (4, [1, 1, 3], 3, [1, 1, 3]),
        (4, [1, 2], 2, [1, 2]),
        (3, [1, 9], 3, [1, 3]),  # no more than there is
        (4, [2, 3, 4], 2, [2]),
    ],
)
def test_more_at_each_attempt(make_project, monkeypatch, size, amounts, enough, tried):
    monkeypatch.setenv("DVC_PARALLEL_POOLS", f"mem={size}")
    stage = growing("one", amounts, enough)
    project = make_project(dvc_yaml=f"stages:\n  {stage}\n  two: {{cmd: 'true'}}")
    project.dvc("repro", "-j", 2)
    assert [int(line) for line in project.read("one.tried").split()] == tried


def test_the_last_amount_is_that_of_all_further_attempts(make_project, monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "mem=4")
    project = make_project(dvc_yaml=f"stages:\n  {growing('one', [1, 2], 9)}")
    result = project.dvc("repro", "-j", 2, check=False)
    assert result.returncode == 255
    assert project.read("one.tried").split() == ["1", "2", "2", "2"]
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "mem=1")
    assert "attempts take" not in project.own("plan").stdout
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "mem=2")
    assert "one: attempts take 1, then 2 of 'mem'" in project.own("plan").stdout
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "mem=0")
    result = project.dvc("repro", "-j", 2, check=False)
    assert "takes 1 of 'mem', but its size is 0" in result.stderr


def test_stages_that_want_more_do_not_wait_for_each_other(make_project, monkeypatch):
    """Each has what the other one waits for, unless they give it back."""
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "mem=4")
    names = ["a", "b", "c"]
    stages = "\n".join(f"  {growing(name, [2, 4], 4)}" for name in names)
    project = make_project(dvc_yaml=f"stages:\n{stages}")
    project.dvc("repro", "-j", 3)
    assert [project.read(f"{name}.tried").split() for name in names] == 3 * [["2", "4"]]


def test_who_waits_for_more_as_the_run_ends_has_failed(make_project, monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "mem=2")
    journal = ".dvc/tmp/parallel/runs/*/journal.jsonl"
    until = "until grep -q '{}' " + journal + "; do sleep 0.01; done\n"
    project = make_project(
        files={
            "hold.sh": until.format('"phase": "failed"'),
            "fail.sh": until.format('"phase": "ready", "pool": "mem"') + "exit 3\n",
        },
        dvc_yaml=f"""
        stages:
          holds: {{cmd: sh hold.sh, meta: {{parallel: {{pools: [mem]}}}}}}
          {growing("one", [1, 2], 2)}
          other: {{cmd: sh fail.sh}}
        """,
    )
    result = project.dvc("repro", "-j", 3, check=False)
    assert result.returncode == 255
    assert "one | " in result.stderr
    logs = project.own("logs", "--json").stdout
    states = {stage["name"]: stage["state"] for stage in json.loads(logs)["stages"]}
    assert states == {"holds": "ran", "one": "failed", "other": "failed"}
    assert project.read("one.tried").split() == ["1"]
