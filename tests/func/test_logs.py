"""``dvc-parallel logs``."""

import json
import re
import subprocess
import sys

import pytest

from dvc_parallel.reporting.records import Runs
from dvc_parallel.scheduling.durations import Durations
from tests import HANGS
from tests.support.capabilities import needs_keep_going
from tests.support.project import finish

DVC_YAML = """
    stages:
      one: {cmd: "echo first; echo 1 > one.txt", outs: [one.txt]}
      two: {cmd: "cat one.txt; echo problem; exit 3", deps: [one.txt]}
      three: {cmd: echo 3, deps: [two.txt]}
      quiet: {cmd: "true", deps: [one.txt]}
      four: {cmd: echo 2 > two.txt, deps: [four.txt], outs: [two.txt]}
      five: {cmd: "false", deps: [one.txt], outs: [four.txt]}
"""


@pytest.fixture
def project(make_project):
    return make_project("logs", DVC_YAML)


def logs(project, *args, check=True):
    return project.own("logs", *args, check=check)


@pytest.mark.parametrize("command", ["logs", "report", "watch"])
def test_there_is_no_run(project, command):
    result = project.own(command, check=False)
    assert result.returncode == 255
    assert result.stderr == (
        "ERROR: no run has been recorded yet; run `dvc repro` with more than one job\n"
    )
    assert project.own("--cd", "/", command, check=False).returncode == 253


@pytest.fixture
def ran(project):
    project.dvc("repro", "-j", 2, "two", "three", "quiet", check=False)
    project.dvc("repro", "-j", 2, "one")
    return project


def test_stages_and_logs_of_runs(ran):
    runs = json.loads(logs(ran, "--list", "--json").stdout)
    assert [run["state"] for run in runs] == ["failed", "ok"]
    first, second = (run["id"] for run in runs)
    table = logs(ran, "--list").stdout
    assert first in table
    assert "dvc repro -j 2 two three quiet" in table

    lines = logs(ran).stdout.splitlines()
    assert lines[0].startswith(f"Run {second}: ok, ")
    assert lines[1].split() == ["Stage", "State", "Time", "Log"]
    assert lines[2].split()[:2] == ["one", "unchanged"]
    assert lines[2].split()[-1] == "-"

    rows = [line.split() for line in logs(ran, "--run", first).stdout.splitlines()]
    states = {row[0]: (row[1], row[-1]) for row in rows[2:]}
    log = f".dvc/tmp/parallel/runs/{first}/logs/0000-one.log"
    assert states["one"] == ("ran", log)
    assert (ran.path / log).read_text() == ("> echo first; echo 1 > one.txt\nfirst\n")
    assert states["three"][1] == "-"
    assert logs(ran, "one", "--run", first).stdout == (ran.path / log).read_text()


def test_json(ran):
    first = json.loads(logs(ran, "--list", "--json").stdout)[0]["id"]
    run = json.loads(logs(ran, "--run", first, "--json").stdout)
    assert run["jobs"] == 2
    stages = {stage["name"]: stage for stage in run["stages"]}
    assert next(iter(stages)) == "one"
    assert stages["one"]["state"] == "ran"
    assert stages["one"]["seconds"] > 0
    failed = next(s for s in stages.values() if s["state"] == "failed")
    assert (failed["exit"], failed["signal"]) == (3, None)
    assert "exited with 3" in failed["error"]
    said = logs(ran, failed["name"], "--run", first).stderr
    cmd = failed["error"][len("failed to run: ") : -len(", exited with 3")]
    assert said == f"'{failed['name']}' failed: `{cmd}` exited with 3\n"
    one = json.loads(logs(ran, "one", "--run", first, "--json").stdout)
    assert one == {"version": 2, "run": first, **stages["one"]}


