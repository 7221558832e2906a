"""Stages whose files are watched, in a copy, with the real commands."""

import json
import os
import re
import textwrap

import pytest

from dvc_parallel.commands.trace import run as trace_run
from dvc_parallel.commands.trace.run import trace
from dvc_parallel.commands.trace.strace import Strace
from tests.support.capabilities import needs_strace
from tests.support.project import Project

pytestmark = needs_strace

UNDECLARED = """
    stages:
      fetch: {cmd: sleep 0.3 && seq 5 > raw.csv && date > fetched, outs: [fetched]}
      train: {cmd: wc -l < raw.csv > model, outs: [model]}
"""


def found(project, *targets, errors=None, **kwargs):
    """Findings as "stage: text" and the tracing."""
    with project.repo() as repo:
        tracing = trace(repo, targets=list(targets) or None, **kwargs)
    texts = [f"{one.name}: {it}" for one in tracing.traces for it in one.findings]
    return texts, tracing


def test_a_stage_that_reads_what_another_makes_unsaid(make_project):
    """Which is right with serial DVC, and wrong with more than one job."""
    project = make_project(dvc_yaml=UNDECLARED)
    project.reproduce()
    os.unlink(project.path / "raw.csv")
    os.unlink(project.path / "model")
    assert project.dvc("repro", "--force", "-j", "2", check=False).returncode
    before = sorted(os.listdir(project.path))
    texts, tracing = found(project)
    assert texts == [
        "fetch: writes raw.csv, which is not in its outs; train reads it",
        "train: reads raw.csv, which fetch writes, and does not depend on it: add "
        "raw.csv to the outs of fetch and to the deps of train",
    ]
    assert not tracing.passed
    assert [*tracing.lines()][-1] == "2 stages: 1 error, 1 other finding."
    assert sorted(os.listdir(project.path)) == before


