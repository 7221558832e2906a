"""Stages as jobs of a real Slurm."""

import json
import os
import re
import signal

import pytest

from tests import wait_until
from tests.support.project import assert_same, finish

PIPELINE = """
stages:
  prepare:
    cmd: [seq 9 > data.txt, "sed -i s/9/10/ data.txt"]
    outs: [data.txt]
  train:
    foreach: [a, b, c]
    do:
      cmd: wc -l data.txt | tee ${item}.txt; printf 'no newline' >&2
      deps: [data.txt]
      outs: ["${item}.txt"]
      meta:
        parallel: {slurm: {mem: 100M, cpus: 2, time: "0:05:00", partition: low}}
  report:
    cmd: mkdir report && cat a.txt b.txt c.txt > report/all.txt
    deps: [a.txt, b.txt, c.txt]
    outs: [report]
"""


def left_of(project) -> list:
    folder = project.path / ".dvc/tmp/parallel/slurm"
    return [*folder.iterdir()] if folder.exists() else []


def test_the_same_as_serial(twins, slurm):
    serial, parallel = twins(PIPELINE)
    serial.reproduce()
    before = slurm.jobs("%A")
    result = parallel.dvc("repro", "--runner", "slurm", "-j", 3)
    assert_same(serial, parallel)
    assert "5 stages: 5 ran" in result.stdout
    assert "train@a | 9 data.txt\n" in result.stdout
    assert "train@b | no newline\n" in result.stderr
    jobs = [line.split() for line in slurm.jobs()]
    jobs = [job for job in jobs if job[0] not in before]
    assert {(name.split(".")[0], state) for _, name, state in jobs} == {
        (name, "COMPLETED")
        for name in ("prepare", "train@a", "train@b", "train@c", "report")
    }
    assert len(jobs) == 6  # one for each command
    assert not left_of(parallel)
    logs = parallel.run(["dvc-parallel", "logs", "train@c"]).stdout
    assert "9 data.txt\nno newline" in logs
    assert "0 ran" not in parallel.dvc("repro", "--runner", "slurm").stdout


@pytest.mark.slow
def test_what_a_stage_asks_for(make_project, slurm):
    project = make_project(
        dvc_yaml="""
        stages:
          one:
            cmd: "echo $SLURM_CPUS_PER_TASK $SLURM_JOB_PARTITION $SLURM_MEM_PER_NODE;
              echo $SECRET; pwd"
            wdir: sub dir's
            meta: {parallel: {slurm: {cpus: 3}}}
        """,
        files={"sub dir's/.keep": ""},
    )
    project.dvc(
        "config", "--local", "core.parallel_slurm", "partition=low mem=70 cpus=1"
    )
    project.dvc("config", "--local", "core.parallel_runner", "slurm")
    env = {**os.environ, "SECRET": 'it\'s "$x"', "SLURM_JOB_ID": "1"}
    result = project.dvc("repro", env=env)
    path = project.path / "sub dir's"
    assert f'one | 3 low 70\none | it\'s "$x"\none | {path}\n' in result.stdout


@pytest.mark.parametrize(
    "slurm_options, error",
    [
        ("{partitoin: x}", "expected any of partition, time"),
        ("{mem: '1 --uid=0'}", "for 'mem' a size such as '16G', not '1 --uid=0'"),
        ("{partition: nowhere}", "Slurm refuses a job: sbatch: error: invalid partit"),
    ],
)
def test_what_cannot_be_asked_for(make_project, slurm, slurm_options, error):
    project = make_project(
        dvc_yaml=f"""
        stages:
          one: {{cmd: touch ran, meta: {{parallel: {{slurm: {slurm_options}}}}}}}
        """
    )
    result = project.dvc("repro", "--runner", "slurm", check=False)
    assert result.returncode
    assert error in result.stderr
    assert not project.exists("ran")


