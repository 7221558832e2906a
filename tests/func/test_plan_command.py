"""``dvc-parallel plan``: it says what serial DVC then runs, and changes nothing."""

import json
import os
import re
import shutil
from itertools import count

import pytest
from dvc.exceptions import ReproductionError
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from dvc_parallel.commands.dry_run import DryRun
from dvc_parallel.commands.forecast import earlier_times, last_runs
from dvc_parallel.scheduling.durations import Durations
from tests.support.capabilities import GOES_IN_ORDER, HAS_KEEP_GOING
from tests.support.journals import Journal
from tests.support.project import Project
from tests.support.random_project import pipelines

EXAMPLES = int(os.environ.get("DVC_PARALLEL_EXAMPLES", "15"))
numbers = count()
OLD = "20260101-000000-aaaa"

CHAIN = """
    stages:
      one: {cmd: cat in.txt > one.txt, deps: [in.txt], params: [x], outs: [one.txt]}
      two: {cmd: cat one.txt > two.txt, deps: [one.txt], outs: [two.txt]}
      left: {cmd: cat two.txt > left.txt, deps: [two.txt], outs: [left.txt]}
      right: {cmd: cat two.txt > right.txt, deps: [two.txt], outs: [right.txt]}
      always: {cmd: echo a > always.txt, always_changed: true, outs: [always.txt]}
"""
FILES = {"in.txt": "1\n", "params.yaml": "x: 1\n"}


def plan(project, *args, **kwargs):
    return project.own("plan", *args, **kwargs)


def plan_json(project, *args):
    return json.loads(plan(project, "--json", *args).stdout)


def why(project, *args):
    return {
        stage["name"]: (
            stage["runs"],
            [tuple(reason.values()) for reason in stage["reasons"]],
        )
        for stage in plan_json(project, *args)["stages"]
    }


@pytest.fixture
def chain(make_project):
    return make_project(dvc_yaml=CHAIN, files=FILES)


@pytest.fixture
def done(chain):
    chain.reproduce(jobs=2)
    return chain


ALWAYS = {"always": ("yes", [("always changed",)])}
BEHIND_TWO = {name: ("maybe", [("upstream", "two")]) for name in ("left", "right")}


def test_nothing_has_run(chain):
    names = ("one", "two", "left", "right", "always")
    assert why(chain) == dict.fromkeys(names, ("yes", [("never run",)]))
    # NOTE: what has never run cannot be pulled
    assert why(chain, "--pull") == why(chain)


def test_all_is_up_to_date(done):
    assert plan(done, "left").stdout == "Everything is up to date (3 stages).\n"
    seen = plan_json(done)
    assert [stage["name"] for stage in seen["stages"]] == ["always"]
    assert set(seen["up_to_date"]) == {"one", "two", "left", "right"}


def test_reasons(done):
    done.write({"params.yaml": "x: 2\n", "in.txt": "2\n"})
    (done.path / "right.txt").unlink()
    changed = ("dependency", "in.txt", "modified")
    assert why(done) == {
        "one": ("yes", [changed, ("param", "x", "modified", "params.yaml")]),
        "two": ("maybe", [("upstream", "one")]),
        "left": ("maybe", [("upstream", "two")]),
        "right": ("yes", [("output", "right.txt", "deleted")]),
        **ALWAYS,
    }


def test_an_output_that_is_gone_may_come_back_as_it_was(done):
    (done.path / "one.txt").unlink()
    assert why(done) == {
        "one": ("yes", [("output", "one.txt", "deleted")]),
        "two": ("maybe", [("dependency", "one.txt", "deleted"), ("upstream", "one")]),
        **BEHIND_TWO,
        **ALWAYS,
    }
    assert done.reproduce() == ["one", "always"]


def test_changed_command(done):
    text = done.read("dvc.yaml").replace("cat one.txt", "cat one.txt one.txt")
    done.write({"dvc.yaml": text})
    assert why(done) == {"two": ("yes", [("command",)]), **BEHIND_TWO, **ALWAYS}