# The stages of a pipeline, and what is found in them.
CASES = {
    "nothing, where all is declared": (
        """
        fetch: {cmd: seq 5 > raw.csv && date > a, outs: [a, raw.csv]}
        train: {cmd: wc -l < raw.csv > model, deps: [raw.csv], outs: [model]}
        """,
        [],
    ),
    "two write one file": (
        """
        a: {cmd: echo a > scratch; cp scratch a; rm scratch, outs: [a]}
        b: {cmd: echo b > scratch; cp scratch b; rm scratch, outs: [b]}
        """,
        [
            "a: writes scratch, which b writes as well: give each its own",
            "b: writes scratch, which a writes as well: give each its own",
        ],
    ),
    "not at a time, as a pool keeps them apart": (
        """
        a:
          cmd: echo a > scratch; cp scratch a; rm scratch
          outs: [a]
          meta: {parallel: {pools: [scratch]}}
        b:
          cmd: echo b > scratch; cp scratch b; rm scratch
          outs: [b]
          meta: {parallel: {pools: [scratch]}}
        """,
        [],
    ),
    "not at a time, as one depends on the other": (
        """
        a: {cmd: echo a >> log; cat log > a, outs: [a]}
        b: {cmd: cat a >> log; cat log > b, deps: [a], outs: [b]}
        """,
        [
            "a: writes log, which is not in its outs",
            "b: writes log, which is not in its outs",
        ],
    ),
    "a temporary file of its own, renamed": (
        "a: {cmd: cat in > a.tmp && mv a.tmp a, deps: [in], outs: [a]}",
        [],
    ),
    "through a link to a file": (
        """
        a: {cmd: mkdir v1; echo > v1/x; ln -s v1 latest; cp in a, deps: [in], outs: [a]}
        b: {cmd: cp latest/x b, outs: [b]}
        """,
        [
            "a: writes latest, which is not in its outs",
            "a: writes v1/x, which is not in its outs; b reads it",
            "b: reads v1/x, which a writes, and does not depend on it: add v1/x to the "
            "outs of a and to the deps of b",
        ],
    ),
    "in folders": (
        """
        a: {cmd: mkdir d && cp in d/x && cp in d/y, deps: [in], outs: [d]}
        b: {cmd: cat d/* > b, deps: [d], outs: [b]}
        c: {cmd: cat d/x > c, outs: [c]}
        e: {cmd: cat d/* > e, outs: [e]}
        """,
        [
            "c: reads d/x, which a writes, and does not depend on it: add d/x to the "
            "deps of c",
            "e: reads 2 files in d/, which a writes, and does not depend on it: add d "
            "to the deps of e",
        ],
    ),
    "in another folder": (
        """
        a: {cmd: cp in a, wdir: sub, deps: [in], outs: [a]}
        b: {cmd: cd sub; cp a ../b, outs: [b]}
        """,
        [
            "b: reads sub/a, which a writes, and does not depend on it: add sub/a to "
            "the deps of b",
        ],
    ),
    "what it looks for in vain": (
        """
        b: {cmd: cat a > b || echo none > b, outs: [b]}
        z: {cmd: cp in a, deps: [in], outs: [a]}
        """,
        [
            "b: reads a, which z writes, and does not depend on it: add a to the "
            "deps of b",
        ],
    ),
    "what it only looks at": (
        """
        a: {cmd: cp in a, deps: [in], outs: [a]}
        b: {cmd: test -e a; cp in b, deps: [in], outs: [b]}
        """,
        ["b: looks whether a is there, which a writes, and does not depend on it"],
    ),
    "not what is in a folder that it lists": (
        """
        a: {cmd: cp in a, deps: [in], outs: [a]}
        b: {cmd: ls -l > b, outs: [b]}
        """,
        [],
    ),
    "params, scripts and what is never read": (
        """
        a:
          cmd: sh run.sh > a
          deps: [run.sh, idle]
          params: [x]
          outs: [a]
        b: {cmd: . ./run.sh > b, outs: [b]}
        """,
        [
            "a: never reads idle, which is in its deps",
            "b: reads params.yaml, which is not in its deps",
            "b: reads run.sh, which is not in its deps",
        ],
    ),
    "what Python has compiled stands for its source": (
        """
        a: {cmd: python3 src/main.py a, deps: [src/main.py], outs: [a]}
        b: {cmd: python3 src/main.py b, deps: [src], outs: [b]}
        """,
        ["a: reads src/mod.py, which is not in its deps"],
    ),
    "what DVC and git keep for themselves, and what .dvcignore lists": (
        """
        a: {cmd: git status -s; cat dvc.yaml .gitignore > a; date > a.log, outs: [a]}
        b: {cmd: git rev-parse HEAD; cat a.log > b, outs: [b]}
        """,
        [],
    ),
    "many files of a folder": (
        "a: {cmd: mkdir many; for i in $(seq 12); do date > many/$i; done; cp in a, "
        "deps: [in], outs: [a]}",
        ["a: writes 12 files in many/, which are not in its outs"],
    ),
    "one that fails, what it lacks in the copy, and what comes after it": (
        """
        a: {cmd: cat hidden/x > a, outs: [a]}
        b: {cmd: cat a > b, deps: [a], outs: [b]}
        """,
        [
            "a: failed to run: cat hidden/x > a, exited with 1",
            "a: reads hidden/x, which is not in its deps",
            "b: not run, as 'a' has failed",
        ],
    ),
    "a database that is only read": (
        """
        a: {cmd: python3 db.py > a, deps: [db.py, db], outs: [a]}
        b: {cmd: python3 db.py > b, deps: [db.py, db], outs: [b]}
        """,
        [],
    ),
    "a file that the other one goes by under another name": (
        """
        a: {cmd: cp in store/x, deps: [in], outs: [store/x]}
        b: {cmd: cp data/x b, deps: [data/x], outs: [b]}
        """,
        [],
    ),
    "files for a moment, somewhere else": (
        """
        a: {cmd: x=$(mktemp) && cp in $x && cp $x a, deps: [in], outs: [a]}
        b: {cmd: x=$(mktemp) && cp in $x && cp $x b, deps: [in], outs: [b]}
        """,
        [],
    ),
}
FILES = {
    "in": "1\n",
    "sub/in": "1\n",
    "idle": "1\n",
    "run.sh": "cat params.yaml\n",
    "params.yaml": "x: 1\ny: 2\n",
    "src/main.py": "import sys, mod\nopen(sys.argv[1], 'w').write(mod.X)\n",
    "src/mod.py": "X = '1'\n",
    ".gitignore": "/hidden\n__pycache__\n",
    ".dvcignore": "*.log\n__pycache__\n",
    "hidden/x": "1\n",
    "db.py": "import sqlite3\nprint([*sqlite3.connect('db').execute('select 1')])\n",
    "db": "",
    "store/.keep": "",
}