GROWS = """
import glob
parts = b"x" * 8 * 10**7
[path] = glob.glob(".dvc/tmp/parallel/slurm/*/*/alive")
while True:
    try:
        with open(path.replace("alive", "memory")) as fobj:
            if int(fobj.read() or 0) * 1024 > 8 * 10**7:
                break
    except FileNotFoundError:
        pass
"""


@pytest.mark.slow
def test_what_jobs_use_is_recorded(make_project, slurm):
    project = make_project(
        dvc_yaml="""
        stages:
          grows:
            cmd: python3 grows.py & python3 grows.py && wait
            meta: {parallel: {slurm: {mem: 500M}}}
          short: {cmd: "true"}
        """,
        files={"grows.py": GROWS},
    )
    # NOTE: the script looks for what the one job has
    project.dvc("repro", "--runner", "slurm", "-j", 1)
    logs = json.loads(project.run(["dvc-parallel", "logs", "--json"]).stdout)
    used = {stage["name"]: stage["used"] for stage in logs["stages"]}
    assert 8 * 10**7 < used["grows"]["memory"] < 3 * 10**8
    assert used["grows"]["cpu"] > 0.1
    assert used["grows"]["seconds"] > 1
    assert used["short"]["memory"] is None
    assert used["short"]["cpu"] >= 0
    plan = json.loads(project.run(["dvc-parallel", "plan", "-f", "--json"]).stdout)
    sizes = {one["stages"]: one["memory"] for one in plan["sizes"]}
    assert sizes["grows"] == used["grows"]["memory"]


@pytest.mark.slow
def test_failures_and_time_limits(make_project, slurm):
    project = make_project(
        dvc_yaml="""
        stages:
          fails: {cmd: "echo oh no; exit 7"}
          late: {cmd: sleep 300, meta: {parallel: {timeout: 0.2}}}
          flaky:
            cmd: test -e second || { touch second; exit 1; }
            meta: {parallel: {retries: 1}}
        """
    )
    result = project.dvc("repro", "-k", "--runner", "slurm", "-j", 3, check=False)
    assert "fails | oh no" in result.stdout
    assert "`exit 7`" in result.stderr or "exited with 7" in result.stderr
    assert "`sleep 300` timed out after 0.2 s" in result.stderr
    assert "1 ran, 2 failed" in result.stdout
    assert not left_of(project)


@pytest.mark.slow
def test_a_job_that_somebody_cancels(make_project, slurm):
    project = make_project(
        dvc_yaml="stages: {one: {cmd: touch begun; trap 'exit 0' TERM; sleep 300}}"
    )
    process = project.start("repro", "--runner", "slurm")
    project.wait_for("begun")
    (job,) = [line.split()[0] for line in slurm.jobs() if "RUNNING" in line]
    slurm.call("scancel", job)
    output = finish(process)
    assert process.returncode == 255
    assert f"Slurm job {job} was cancelled (CANCELLED)" in output


@pytest.mark.slow
def test_a_preempted_job_runs_once_more(make_project, slurm):
    project = make_project(
        dvc_yaml="""
        stages:
          one:
            cmd: "echo $SLURM_JOB_ID >> ../ids; test $(wc -l < ../ids) = 2 || sleep 300;
              echo done > out.txt"
            outs: [out.txt]
            meta: {parallel: {slurm: {partition: low, mem: 3000, nodelist: n1}}}
        """
    )
    process = project.start("repro", "--runner", "slurm")
    project.wait_for("../ids")
    slurm.call("sbatch", "--mem=3000", "--nodelist=n1", "-o/dev/null", "--wrap=true")
    output = finish(process)
    assert process.returncode == 0, output
    first, second = project.read("../ids").split()
    assert f"Slurm job {first} was preempted (PREEMPTED)" in output
    assert first != second


@pytest.mark.slow
def test_ctrl_c_cancels_jobs(make_project, slurm):
    project = make_project(
        dvc_yaml="stages: {one: {cmd: touch begun; trap '' INT; sleep 300}}"
    )
    process = project.start("repro", "--runner", "slurm")
    project.wait_for("begun")
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert "1 interrupted" in output
    assert not [line for line in slurm.jobs() if "RUNNING" in line]
    assert not left_of(project)