def test_options_of_repro(done):
    forced = ("yes", [("forced",)])
    assert why(done, "--force", "two") == {"one": forced, "two": forced}
    assert why(done, "-f", "-s", "left") == {"left": forced}
    assert why(done, "-f", "--downstream", "two") == dict.fromkeys(
        ["two", "left", "right"], forced
    )
    assert {*why(done, "-f", "--glob", "*t")} == {"one", "two", "left", "right"}
    assert list(why(done, "-P")) == ["always"]
    done.write({"in.txt": "2\n"})
    assert why(done, "--force-downstream", "two")["two"] == forced
    assert why(done, "-s", "one", "two")["two"] == ("maybe", [("upstream", "one")])


def test_missing_data(done):
    for name in ("one.txt", "left.txt"):
        (done.path / name).unlink()
    if HAS_KEEP_GOING:  # before, --allow-missing does not mean the workspace
        assert why(done, "--allow-missing") == ALWAYS
        assert why(done, "--pull") == ALWAYS


def test_a_data_source_that_changed_is_not_written_by_a_run(make_project):
    project = make_project(
        dvc_yaml="""
            stages:
              use: {cmd: cat data > used, deps: [data], outs: [used]}
              sum: {cmd: cat used > sum, deps: [used], outs: [sum]}
        """,
        files={"data": "1\n"},
    )
    project.dvc("add", "data")
    project.reproduce(jobs=2)
    (project.path / "data").unlink()
    project.write({"data": "2\n"})
    assert why(project) == {
        "data.dvc": ("yes", [("output", "data", "modified")]),
        "use": ("yes", [("dependency", "data", "modified")]),
        "sum": ("maybe", [("upstream", "use")]),
    }


@pytest.mark.parametrize("args", [[], ["--force", "--json"], ["-s", "right"]])
def test_nothing_is_run_or_changed(done, args):
    done.write({"in.txt": "2\n"})
    (done.path / "two.txt").unlink()
    locks = done.path / ".dvc" / "tmp" / "rwlock"
    locks.unlink(missing_ok=True)
    before = done.everything()
    plan(done, *args)
    assert done.everything() == before
    assert not locks.exists()


def test_paths_that_another_process_writes_to(done):
    path = str(done.path / "one.txt")
    lock = {"write": {path: {"pid": os.getpid(), "cmd": "other"}}, "read": {}}
    done.write({".dvc/tmp/rwlock": json.dumps(lock)})
    result = plan(done, check=False)
    assert result.returncode == 255
    assert "cannot plan the run" in result.stderr
    assert "one.txt' is busy" in result.stderr
    assert json.loads(done.path_locks()) == lock

    readers = {"write": {}, "read": {path: [{"pid": os.getpid(), "cmd": "other"}]}}
    done.write({".dvc/tmp/rwlock": json.dumps(readers)})
    plan(done)


def test_times_and_order(done):
    Durations(str(done.path / ".dvc" / "tmp")).save(
        {"one": 1, "two": 10, "left": 2, "right": 7, "always": 3}
    )
    seen = plan_json(done, "-f", "-j", "2")
    assert [(s["name"], s["start"], s["critical"]) for s in seen["stages"]] == [
        ("one", 0, True),
        ("always", 0, False),
        ("two", 1, True),
        ("right", 11, True),
        ("left", 11, False),
    ]
    assert seen["critical_path"] == {"stages": ["one", "two", "right"], "seconds": 18}
    assert seen["jobs"] == 2
    assert seen["width"] == 2
    assert [tuple(speed.values()) for speed in seen["speeds"]] == [
        (1, 23, 1, 1),
        (2, 18, 1.278, 1.278),
    ]
    assert not any(stage["guessed"] for stage in seen["stages"])


def test_single_items_go_one_after_the_other(done):
    seen = plan_json(done, "-f", "-s", "-j", "4", "left", "right")
    assert seen["jobs"] == 1
    assert seen["width"] == 1