def test_outcomes_and_times_are_the_same_everywhere(make_project):
    """In what the run says, in `logs` and `report`, and in their JSON."""
    outcomes = {"same": "unchanged", "back": "restored", "runs": "ran"}
    outcomes.update(bad="failed", late="not run")
    project = make_project(
        "words",
        """
        stages:
          same: {cmd: echo same > same, outs: [same]}
          back: {cmd: cat in > back, deps: [in], outs: [back]}
          runs: {cmd: cat in > runs, deps: [in, back], outs: [runs]}
          bad: {cmd: exit 3, deps: [runs], outs: [bad]}
          late: {cmd: echo late, deps: [bad]}
        """,
    )
    for content in ("1", "2", "1"):
        project.write({"in": content})
        if content == "2":
            project.dvc("repro", "-j", 2, "same", "back")
        else:
            targets = ["same", "back"] if not project.exists("same") else []
            result = project.dvc("repro", "-j", 2, *targets, check=False)
    counts = "1 ran, 1 restored, 1 unchanged, 1 failed, 1 not run"
    told = re.search(
        rf"5 stages: {counts}; (\S+ s) of stage time in (\S+ s)", result.stdout
    )
    run = json.loads(logs(project, "--json").stdout)
    assert run["version"] == 2
    assert {stage["name"]: stage["state"] for stage in run["stages"]} == outcomes
    assert f"{run['seconds']:.1f} s" == told[2]
    busy = sum(stage["seconds"] or 0 for stage in run["stages"])
    assert abs(busy - float(told[1][:-2])) < 0.06
    header, _, *rows = logs(project).stdout.splitlines()
    assert header.endswith(f": failed, {told[2]}")
    columns = [re.split(r"  +", row) for row in rows]
    assert {column[0]: column[1] for column in columns} == outcomes
    assert {column[0]: column[2] for column in columns} == {
        stage: "3" if stage == "bad" else "-" for stage in outcomes
    }

    report = json.loads(project.own("report", "--json").stdout)
    assert report["version"] == 2
    assert report["outcomes"] == dict.fromkeys(outcomes.values(), 1)
    assert abs(report["seconds"] - run["seconds"]) < 0.001
    assert abs(report["busy"] - busy) < 0.01
    project.own("report", "-o", "page.html")
    page = project.read("page.html")
    assert f"<small>{counts}</small>" in page
    data = json.loads(re.search(r'<script type="application/json".*?>(.*)</s', page)[1])
    assert {row[0]: row[1] for row in data["stages"]} == outcomes


def test_a_restored_stage_keeps_its_time_for_the_next_plan(make_project):
    project = make_project(
        "times", "stages: {a: {cmd: cat in > a, deps: [in], outs: [a]}}"
    )
    durations = Durations(str(project.path / ".dvc" / "tmp"))
    for content in ("1", "2", "1"):
        project.write({"in": content})
        if content == "1" and project.exists("a"):
            durations.save({"a": 100})
        project.dvc("repro", "-j", 2)
    assert durations.load() == {"a": 100}


def test_a_stage_that_printed_nothing(ran):
    ran.dvc("repro", "-j", 2, "-f", "quiet")
    result = logs(ran, "quiet")
    assert result.stdout == ""
    assert result.stderr == "'quiet' has printed nothing: ran\n"


def test_the_last_run_that_ran_a_stage(ran):
    """Not the last run, in which nothing has changed."""
    first, last = json.loads(logs(ran, "--list", "--json").stdout)
    result = logs(ran, "one")
    assert result.stdout == "> echo first; echo 1 > one.txt\nfirst\n"
    assert result.stderr == f"from run {first['id']}, the last one that ran it\n"
    assert json.loads(logs(ran, "one", "--json").stdout)["run"] == first["id"]
    result = logs(ran, "one", "--run", last["id"])
    assert result.stdout == ""
    assert result.stderr == "'one' has printed nothing: unchanged\n"
    shown = logs(ran, "--failed").stdout
    assert "=== two\n> cat one.txt; echo problem; exit 3\n1\nproblem\n" in shown


@needs_keep_going
def test_groups_and_failures(make_project):
    project = make_project(
        "group",
        """
        stages:
          train:
            foreach: [a, b]
            do: {cmd: "echo in ${item}; printf '1%%\\\\r2%%'; test ${item} = a"}
          trainer: {cmd: echo no}
          silent: {cmd: exit 4}
        """,
    )
    project.dvc("repro", "-j", 2, "-k", check=False)
    one = "> echo in {0}; printf '1%%\\r2%%'; test {0} = a\nin {0}\n1%\n2%\n"
    both = [f"=== train@{item}\n{one.format(item)}" for item in "ab"]
    result = logs(project, "train")
    assert result.stdout == "".join(both)
    assert "'train@b' failed: `echo in b; " in result.stderr
    result = logs(project, "--failed")
    assert result.stdout == f"{both[1]}=== silent\n"
    assert "'silent' failed: `exit 4` exited with 4\n" in result.stderr
    shown = json.loads(logs(project, "--failed", "--json").stdout)
    assert [stage["name"] for stage in shown["stages"]] == ["train@b", "silent"]
    followed = logs(project, "-f").stdout
    lines = one.replace("1%\n", "").format("a").splitlines()
    assert followed.startswith("".join(f"train@a | {line}\n" for line in lines))
    assert followed.endswith("trainer | > echo no\ntrainer | no\n")
    of_group = followed.partition("trainer | ")[0]
    assert logs(project, "-f", "train").stdout == of_group