@pytest.fixture(scope="module")
def found_in_cases(tmp_path_factory):
    """What is found in each of the cases, each in a folder of one repo."""
    project = Project(tmp_path_factory.mktemp("cases") / "project")
    for number, (stages, _) in enumerate(CASES.values()):
        stages = textwrap.indent(textwrap.dedent(stages).strip(), "  ")
        files = {**FILES, "dvc.yaml": f"stages:\n{stages}\n"}
        project.write({f"{number}/{name}": text for name, text in files.items()})
        os.symlink("store", project.path / str(number) / "data")
    with pytest.MonkeyPatch.context() as monkeypatch:
        # NOTE: this comes before the fixture for each test
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(project.path.parent / "site"))
        texts, tracing = found(project, all_pipelines=True)
    assert tracing.tracer == Strace.name
    by_case = {case: [] for case in CASES}
    for text in texts:
        number, rest = text.split("/dvc.yaml:", 1)
        by_case[[*CASES][int(number)]].append(
            rest.replace(f"{number}/dvc.yaml:", "").replace(f"{number}/", "")
        )
    return by_case


@pytest.mark.parametrize("case", CASES)
def test_what_is_found(found_in_cases, case):
    assert found_in_cases[case] == CASES[case][1]


def test_targets_alone(make_project):
    project = make_project(dvc_yaml=UNDECLARED)
    project.write(
        {"dvc.yaml": project.read("dvc.yaml").replace("fetched]", "raw.csv]")}
    )
    project.reproduce()
    texts, tracing = found(project, "train")
    assert [one.name for one in tracing.traces] == ["train"]
    assert texts[1:] == [
        "train: reads raw.csv, which fetch writes, and does not depend on it: add "
        "raw.csv to the deps of train"
    ]


@pytest.mark.parametrize("kind", ["copy", "hardlink", "symlink"])
def test_links_to_the_cache(make_project, kind):
    project = make_project(
        dvc_yaml="""
            stages:
              a: {cmd: seq 3 > a, outs: [a]}
              b: {cmd: wc -l a > b, deps: [a], outs: [b]}
              c: {cmd: wc -l a > c, outs: [c]}
        """
    )
    project.dvc("config", "cache.type", kind)
    project.reproduce()
    texts, _ = found(project, "b")
    assert texts == []


def test_code_that_a_stage_knows_is_declared(make_project):
    """Whether it is read or not; and the file that says so is read by DVC alone."""
    project = make_project(
        dvc_yaml="""
            stages:
              a:
                cmd: python src/a.py
                deps: [.dvc-code/a.json]
                outs: [a.txt]
                meta: {parallel: {code: true}}
        """,
        files={
            "src/a.py": "import b\nopen('a.txt', 'w').write(open('in.txt').read())\n",
            "src/b.py": "def f():\n    import c\n",
            "src/c.py": "",
            "in.txt": "1",
        },
    )
    texts, _ = found(project)
    assert texts == ["a: reads in.txt, which is not in its deps"]


def test_stages_without_a_command(make_project):
    project = make_project(files={"data": "1\n"})
    project.dvc("add", "data")
    project.write(
        {
            "dvc.yaml": textwrap.dedent("""
                stages:
                  a: {cmd: cp data a, deps: [data], outs: [a]}
                  b: {cmd: cp data b, outs: [b]}
                  c: {cmd: cp data c, deps: [data], outs: [c], frozen: true}
            """)
        }
    )
    texts, tracing = found(project)
    assert tracing.skipped == {"c": "is frozen"}
    assert texts == ["b: reads data, which is not in its deps; data.dvc makes it"]


def test_what_is_left_out_for_once(make_project):
    project = make_project(
        dvc_yaml="""
            stages:
              a: {cmd: date > log; date > x.out; date > sub/y; cp in a, deps: [in],
                  outs: [a]}
        """,
        files=FILES,
    )
    texts, _ = found(project, ignore=["log", "*.out", "sub/*"])
    assert texts == []