def test_the_number_of_jobs(done):
    done.dvc("config", "--local", "core.parallel_jobs", "3")
    assert plan_json(done)["jobs"] == 3
    result = plan(done, "-j", "0", check=False)
    assert result.returncode == 254
    assert "expected a positive integer or 'auto', got '0'" in result.stderr


def test_text(done):
    (done.path / "right.txt").unlink()
    done.write({"in.txt": "2\n"})
    lines = plan(done, "-j", "2", "right").stdout.splitlines()
    assert lines[0] == "2 to run, 1 may run, 0 up to date."
    assert re.match(r"About \S+ s with 2 jobs, \S+ s with 1\. More jobs do", lines[1])
    assert "No two stages can run at the same time." in lines
    assert any(line.split()[-2:] == ["after", "one"] for line in lines)
    (path,) = (line for line in lines if line.endswith("one > two > right"))
    # NOTE: there may be thousands of stages
    assert lines.index(path) < lines.index(next(x for x in lines if "why" in x))


def test_what_dvc_itself_takes_is_by_the_records_of_runs(tmp_path):
    runs = tmp_path / "parallel" / "runs"
    first = [0.02, 60.0, 0.02]
    names = ["short", "long", "gone"]
    Journal({}, first, names=names, check=0.1, save=0.3, id=OLD).write(runs)
    last = [0.05, 70.0, None]
    Journal({}, last, names=[*names[:2], "same"], check=0.2, save=0.3).write(runs)
    repo, least = earlier_times(last_runs(str(tmp_path)), ["short", "long", "new"])
    owned = pytest.approx((0.2, 0.3))
    assert repo.running == {"short": owned, "long": owned, "new": owned}
    assert repo.unchanged == 0.2
    assert least == {"short": pytest.approx(0.52), "long": pytest.approx(60.5)}


def test_many_short_stages_take_what_dvc_itself_takes(make_project):
    """However many jobs there are; one after the other, they take a little more."""
    count = 40
    names = [f"s{number}" for number in range(count)]
    stages = "".join(f"  {name}: {{cmd: echo}}\n" for name in names)
    project = make_project(dvc_yaml=f"stages:\n{stages}")
    runs = project.path / ".dvc" / "tmp" / "parallel" / "runs"
    journal = Journal({}, [0.05] * count, names=names, check=0.1, save=0.1)
    journal.write(runs)
    lines = plan(project, "-f", "-j", "16").stdout.splitlines()
    assert lines[1] == (
        "About 8.0 s with 16 jobs, 10.0 s with 1. More than 2 jobs do not help: DVC "
        "itself takes 8.0 s, for one stage at a time. Fewer and longer stages do."
    )
    # NOTE: numbers of jobs that do not help are not shown, but for the one asked for
    rows = lines[lines.index("") + 2 :]
    assert [row.split()[0] for row in rows[: rows.index("")]] == ["1", "2", "16"]
    seen = plan_json(project, "-f")
    assert seen["error"] is None
    assert seen["repo_seconds"] == 8
    assert all(speed["seconds"] >= 8 for speed in seen["speeds"])


@pytest.mark.parametrize("args", [[], ["--dot"], ["--mermaid"]])
def test_controls_are_seen_and_do_nothing(make_project, args):
    project = make_project(
        dvc_yaml=r"""
            stages:
              "a\ec": {cmd: echo}
              b: {cmd: echo, deps: ["in\u009b2J"]}
        """,
        files={"in\x9b2J": "1\n"},
    )
    project.reproduce(targets="b")
    project.write({"in\x9b2J": "2\n"})
    shown = plan(project, *args).stdout
    assert r"a\x1bc" in shown
    assert re.search(r"changed dependency in\\{1,2}x9b2J", shown)
    assert not re.search(r"[\x1b\x9b]", shown)


