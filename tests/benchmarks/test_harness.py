import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmarks import __main__ as main
from benchmarks import harness, installs, project
from benchmarks.formats import make as makefile
from benchmarks.installs import Install, check_plugin, install
from benchmarks.model import LOG
from benchmarks.process import RunError
from benchmarks.results import Measured
from benchmarks.tools import OURS, SERIAL, tools
from benchmarks.workloads import big_and_small, cp_fan, deep_metrics, no_op
from tests import HANGS

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None, reason="projects are git repos"
)
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no GNU make")
DVC = Path(sys.executable).parent / "dvc"


def measure(workload, installs, tmp_path, limit=HANGS):
    return harness.measure(workload, installs, [4], 1, limit, tmp_path, print)


@pytest.fixture
def ours():
    if not DVC.exists():
        pytest.skip("no `dvc` next to this Python")
    done = subprocess.run(
        [DVC, "repro", "--help"], check=True, capture_output=True, text=True
    )
    if "--jobs" not in done.stdout:
        pytest.skip("the `dvc` next to this Python has no --jobs")
    return install(tools("")[OURS], DVC)


def test_ours_and_make(ours, tmp_path):
    installs = [ours]
    if shutil.which("make"):
        installs.append(install(tools("")["make"]))
    measured = measure(cp_fan(3), installs, tmp_path)
    assert [row.tool for row in measured.rows] == [OURS, "make"][: len(installs)]
    for row in measured.rows:
        assert row.errors == []
        assert len(row.seconds) == 1
        assert row.median > 0
    assert measured.bounds[4] > 0
    assert list(tmp_path.iterdir()) == []


def test_ours_cannot_pass_for_serial(ours, tmp_path):
    check_plugin(ours, ours.env(tmp_path))
    with pytest.raises(SystemExit, match="and has --jobs"):
        check_plugin(replace(ours, tool=tools("")[SERIAL]), ours.env(tmp_path))


@needs_make
def test_second_run(tmp_path):
    (row,) = measure(no_op(3), [install(tools("")["make"])], tmp_path).rows
    assert row.errors == []
    assert len(row.seconds) == 1


@needs_make
def test_delays(tmp_path):
    if sys.platform != "linux":
        pytest.skip("date cannot tell nanoseconds")
    (row,) = measure(big_and_small(1), [install(tools("")["make"])], tmp_path).rows
    assert row.errors == []
    assert 0 < row.start_delays[0] < row.seconds[0]


@needs_make
def test_what_a_tool_cannot_do_is_not_tried(tmp_path):
    (row,) = measure(deep_metrics(4), [install(tools("")["make"])], tmp_path).rows
    assert "params" in row.cannot
    assert row.seconds == row.errors == []


def test_no_room(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Mock(free=2**30))
    (row,) = measure(big_and_small(2**20), [false_tool()], tmp_path).rows
    assert row.cannot == "needs 3072 GiB of disk"


def false_tool(**changes):
    tool = replace(tools("")["make"], **changes)
    return Install(tool, Path("/bin"), "")


def test_a_tool_that_cannot_be_installed_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(installs, "VENVS", tmp_path / "venvs")
    # An unknown version, and a file that is no package: neither asks an index.
    wrong = str(tmp_path / "no-such-package.whl")
    said = []
    found = installs.install_all(
        [
            replace(tools("")["make"], name="gone", executable="no-such-program"),
            replace(tools("")["doit"], name="broken", requirements=[wrong]),
            tools("")[OURS],
        ],
        {OURS: DVC},
        said.append,
    )
    assert [str(each).partition(":")[0] for each in found[:2]] == [
        "no `no-such-program` on this machine",
        "cannot be installed",
    ]
    assert isinstance(found[2], Install)
    assert "left out: gone: no `no-such-program` on this machine" in said
    (line,) = [line for line in said if line.startswith("installing ")]
    assert line.startswith(f"installing broken: {wrong}, into {tmp_path}")


@needs_make
def test_tools_are_installed_when_they_are_needed(monkeypatch, tmp_path):
    """No sooner: what needs few tools does not wait for the others."""
    happened = []
    make = install(tools("")["make"])

    def ready(wanted, executables, say):
        happened.extend(tool.name for tool in wanted)
        gone = installs.NotAvailableError("cannot be installed: no network")
        return [make if tool.name == "make" else gone for tool in wanted]

    def measured(workload, ready, *_):
        happened.append([each.tool.name for each in ready])
        return Measured(workload.name, workload.size, "", 2, {}, [])

    monkeypatch.setattr(main, "install_all", ready)
    monkeypatch.setattr(main, "measure", measured)
    names = [["make"], ["make", "doit"], ["doit", "make"]]
    monkeypatch.setattr(
        main, "SUMMARY", [main.Part("cp-fan", [1], [1], n) for n in names]
    )
    results = main.run(main.parser().parse_args(["--summary"]))
    assert happened == ["make", ["make"], "doit", ["make"], ["make"]]
    missing = [[row.cannot for row in each.rows] for each in results.measured]
    assert missing == [[], *2 * [["cannot be installed: no network"]]]
    assert results.tools["doit"] == "not available: cannot be installed: no network"