def test_without_strace_python_is_asked(make_project, monkeypatch):
    monkeypatch.setattr(
        trace_run.Strace, "find", lambda: (None, "strace is not installed")
    )
    project = make_project(
        dvc_yaml="""
            stages:
              fetch: {cmd: python3 one.py raw.csv model, deps: [one.py], outs: [model]}
              train: {cmd: python3 two.py raw.csv out, deps: [two.py], outs: [out]}
        """,
        files={
            "one.py": """\
import os, sys
with open("x", "w") as file:
    file.write("1")
os.rename("x", sys.argv[1])
open(sys.argv[2], "w").close()
""",
            "two.py": """\
import sys
open(sys.argv[2], "w").write(open(sys.argv[1]).read())
""",
        },
    )
    texts, tracing = found(project)
    assert texts == [
        "fetch: writes raw.csv, which is not in its outs; train reads it",
        "train: reads raw.csv, which fetch writes, and does not depend on it: add "
        "raw.csv to the outs of fetch and to the deps of train",
    ]
    assert [*tracing.lines()][-1] == (
        "Seen by Python's audit hooks, as strace is not installed: what programs other "
        "than Python read and write is not known."
    )


WRITTEN = """\
# The pipeline.
stages:
  fetch:
    cmd: seq 5 > raw.csv  # from afar
    outs: [raw.csv]
  each:
    foreach: [one, two]
    do:
      cmd: cat ../raw.csv ../${item}.txt in > ${item}
      wdir: sub
      deps:
        - in  # raw
%s      outs: ["${item}"]
  chicken: {%scmd: cp egg chicken, outs: [chicken]}
  egg: {cmd: cat chicken > egg || date > egg, outs: [egg]}
"""


def test_the_command_adds_dependencies(make_project):
    files = {"one.txt": "1\n", "two.txt": "2\n", "egg": "1\n", "sub/in": "1\n"}
    project = make_project(dvc_yaml=WRITTEN % ("", ""), files=files)
    out = project.deps("--trace", "--write", status=1).stdout
    added = "        - ../raw.csv\n", "deps: [egg], "
    assert project.read("dvc.yaml") == WRITTEN % added
    assert "error: reads raw.csv, which fetch writes" in out
    assert "\nAdded to the deps of each: ../raw.csv\n" in out
    assert (
        "reads chicken, which chicken writes, and does not depend on it: if it " in out
    )
    assert "only each@one uses '../one.txt': add it by hand" in out


def test_the_command_shows_findings(make_project):
    files = {**FILES, "dvc.yaml": "stages: {a: {cmd: cp in a, outs: [a]}}\n"}
    project = make_project(files=files)
    shown = project.deps("--trace")
    assert shown.stdout.endswith(
        "a:\n  reads in, which is not in its deps\n"
        "1 stage: 0 errors, 1 other finding.\n"
    )
    project.deps("--trace", "--check", status=1)
    project.deps("--trace", "--check", "--ignore", "in")
    assert "--ignore needs --trace" in project.deps("--ignore", "in", status=255).stderr
    assert not (project.path / ".dvc/tmp/validate").exists()
    assert project.read("dvc.yaml") == files["dvc.yaml"]


def test_a_stage_that_fails_is_not_shown_as_one_that_ran(make_project):
    project = make_project(
        dvc_yaml="""
            stages:
              a: {cmd: test -f hidden > a, outs: [a]}
              b: {cmd: cat a > b, deps: [a], outs: [b]}
              c: {cmd: echo > c, outs: [c]}
        """
    )
    shown = project.deps("--trace", status=1)
    assert "  error: failed to run: test -f hidden > a, exited with 1\n" in shown.stdout
    shown = shown.stdout + shown.stderr
    assert re.findall(r"^(\w) \| ran in ", shown, re.MULTILINE) == ["c"]


def test_the_command_in_json(make_project):
    project = make_project(dvc_yaml=UNDECLARED)
    shown = json.loads(project.deps("--trace", "--json", status=1).stdout)
    expected = {"version": 1, "safe": False, "seen_by": "strace", "added": []}
    assert {key: shown[key] for key in expected} == expected
    fetch, train = shown["stages"]
    assert (fetch["name"], train["name"]) == ("fetch", "train")
    (finding,) = train["findings"]
    assert finding.pop("text").startswith("reads raw.csv, which fetch writes")
    assert finding.items() >= {"kind": "unordered", "path": "raw.csv"}.items()
    assert finding.items() >= {"count": 1, "error": True, "add": True}.items()
    assert finding["others"] == ["fetch"]
    shown = json.loads(project.deps("--trace", "--json", "--write", status=1).stdout)
    assert shown["added"] == [{"name": "train", "deps": ["raw.csv"]}]