def test_text_after_a_stage_has_failed(make_project):
    """It is not recorded; that is not to say that it has never run."""
    project = make_project(
        "failed",
        """
        stages:
          good: {cmd: echo > a, outs: [a]}
          bad: {cmd: exit 3, outs: [b]}
          new: {cmd: echo, outs: [c]}
        """,
    )
    project.dvc("repro", "-j", "1", "good", "bad", check=False)
    Durations(str(project.path / ".dvc" / "tmp")).save({"good": 2, "bad": 2})
    lines = plan(project, "-j", "2").stdout.splitlines()
    assert any(line.endswith("  bad      not in dvc.lock") for line in lines)
    assert lines[-1] == "~ no earlier time: the median of the other stages is used"


def test_markdown(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          m:
            foreach: ["|x|", "[a](b)"]
            do: {cmd: "echo '${item}'"}
        """
    )
    lines = plan(project, "--format", "markdown").stdout.splitlines()
    assert lines[0] == "### Plan: 2 to run, 0 may run, 0 up to date."
    rows = [line for line in lines if line.startswith("|")]
    assert {row.count("|") - row.count("\\|") for row in rows[-4:]} == {6}
    assert any("m\\@\\|x\\|" in row for row in rows)
    assert any("m\\@\\[a\\]\\(b\\)" in row for row in rows)
    assert "\\* on the critical path" in lines


def test_dot(done):
    done.write({"in.txt": "2\n"})
    dot = plan(done, "--dot").stdout
    assert '"one" [label="one\\nchanged dependency in.txt", penwidth=3];' in dot
    assert '"one" -> "two";' in dot
    assert "style=dashed" in dot


def test_mermaid(done):
    done.write({"in.txt": "2\n"})
    lines = plan(done, "--mermaid").stdout.splitlines()
    assert lines[0] == "flowchart TD"
    ids = {line.split('["')[1].split("<br>")[0]: line for line in lines if "[" in line}
    one, two = (ids[name].strip().split("[")[0] for name in ("one", "two"))
    assert f"\t{one}-->{two}" in lines
    marked = {
        line.split()[2]: line.split()[1]
        for line in lines
        if line.startswith("\tclass ")
    }
    assert one in marked["critical"].split(",")
    assert two in marked["maybe"].split(",")


FLAGS = st.fixed_dictionaries(
    {},
    optional={
        "force": st.just(True),
        "force_downstream": st.just(True),
        "single_item": st.just(True),
        "pipeline": st.just(True),
    },
)


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES,
    phases=[phase for phase in Phase if phase is not Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), jobs=st.integers(1, 4))
def test_random_projects(tmp_path, data, jobs):
    pipeline = data.draw(pipelines())
    project = Project(tmp_path / f"plan{next(numbers)}")
    for number in range(data.draw(st.integers(2, 3))):
        pipeline.write_to(project, frozen=number > 0)
        kwargs = data.draw(FLAGS)
        names = [step.name for step in pipeline.steps]
        targets = data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
        if targets:
            kwargs["targets"] = targets
            kwargs["downstream"] = data.draw(st.booleans())
        elif not GOES_IN_ORDER:
            kwargs.pop("pipeline", None)  # needs a target
        note(f"reproduce({kwargs})")

        with project.repo() as repo:
            steps = DryRun.of(repo, jobs=jobs, **kwargs).steps
        certain = {step.stage.addressing for step in steps if step.certain}
        possible = {step.stage.addressing for step in steps if step.runs}
        try:
            ran = project.reproduce(**kwargs)
        except ReproductionError:  # with some targets, an input is missing
            break
        assert certain <= set(ran) <= possible
        in_order = [s.stage.addressing for s in steps if s.stage.addressing in ran]
        assert in_order == ran

        changed = data.draw(st.sampled_from(["in0.txt", "in1.txt", "one/readme"]))
        removed = data.draw(st.sampled_from([None, *pipeline.steps]))
        note(f"changed {changed}, removed {removed}")
        project.write({changed: f"{changed}, {number}\n"})
        if removed and removed.out and project.exists(removed.out):
            path = project.path / removed.out
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(project.path)


POOLS = """
    stages:
      late: {cmd: echo a > a.txt, outs: [a.txt], meta: {parallel: {pools: [db]}}}
      first:
        cmd: echo b > b.txt
        outs: [b.txt]
        meta: {parallel: {pools: [db], priority: 1}}
      free: {cmd: echo c > c.txt, outs: [c.txt]}
"""


def test_data_that_no_command_makes(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          one: {cmd: cp data one, deps: [data], outs: [one]}
          kept: {cmd: echo > kept, outs: [kept], frozen: true}
        """,
        files={"data": "1"},
    )
    project.dvc("add", "-q", "data")
    (project.path / "data").unlink()
    line = "the run fails at data.dvc, kept: data is missing that no command makes"
    assert line in plan(project, "-j", 2).stdout
    for name in ("data.dvc", "kept"):
        error = project.dvc("repro", "-j", 2, "-s", name, check=False).stderr
        assert f"failed to reproduce '{name}'" in error
    project.write({"data": "1", "kept": ""})
    assert "the run fails" not in plan(project, "-j", 2).stdout


