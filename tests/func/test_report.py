"""``dvc-parallel report``, with the real command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from dvc_parallel.reporting.report.compare import PARTS
from tests import HANGS
from tests.support.journals import Journal
from tests.support.project import finish
from tests.support.traces import check_trace

TWO = """
    stages:
      a: {cmd: echo one; echo a > a.txt, outs: [a.txt]}
      b: {cmd: cat a.txt; exit 3, deps: [a.txt], outs: [b.txt]}
"""


def report(project, *args, **kwargs):
    return project.own("report", *args, **kwargs)


def path_of(link):
    return Path(unquote(urlsplit(link.strip()).path))


def runs(project):
    return project.path / ".dvc" / "tmp" / "parallel" / "runs"


@pytest.fixture
def recorded(make_project):
    """A project with the records of two runs."""
    project = make_project("with space")
    old = Journal({}, [1.0], names=["old"], id="20261120-083000-aaaa")
    old.write(runs(project))
    new = Journal(
        {1: [0]},
        [1.0, 2.0],
        names=["new", "bad"],
        failing=frozenset({1}),
        id="20261121-083000-bbbb",
    )
    folder = new.write(runs(project))
    (folder / "logs" / "0001-bad.log").write_bytes(b"no such \xff table\n")
    return project


def test_real_run(make_project):
    project = make_project(dvc_yaml=TWO)
    assert project.dvc("repro", "-j", "2", check=False).returncode == 255
    told = json.loads(report(project, "--json").stdout)
    assert told["state"] == "failed"
    assert told["outcomes"] == {"ran": 1, "failed": 1}
    steps = told["critical_path"]["steps"]
    assert [step["stage"] for step in steps] == ["a", "b"]
    assert [step["waited_for"] for step in steps] == ["start", "upstream"]
    assert 0 < told["critical_path"]["seconds"]["command"] < told["seconds"]
    text = path_of(report(project).stdout).read_text(encoding="utf-8")
    assert re.search(r"after .*s: `cat a.txt; exit 3` exited with 3<", text)
    assert "waiting for the repo lock</li>" in text
    assert told["failed"][0]["exit"] == 3
    assert '<pre tabindex="0">&gt; cat a.txt; exit 3\na</pre>' in text
    report(project, "-o", "trace.json")
    slices = check_trace(json.loads(project.read("trace.json")))
    assert [e["name"] for e in slices if e["cat"] == "stage" and e["tid"] == 1] == [
        "a",
        "b",
    ]


def test_pages_of_runs(recorded):
    path = path_of(report(recorded, "--run", "20261120-083000-aaaa").stdout)
    assert path.parent.name == "20261120-083000-aaaa"
    assert ">succeeded<" in path.read_text(encoding="utf-8")
    path = path_of(report(recorded).stdout)
    assert path == runs(recorded) / "20261121-083000-bbbb" / "report.html"
    text = path.read_text(encoding="utf-8")
    assert "<title>dvc repro -j 2 · 20261121-083000-bbbb</title>" in text
    assert ">failed<" in text
    assert "no such \ufffd table" in text
    assert "0001-bad.log" in text


@pytest.mark.parametrize("name", ["x/out.html", "x/OUT.HTM"])
def test_page_to_a_file(recorded, name):
    recorded.write({name: "old"})
    assert path_of(report(recorded, "-o", name).stdout) == recorded.path / name
    assert recorded.read(name).startswith("<!DOCTYPE html>")
    assert os.listdir(recorded.path / "x") == [name[2:]]


def test_the_page_of_a_run_is_written_again_until_it_ends(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          one: {cmd: "until [ -f go ]; do sleep 0.1; done; echo > 1", outs: ["1"]}
          two: {cmd: "echo 2; exit 3", deps: ["1"]}
        """
    )
    run = project.start("repro", "-j", "2")
    assert any("one | > until" in line for line in iter(run.stdout.readline, ""))
    follow = subprocess.Popen(
        [sys.executable, "-m", "dvc_parallel", "report", "--follow"],
        cwd=project.path,
        stdout=subprocess.PIPE,
        text=True,
    )
    path = path_of(follow.stdout.readline())
    renewal = '<meta http-equiv="refresh" content="3">'
    before = path.read_text(encoding="utf-8")
    assert renewal in before
    assert "is still running" in before
    project.write({"go": ""})
    finish(run)
    assert follow.wait(HANGS) == 0
    after = path.read_text(encoding="utf-8")
    assert "refresh" not in after.partition("<style>")[0]
    assert '<pre tabindex="0">&gt; echo 2; exit 3\n2</pre>' in after

    # What is over is written once.
    ended = report(project, "-f", "-o", "page.html")
    assert path_of(ended.stdout).read_text(encoding="utf-8") == after


def test_trace_to_a_file(recorded):
    report(recorded, "--out", "trace.json")
    trace = json.loads(recorded.read("trace.json"))
    names = {event["name"] for event in trace["traceEvents"] if event["ph"] == "X"}
    assert {"new", "bad", "command"} <= names
    assert trace["otherData"]["id"] == "20261121-083000-bbbb"