HELD = """
stages:
  before: {cmd: echo before >> runs; echo before > before.txt, outs: [before.txt]}
  one:
    cmd: "echo one >> runs; echo begun; touch begun;
      while ! test -e go; do sleep 0.1; done; echo ended; cat before.txt > one.txt"
    deps: [before.txt]
    outs: [one.txt]
  after:
    cmd: echo after >> runs; cat one.txt > after.txt
    deps: [one.txt]
    outs: [after.txt]
"""


@pytest.mark.parametrize(
    "how, args",
    [
        (signal.SIGKILL, ()),
        pytest.param(signal.SIGTERM, (), marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, (), marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, ("--detach",), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("when", ["while it runs", "after its end"])
def test_a_run_is_taken_up(make_project, slurm, how, args, when):
    project = make_project(dvc_yaml=HELD)
    process = project.start("repro", "--runner", "slurm", *args)
    project.wait_for("begun")
    process.send_signal(how)
    finish(process)
    assert process.returncode

    # others do not get in the way of the job
    result = project.dvc("repro", check=False)
    assert re.search(r"Slurm may run stage 'one' .*\(job \d+\)", result.stderr)

    project.write({"go": ""})
    if when == "after its end":
        wait_until(lambda: not [line for line in slurm.jobs() if "RUNNING" in line])
    result = project.dvc("repro", "--runner", "slurm")
    assert "one | begun\none | ended\n" in result.stdout
    assert project.read("runs").split() == ["before", "one", "after"]
    assert project.read("after.txt") == "before\n"
    assert not left_of(project)
    assert "Data and pipelines are up to date" in project.dvc("status").stdout


@pytest.mark.slow
def test_jobs_for_other_inputs_are_stopped(make_project, slurm):
    project = make_project(dvc_yaml=HELD)
    process = project.start("repro", "--runner", "slurm")
    project.wait_for("begun")
    process.kill()
    finish(process)

    text = project.read("dvc.yaml")
    project.write({"dvc.yaml": text.replace("before > b", "other > b"), "go": ""})
    (project.path / "go").unlink()
    process = project.start("repro", "--runner", "slurm")
    wait_until(lambda: project.read("runs").split().count("one") == 2)
    running = [line for line in slurm.jobs() if "RUNNING" in line]
    assert len(running) == 1
    project.write({"go": ""})
    output = finish(process)
    assert process.returncode == 0, output
    assert project.read("after.txt") == "other\n"


@pytest.mark.slow
def test_a_stage_with_another_name_waits_for_the_job(make_project, slurm):
    project = make_project(dvc_yaml=HELD)
    process = project.start("repro", "--runner", "slurm")
    project.wait_for("begun")
    process.kill()
    finish(process)
    text = project.read("dvc.yaml")
    project.write({"dvc.yaml": text.replace("  one:", "  other:")})
    result = project.dvc("repro", "--runner", "slurm", check=False)
    path = project.path / "one.txt"
    assert re.search(
        rf"Slurm may run stage 'one' .*, which writes to '{path}'", result.stderr
    )
    project.write({"go": ""})
    wait_until(lambda: not [line for line in slurm.jobs() if "RUNNING" in line])
    project.dvc("repro", "--runner", "slurm")
    assert project.read("runs").split() == ["before", "one", "one", "after"]


@pytest.mark.slow
def test_changed_outputs_are_made_anew(make_project, slurm):
    project = make_project(dvc_yaml=HELD)
    process = project.start("repro", "--runner", "slurm")
    project.wait_for("begun")
    process.kill()
    finish(process)
    project.write({"go": ""})
    wait_until(lambda: not [line for line in slurm.jobs() if "RUNNING" in line])
    project.write({"one.txt": "what the user has put there\n"})
    project.dvc("repro", "--runner", "slurm")
    assert project.read("after.txt") == "before\n"
    assert project.read("runs").split() == ["before", "one", "one", "after"]