def test_a_stage_that_did_not_run(make_project):
    project = make_project(
        "did-not-run",
        """
        stages:
          check: {cmd: exit 3, outs: [check.txt]}
          publish: {cmd: echo, deps: [check.txt]}
        """,
    )
    project.dvc("repro", "-j", 2, check=False)
    for args in ([], ["-f"]):
        result = logs(project, "publish", *args, check=False)
        assert result.returncode == 255
        assert re.search(
            r"'publish' did not run in run \S+: 'check', which it depends on, failed\n",
            result.stderr,
        )


@pytest.mark.parametrize(
    "args, error",
    [
        (["on"], "has no stage 'on'; it has one"),
        (["--run", "x"], "there is no run 'x'; there are 2"),
        (["--follow", "--json"], "--follow cannot be combined with --json"),
        (["--failed", "one"], "--failed cannot be combined with a stage"),
        (["--list", "one"], "--list can only be combined with --json"),
    ],
)
def test_errors(ran, args, error):
    result = logs(ran, *args, check=False)
    assert result.returncode == 255
    assert error in result.stderr


@pytest.fixture
def running(make_project):
    """A stage that goes on until it is told to end."""
    project = make_project(
        "running",
        """
        stages:
          a: {cmd: "echo begin; until [ -f go ]; do sleep 0.1; done; echo end"}
          b: {cmd: "until [ -f end ]; do sleep 0.1; done; printf last"}
        """,
    )
    process = project.start("repro", "-j", 2)
    # NOTE: `logs` does not need the repo, which the run has while it starts
    while "begin\n" not in logs(project, "a", check=False).stdout:
        assert process.poll() is None
    yield project, process
    project.write({"go": "", "end": ""})
    finish(process)


def followed(project, *args):
    """``logs --follow``, and what it prints as it comes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc_parallel", "logs", "-f", *args],
        cwd=project.path,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, iter(process.stdout.readline, "")


def test_beside_a_run(running):
    project, _ = running
    assert "running," in logs(project).stdout.splitlines()[0]
    follow, lines = followed(project, "a")
    assert "begin\n" in lines
    project.write({"go": ""})
    # NOTE: the run goes on
    assert list(lines) == ["end\n"]
    assert follow.wait(HANGS) == 0


def test_all_of_a_run_is_followed_to_its_end(running):
    project, process = running
    follow, lines = followed(project)
    assert "a | begin\n" in lines
    project.write({"go": ""})
    assert next(lines) == "a | end\n"
    assert follow.poll() is None
    project.write({"end": ""})
    finish(process)
    assert list(lines)[-1] == "b | last\n"
    assert follow.wait(HANGS) == 0


def test_a_run_that_was_killed(running):
    project, process = running
    process.kill()
    process.wait()
    result = logs(project, "-f", "a")
    assert result.stdout.endswith("begin\n")
    project.write({"go": "", "end": ""})
    lines = logs(project).stdout.splitlines()
    assert "killed" in lines[0]
    assert lines[2].split()[:2] == ["a", "interrupted"]
    run = Runs(str(project.path / ".dvc" / "tmp")).load()
    assert run.end is None


def test_our_own_commands_send_no_analytics(ran, mocker, monkeypatch):
    from dvc import analytics

    from dvc_parallel.commands import cli

    mocker.patch.object(cli, "_unknown", return_value=None)
    main = mocker.patch("dvc.cli.main")
    for name in ("DVC_NO_ANALYTICS", "DVC_TEST"):
        monkeypatch.delenv(name, raising=False)
    cli.main(["repro", "logs"])
    assert analytics.is_enabled()
    monkeypatch.setenv("DVC_NO_ANALYTICS", "")
    cli.main(["--cd", "x", "logs"])
    assert not analytics.is_enabled()
    assert main.call_count == 2


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(project, shell):
    script = project.own("completion", "-s", shell).stdout
    assert "_shtab_dvc_parallel" in script
    if shell == "bash":
        assert "report___out_COMPGEN=_shtab_compgen_files" in script
    assert "--follow" in script
    assert "--output" in script


@needs_keep_going
def test_much_output_is_kept_in_part(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          much: {cmd: "seq 1000000; exit 3"}
          some: {cmd: "seq 10"}
        """
    )
    project.dvc("config", "--local", "core.parallel_log_size", "100k")
    result = project.dvc("repro", "-j", 2, "-k", "--output", "none", check=False)
    assert "\n    | 1000000\n" in result.stderr
    folder = next(project.path.glob(".dvc/tmp/parallel/runs/*/logs"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 102_400 + 100
    shown = logs(project, "much").stdout.splitlines()
    assert shown[:3] == ["> seq 1000000; exit 3", "1", "2"]
    (line,) = (line for line in shown if line.startswith("["))
    assert re.fullmatch(r"\[6\.. MiB omitted: see core.parallel_log_size\]", line)
    assert shown[-1] == "1000000"