def test_parts_of_the_summary():
    """Each is something that there is, and serial DVC has a limit that it can keep."""
    known = tools("")
    for part in main.parts(main.parser().parse_args(["--summary"])):
        assert part.workload in main.WORKLOADS
        assert set(part.tools) <= set(known)
    few = ["--summary", "--tools", "make", "--workloads", "cp-fan", "--rounds", "1"]
    chosen = main.parts(main.parser().parse_args(few))
    assert {(p.workload, *p.tools, p.rounds) for p in chosen} == {("cp-fan", "make", 1)}
    with pytest.raises(SystemExit, match="sizes"):
        main.parts(main.parser().parse_args(["--summary", "--sizes", "3"]))


@pytest.mark.parametrize(
    "command, limit, error",
    [
        (["true"], HANGS, "wrong result: no out/0.txt"),
        (["sleep", "600"], 1.0, "timed out after 1 s"),
        (["false"], HANGS, "`false` exited with 1: no output"),
    ],
)
def test_failures_stay_in_the_table(tmp_path, command, limit, error):
    tool = false_tool(commands=lambda _: [command])
    (row,) = measure(cp_fan(2), [tool], tmp_path, limit).rows
    assert row.errors == [error]
    assert row.seconds == []


def test_no_second_round_after_a_time_out(tmp_path):
    tool = false_tool(commands=lambda _: [["sleep", "600"]])
    measured = harness.measure(cp_fan(1), [tool], [4], 3, 0.5, tmp_path, print)
    assert measured.rows[0].errors == [
        "timed out after 0.5 s",
        "left out after a time-out",
        "left out after a time-out",
    ]


def test_what_takes_long_is_run_once(tmp_path):
    tools = [false_tool(commands=lambda _: [["make"]])]
    arguments = [cp_fan(1), tools, [4], 3, HANGS, tmp_path, print]
    for once, rounds in ((0.0, 1), (HANGS, 3)):
        (row,) = harness.measure(*arguments, once=once).rows
        assert row.errors == []
        assert len(row.seconds) == len(row.cpu) == rounds


def test_a_time_out_before_the_measured_run_says_nothing_about_it(tmp_path):
    tool = false_tool(commands=lambda _: [["sleep", "600"]])
    (row,) = measure(no_op(1), [tool], tmp_path, limit=0.5).rows
    assert row.errors == ["in the first run, not measured: timed out after 0.5 s"]
    assert not row.timed_out


def test_a_tool_that_was_too_slow_is_not_tried_with_more(tmp_path):
    arguments = [cp_fan(2), [false_tool()], [4], 1, HANGS, tmp_path, print]
    (row,) = harness.measure(*arguments, too_slow={("make", 4)}).rows
    assert row.cannot == "timed out with a smaller size"
    assert row.seconds == row.errors == []


def test_serial_dvc_finds_what_ours_has_left(monkeypatch, tmp_path):
    ran = []

    def run(commands, root, env, limit):
        ran.append(commands[0][0])
        raise RunError("enough")

    monkeypatch.setattr(harness, "run", run)
    installs = [
        Install(tools("")[name], tmp_path / name, "") for name in (SERIAL, OURS)
    ]
    measure(no_op(1), installs, tmp_path)
    assert ran == [str(tmp_path / OURS / "dvc")] * 2


def done_project(root, workload):
    project.create(root, workload, makefile(workload))
    for name, text in workload.expected.items():
        (root / name).write_text(text)
    (root / LOG).write_text("".join(f"{name}\n" for name in workload.ran))


def test_check(tmp_path):
    root, workload = tmp_path / "project", cp_fan(2)
    done_project(root, workload)
    project.check(root, workload, is_dvc=False)
    with pytest.raises(RunError, match=r"3 stages not in dvc\.lock"):
        project.check(root, workload, is_dvc=True)

    (root / LOG).write_text("copy@0\ncopy@0\ncopy@1\nmerge\n")
    with pytest.raises(RunError, match=r"4 commands ran \(3 different ones\)"):
        project.check(root, workload, is_dvc=False)
    done_project(tmp_path / "another", workload)
    (tmp_path / "another" / "all.txt").write_text("1\n0\n")
    with pytest.raises(RunError, match=r"all\.txt is not what it has to be"):
        project.check(tmp_path / "another", workload, is_dvc=False)


def test_nothing_of_the_users_gets_in(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "gpu=1")
    monkeypatch.setenv("MAKEFLAGS", "-j1")
    env = false_tool().env(tmp_path)
    assert not {"DVC_PARALLEL_POOLS", "MAKEFLAGS"} & set(env)
    assert env["PATH"].startswith("/bin:")
    assert env["HOME"] == str(tmp_path)


@needs_make
def test_stages_with_several_outputs(tmp_path):
    workload = deep_metrics(6)
    stages = [replace(stage, params=()) for stage in workload.stages]
    workload = replace(workload, definitions=stages)
    (row,) = measure(workload, [install(tools("")["make"])], tmp_path).rows
    assert row.errors == []