def test_json(recorded):
    shown = report(recorded, "--json").stdout
    told = json.loads(shown)
    assert told["id"] == "20261121-083000-bbbb"
    assert told["state"] == "failed"
    assert told["seconds"] == 3
    assert [s["stage"] for s in told["critical_path"]["steps"]] == ["new", "bad"]
    error = "failed to reproduce 'bad'"
    bad = {"stage": "bad", "seconds": 2, "exit": None, "error": error}
    assert told["failed"] == [bad]
    assert report(recorded, "--format=json").stdout == shown
    assert report(recorded, "-q").stdout == ""


def test_markdown(recorded):
    shown = report(recorded, "--format", "markdown").stdout
    assert shown.startswith("### dvc repro \\-j 2 failed\n")
    assert "<pre>\nno such \ufffd table\n</pre>" in shown


def test_two_runs_are_compared(make_project):
    """What got slower, by stage: the slowest first, and where."""
    project = make_project("compare")
    names = ["same", "code", "saves", "queued", "fails", "gone"]
    old, new = "20261120-083000-aaaa", "20261121-083000-bbbb"
    Journal({}, [1.0] * 6, jobs=6, names=names, id=old).write(runs(project))
    Journal(
        {3: [0]},
        [1.0, 4.0, 1.0, 1.5, 1.0, None],
        jobs=1,
        names=[*names[:5], "new"],
        failing=frozenset({4}),
        on_error="keep-going",
        save=0.25,
        id=new,
    ).write(runs(project))
    lines = report(project, "--compare", old).stdout.splitlines()
    assert lines[:2] == [
        f"Run {old}: ok, 1.0 s with 6 jobs",
        f"Run {new}: failed, 8.5 s with 1 job",
    ]
    rows = [re.split("  +", line) for line in lines[3:]]
    assert rows[:2] == [
        ["4 stages ran in both runs."],
        ["Stage", "Before", "Now", *(f"Change: {part}" for part in PARTS)],
    ]
    times = {row[0]: row[1:] for row in rows[2:6]}
    assert list(times)[-1] == "same"
    assert times["code"] == ["1.0 s", "4.2 s", "+1.0 s", "+3.0 s", "+0.2 s"]
    assert times["same"] == ["1.0 s", "1.2 s", "0.0 s", "0.0 s", "+0.2 s"]
    assert [row for row in rows[6:] if len(row) == 3] == [
        ["Stage", "Before", "Now"],
        ["fails", "ran", "failed"],
        ["new", "-", "unchanged"],
        ["gone", "ran", "-"],
    ]
    told = json.loads(report(project, "--compare", old, "--json").stdout)
    assert (told["before"]["id"], told["now"]["jobs"]) == (old, 1)
    by_name = {stage["stage"]: stage for stage in told["stages"]}
    assert by_name["code"]["change"] == {"queue": 1, "command": 3, "saving": 0.25}
    assert by_name["fails"]["change"] is None
    # NOTE: the other way round, and with a run that is named
    lines = report(project, "--run", old, "--compare", new).stdout.splitlines()
    assert lines[0].startswith(f"Run {new}: ")
    assert any(re.match("code .*-3.0 s", line) for line in lines)


def test_a_run_is_compared_with_the_last_that_did_something(recorded):
    idle = Journal({}, [None], names=["new"], id="20261122-083000-cccc")
    idle.write(runs(recorded))
    lines = report(recorded, "--compare", "20261120").stdout.splitlines()
    assert lines[1].startswith("Run 20261121-083000-bbbb: failed, ")


@pytest.mark.parametrize(
    "args, code, error",
    [
        (("--run", "x"), 255, r"'x'.*20261120-083000-aaaa, 20261121-083000-bbbb"),
        (("-o", "out.pdf"), 255, r"'out.pdf'.*\.html.*\.json"),
        (("-o", "out"), 255, r"'out'.*\.html.*\.json"),
        (("-o", "no/out.html"), 255, r"cannot write '.*no/out.html': No such file"),
        (("-o", "folder.html"), 255, r"cannot write '.*folder.html': Is a directory"),
        (("-o", "a.html", "--json"), 254, r"not allowed with"),
        (
            ("-o", "a.html", "--compare", "x"),
            255,
            r"--compare cannot be combined with --out",
        ),
        (
            ("--format", "markdown", "--compare", "x"),
            255,
            r"--compare cannot be combined with --format markdown",
        ),
        (("-f", "--json"), 255, r"--follow cannot be combined with --format"),
        (("-f", "--compare", "x"), 255, r"--follow cannot be combined with --compare"),
        (("-f", "-o", "a.json"), 255, r"--follow is for a page, not for .* 'a\.json'"),
        (("--compare", "x"), 255, r"'x'.*20261120-083000-aaaa"),
    ],
)
def test_errors(recorded, args, code, error):
    (recorded.path / "folder.html").mkdir()
    result = report(recorded, *args, check=False)
    assert re.search(f"^ERROR: .*{error}", result.stderr, re.MULTILINE), result.stderr
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert "dvc.org/support" not in result.stderr
