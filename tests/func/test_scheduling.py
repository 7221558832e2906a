"""What starts when: as soon as it can, longest first."""

import sys

from dvc_parallel.scheduling.durations import Durations
from tests.support.project import SCRIPTS, assert_same

PYTHON = sys.executable


def meet(count):
    return f"{PYTHON} meet.py ${{item}} {count} && echo ${{item}} > ${{item}}.txt"


def test_four_at_a_time_after_one_root(twins):
    dvc_yaml = f"""
        stages:
          root: {{cmd: echo root > root.txt, outs: [root.txt]}}
          leaf:
            foreach: [a, b, c, d, e, f, g, h]
            do:
              cmd: {meet(4)}
              deps: [root.txt]
              outs: ["${{item}}.txt"]
    """
    serial, parallel = twins(dvc_yaml, SCRIPTS)
    expected = ["root", *(f"leaf@{name}" for name in "abcdefgh")]
    assert parallel.reproduce(jobs=4) == expected

    serial.write({f"meeting/{name}": "" for name in "abcdefgh"})
    assert serial.reproduce() == expected
    assert_same(serial, parallel)


def test_more_jobs_than_stages_and_than_cores(make_project):
    dvc_yaml = f"""
        stages:
          leaf:
            foreach: {list(range(12))}
            do: {{cmd: "{meet(12)}", outs: ["${{item}}.txt"]}}
    """
    project = make_project("many", dvc_yaml, SCRIPTS)
    assert len(project.reproduce(jobs=64)) == 12


def test_no_levels(make_project):
    """The second of a chain runs while the first of another one still does."""
    dvc_yaml = f"""
        stages:
          slow: {{cmd: "{PYTHON} meet.py slow 2"}}
          quick: {{cmd: echo 1 > quick.txt, outs: [quick.txt]}}
          next: {{cmd: "{PYTHON} meet.py next 2", deps: [quick.txt]}}
    """
    project = make_project("chains", dvc_yaml, SCRIPTS)
    assert project.reproduce(jobs=2) == ["slow", "quick", "next"]


def test_the_second_run_knows_how_long_stages_take(make_project):
    project = make_project(
        "durations",
        """
        stages:
          a: {cmd: echo a, always_changed: true}
          b: {cmd: echo b, always_changed: true}
          long: {cmd: sleep 1, always_changed: true}
        """,
    )
    first = project.dvc("repro", "-j", 2).stdout
    known = Durations(str(project.path / ".dvc" / "tmp")).load()
    assert known["long"] >= 1
    second = project.dvc("repro", "-j", 2).stdout

    def order(output):
        return [line.split("'")[1] for line in output.splitlines() if "Running" in line]

    # NOTE: which of two that begin at once is told first is not certain
    assert sorted(order(first)[:2]) == ["a", "b"]
    assert order(first)[2:] == ["long"]
    assert order(second)[0] == max(known, key=known.__getitem__)