def test_stages_wait_for_pools_and_go_by_priority(make_project, monkeypatch):
    project = make_project("pools", POOLS)

    def starts(jobs):
        stages = plan_json(project, "-j", jobs)["stages"]
        return {stage["name"]: stage["start"] for stage in stages}

    assert starts("4") == {"first": 0, "free": 0, "late": 1}
    # NOTE: with one job, DVC goes through them by itself
    assert starts("1") == {"late": 0, "first": 1, "free": 2}
    assert [speed["jobs"] for speed in plan_json(project)["speeds"]] == [1, 2]

    monkeypatch.setenv("DVC_PARALLEL_POOLS", "db=2")
    assert {s["start"] for s in plan_json(project, "-j", "4")["stages"]} == {0}


def test_stages_that_ask_for_more_than_there_is(make_project, monkeypatch):
    project = make_project("pools", POOLS)
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "db=0")
    message = "takes 1 of 'db', but its size is 0"
    result = plan(project, "-j", "2", check=False)
    assert result.returncode == 255
    assert message in result.stderr
    # NOTE: DVC by itself does not look at it, but tells no speed-up either
    result = plan(project)
    first, about, empty, head, *rows = result.stdout.splitlines()
    assert first == "3 to run, 0 may run, 0 up to date."
    said = r"About \S+ s with 1 job\. With more, it cannot run: see the warning\."
    assert re.fullmatch(said, about)
    assert (empty, head.split()) == ("", ["start", "takes", "stage", "why"])
    assert len(rows) == 3 + 2
    assert rows[-1].startswith("~ ")
    assert "with more than one job, this is an error: stage '" in result.stderr
    assert message in result.stderr
    seen = plan_json(project)
    assert [speed["jobs"] for speed in seen["speeds"]] == [1]
    assert message in seen["error"]
    assert seen["critical_path"]["stages"] == []
    assert not any(stage["critical"] for stage in seen["stages"])
    assert project.dvc("repro", "-j", 1).stdout.count("Running stage") == 3


def test_pools_that_workers_may_have(make_project, monkeypatch):
    project = make_project(
        "workers",
        """
        stages:
          each:
            foreach: [a, b]
            do: {cmd: "true", meta: {parallel: {pools: {gpu: 2}, workers: [lab-*]}}}
        """,
    )
    assert plan(project, "-j", "2", check=False).returncode == 255
    monkeypatch.setenv("DVC_PARALLEL_RUNNER", "dask://127.0.0.1:9")
    result = plan(project, "-j", "2")
    assert "the workers of 'dask://127.0.0.1:9' were not asked" in result.stdout
    seen = plan_json(project, "-j", "2")
    assert seen["runner"] == "dask://127.0.0.1:9"
    assert [stage["start"] for stage in seen["stages"]] == [0, 0]
