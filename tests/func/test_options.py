"""Options of ``dvc repro`` mean what they mean in serial DVC."""

import os
import sys
import threading

import pytest
from dvc.dependency.base import Dependency
from dvc.exceptions import ReproductionError

from tests.support.capabilities import GOES_IN_ORDER, HAS_MATRIX, needs_order
from tests.support.fault_runs import in_any_order
from tests.support.project import assert_same

PYTHON = sys.executable


MATRIX = """\
matrix: {x: [1, 2], y: [c]}, cmd: 'echo ${item.x} > ${item.x}${item.y}.json',
             deps: [a.out], metrics: ['${item.x}${item.y}.json'], plots: []"""


FOREACH = """\
foreach: [1, 2], do: {cmd: 'echo ${item} > ${item}.json', deps: [a.out],
             metrics: ['${item}.json']}"""


@pytest.mark.parametrize(
    "args",
    [
        ["--glob", "part@*"],
        ["-R", "sub"],
        ["-p", "part@a"],
        ["-P"],
        ["--downstream", "part@b"],
        ["--no-commit"],
        ["--no-run-cache", "-f"],
        ["-q"],
        ["-v"],
        ["sub/dvc.yaml:inner"],
        ["--force-downstream"],
    ],
)
def test_options_mean_what_they_mean_in_serial(twins, args):
    dvc_yaml = """
        vars: [{names: [a, b]}]
        stages:
          part:
            foreach: ${names}
            do:
              cmd: cat in > ${item}.out
              deps: [in]
              params: [lr]
              outs: ["${item}.out"]
          grid: {GRID}
          callback: {cmd: "true"}
    """
    files = {
        "in": "1",
        "params.yaml": "lr: 1\n",
        "sub/dvc.yaml": """
stages:
  inner: {cmd: cat ../b.out > i.out, deps: [../b.out], outs: [i.out]}
""",
    }
    dvc_yaml = dvc_yaml.replace("GRID", MATRIX if HAS_MATRIX else FOREACH)
    projects = twins(dvc_yaml, files)
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    for text in ("1", "2"):
        for project, jobs in zip(projects, ([], ["-j", 3])):
            project.write({"in": text})
            with_missing_inputs = args[0] in ("-R", "sub/dvc.yaml:inner")
            if with_missing_inputs:
                project.dvc("repro", "part@b")
            project.dvc("repro", *args, *jobs, env=env)
        if GOES_IN_ORDER:
            assert_same(*projects)
        else:
            serial, parallel = map(in_any_order, projects)
            assert parallel == serial


@needs_order
def test_a_single_item_stays_sequential_and_in_the_order_given(twins):
    dvc_yaml = """
        stages:
          a: {cmd: "cat b.txt > a.txt", deps: [b.txt], outs: [a.txt]}
          b: {cmd: "echo b >> b.txt", outs: [{b.txt: {persist: true}}]}
    """
    serial, parallel = twins(dvc_yaml, {"b.txt": "old\n"})
    kwargs = {"targets": ["a", "b"], "single_item": True}
    assert serial.reproduce(**kwargs) == parallel.reproduce(jobs=4, **kwargs)
    assert_same(serial, parallel)
    assert parallel.read("a.txt") == "old\n"


def test_several_targets_downstream_in_the_order_of_dvc(twins):
    dvc_yaml = """
        stages:
          c: {cmd: cat b > c, deps: [b], outs: [c]}
          b: {cmd: cat a > b, deps: [a], outs: [b]}
          a: {cmd: cat in > a, deps: [in], outs: [a]}
          d: {cmd: cat a > d, deps: [a], outs: [d]}
    """
    projects = twins(dvc_yaml, {"in": "1"})
    for project, jobs in zip(projects, (None, 3)):
        project.reproduce(jobs=jobs)
        project.write({"in": "2"})
    serial, parallel = projects
    kwargs = {"targets": ["b", "a"], "downstream": True}
    assert parallel.reproduce(jobs=3, **kwargs) == serial.reproduce(**kwargs)
    assert_same(serial, parallel)


def test_dry_run_is_dvcs(twins):
    serial, parallel = twins("stages: {a: {cmd: echo a}, b: {cmd: echo b}}")
    expected = serial.dvc("repro", "--dry").stdout
    assert parallel.dvc("repro", "--dry", "-j", 2).stdout == expected
    assert not parallel.exists("dvc.lock")


def test_interactive_asks_one_at_a_time_until_the_first_no(make_project, mocker):
    project = make_project(
        "ask",
        """
        stages:
          a: {cmd: echo a > a.txt, outs: [a.txt]}
          b: {cmd: echo b > b.txt, outs: [b.txt]}
          c: {cmd: echo c > c.txt, outs: [c.txt]}
        """,
    )
    asked = []

    def ask(prompt, *args, **kwargs):
        assert threading.current_thread() is threading.main_thread()
        asked.append(prompt.split("'")[1])
        return "no" if "'b'" in prompt else "yes"

    mocker.patch("dvc.prompt.ask", side_effect=ask)
    with pytest.raises(ReproductionError) as excinfo:
        project.reproduce(jobs=3, interactive=True)
    assert "aborted by the user" in str(excinfo.value.__cause__)
    assert asked == ["a", "b"]
    assert project.exists("a.txt")
    assert not project.exists("b.txt")


@pytest.mark.parametrize("jobs", [1, 2])
def test_transfer_jobs_are_those_of_dvc(make_project, mocker, jobs):
    project = make_project(dvc_yaml="stages: {a: {cmd: cp data a, deps: [data]}}")
    source = project.path.parent / "source"
    source.write_text("1")
    project.dvc("import-url", source, "data")
    project.dvc("unfreeze", "data.dvc")
    download = mocker.spy(Dependency, "download")

    def transferred_by(**kwargs):
        source.write_text(source.read_text() + "1")
        project.reproduce(jobs=jobs, all_pipelines=True, force=True, **kwargs)
        (call,) = download.call_args_list
        download.reset_mock()
        assert project.read("a") == source.read_text()
        return call.kwargs["jobs"]

    assert transferred_by(transfer_jobs=3) == 3
    assert transferred_by() is None
