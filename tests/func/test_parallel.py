"""What users may rely on in a parallel run, with real commands."""

import errno
import json
import os
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from dvc.dependency.base import Dependency
from dvc.exceptions import ReproductionError

from dvc_parallel.engine.path_locks import LocksFile
from dvc_parallel.scheduling.durations import Durations
from tests import HANGS
from tests.support.capabilities import (
    GOES_IN_ORDER,
    HAS_KEEP_GOING,
    HAS_MATRIX,
    needs_keep_going,
    needs_order,
)
from tests.support.project import HOLD, MEET, assert_same, finish

PYTHON = sys.executable


SCRIPTS = {"meet.py": MEET, "hold.py": HOLD}


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


def test_lines_are_whole_and_carry_the_name(make_project):
    code = (
        "import sys\\n"
        "for i in range(200):\\n"
        "    sys.stdout.write('x' * 50); sys.stdout.flush()\\n"
        "    sys.stdout.write(f' {sys.argv[1]} {i}\\\\n'); sys.stdout.flush()"
    )
    project = make_project(
        "lines",
        f"""
        stages:
          a: {{cmd: "{PYTHON} chatter.py a"}}
          b: {{cmd: "{PYTHON} chatter.py b"}}
        """,
        {"chatter.py": code.encode().decode("unicode_escape")},
    )
    lines = project.dvc("repro", "-j", 2).stdout.splitlines()
    for name in "ab":
        said = [line for line in lines if line.startswith(f"{name} | x")]
        assert said == [f"{name} | {'x' * 50} {name} {i}" for i in range(200)]


def test_output_as_the_command_printed_it(make_project):
    script = (
        "import sys; out = sys.stdout.buffer\n"
        r"out.write(b'\xff\xfe raw\n1%\r2%\r\n'); out.write(b'the end'); out.flush()"
        "\nsys.stderr.write('to stderr\\n')"
    )
    project = make_project(
        "bytes", f"stages: {{a: {{cmd: {PYTHON} raw.py}}}}", {"raw.py": script}
    )
    result = project.dvc("repro", "-j", 2, text=False)
    assert b"a | \xff\xfe raw\na | 1%\ra | 2%\na | the end\n" in result.stdout
    assert b"a | to stderr\n" in result.stderr


def test_stdin_of_a_stage_is_empty(make_project):
    project = make_project("stdin", "stages: {a: {cmd: cat > a.txt, outs: [a.txt]}}")
    project.dvc("repro", "-j", 2, input="something", stdin=None)
    assert project.read("a.txt") == ""


@needs_keep_going
def test_summary(make_project):
    project = make_project(
        "summary",
        """
        stages:
          a: {cmd: echo a > a.txt, outs: [a.txt]}
          b: {cmd: "false", deps: [a.txt]}
          c: {cmd: echo c, deps: [a.txt]}
        """,
    )
    project.dvc("repro", "-j", 2, "a")
    result = project.dvc("repro", "-j", 2, "-k", check=False)
    assert result.returncode == 255
    assert "Ran 1 stage, skipped 1, failed 1 in " in result.stdout


def test_the_repo_is_usable_while_commands_run(make_project):
    project = make_project(
        "usable",
        f"""
        stages:
          a: {{cmd: "{PYTHON} hold.py a && echo a > a.txt", outs: [a.txt]}}
          b: {{cmd: "{PYTHON} -m dvc status c > b.txt && touch b.runs", outs: [b.txt]}}
          c: {{cmd: echo c > c.txt, outs: [c.txt]}}
        """,
        SCRIPTS,
    )
    process = project.start("repro", "-j", 2)
    project.wait_for("a.runs", "b.runs")
    assert "up to date" in project.dvc("status", "c").stdout
    assert "Running stage 'c'" in project.dvc("repro", "-f", "c").stdout
    project.dvc("data", "status")
    locks = json.loads(project.path_locks())
    assert str(project.path / "a.txt") in locks["write"]
    blocked = project.dvc("repro", "a", check=False)
    assert "busy" in blocked.stderr
    project.write({"a.go": ""})
    output = finish(process)
    assert process.returncode == 0, output


def test_a_stage_waits_for_a_path_that_its_sibling_reads(make_project):
    """A path stays locked for as long as any stage of the run needs it."""
    project = make_project(
        "readers",
        f"""
        stages:
          quick: {{cmd: echo 1, deps: [data.txt]}}
          slow: {{cmd: "{PYTHON} hold.py slow", deps: [data.txt]}}
        """,
        {**SCRIPTS, "data.txt": "data"},
    )
    process = project.start("repro", "-j", 2)
    project.wait_for("slow.runs", "dvc.lock")
    locks = json.loads(project.path_locks())
    assert list(locks["read"]) == [str(project.path / "data.txt")]
    project.write({"slow.go": ""})
    finish(process)
    assert process.returncode == 0
    assert not any(json.loads(project.path_locks()).values())


def test_a_result_waits_for_a_neighbour_that_has_the_repo_lock(make_project):
    from dvc.lock import Lock

    project = make_project(
        "neighbour",
        f"""
        stages:
          a: {{cmd: "{PYTHON} hold.py a && echo a > a.txt", outs: [a.txt]}}
        """,
        SCRIPTS,
    )
    process = project.start("repro", "-j", 2)
    project.wait_for("a.runs")
    lock = Lock(str(project.path / ".dvc" / "tmp" / "lock"))
    lock.lock()
    project.write({"a.go": ""})
    told = []
    for line in process.stdout:
        told.append(line)
        if "nothing that has run is lost" in line:
            break
    assert not project.exists("dvc.lock")
    lock.unlock()
    output = finish(process)
    assert process.returncode == 0, [*told, output]
    assert "a:" in project.read("dvc.lock")


def test_dvc_lock_is_whole_at_every_instant(make_project):
    project = make_project(
        "whole",
        f"""
        stages:
          leaf:
            foreach: {list(range(15))}
            do: {{cmd: echo ${{item}} > ${{item}}.txt, outs: ["${{item}}.txt"]}}
        """,
    )
    process = project.start("repro", "-j", 4)
    path = project.path / "dvc.lock"
    seen = set()
    while process.poll() is None:
        if path.exists():
            seen.add(path.read_text())
    finish(process)
    for text in seen:
        assert text.startswith("schema: '2.0'\nstages:\n")
        assert text.endswith("\n")
        blocks = text.split("\n  leaf@")[1:]
        assert all("      size: " in block.splitlines()[-1] for block in blocks)


FAILING = f"""
    stages:
      bad: {{cmd: "{PYTHON} meet.py bad 2; echo the last word; exit 3"}}
      good:
        cmd: {PYTHON} meet.py good 2 && {PYTHON} hold.py good && echo 1 > good.txt
        outs: [good.txt]
      later: {{cmd: echo later > later.txt, deps: [good.txt], outs: [later.txt]}}
"""


def test_a_failure_lets_running_stages_finish_and_starts_nothing(make_project):
    project = make_project("failing", FAILING, SCRIPTS)
    process = project.start("repro", "-j", 2)
    project.wait_for("good.runs")
    output = ""
    for line in process.stdout:
        output += line
        if "waiting for 1 running" in line:
            break
    project.write({"good.go": ""})
    output += finish(process)
    assert process.returncode == 255
    assert "good:" in project.read("dvc.lock")
    assert not project.exists("later.txt")
    end = output[output.index("the last lines of 'bad'") :]
    assert "the last word" in end
    assert "failed to reproduce 'bad'" in end


def test_all_failures_are_named(make_project):
    project = make_project(
        "failures",
        f"""
        stages:
          x: {{cmd: "{PYTHON} meet.py x 2; exit 3"}}
          y: {{cmd: "{PYTHON} meet.py y 2; exit 3"}}
        """,
        SCRIPTS,
    )
    with pytest.raises(ReproductionError, match=r"'x'(,| and) 'y'") as excinfo:
        project.reproduce(jobs=2)
    assert "exited with 3" in str(excinfo.value.__cause__)


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


def test_a_frozen_stage_is_ordered_with_what_it_has_been_cut_from(twins):
    dvc_yaml = """
        stages:
          make: {cmd: "sleep 0.3; cat in.txt > made/x.txt", deps: [in.txt],
              outs: [made/x.txt]}
          frozen: {cmd: "cat made/x.txt > f.txt", deps: [made],
              outs: [f.txt], frozen: true}
    """
    serial, parallel = twins(
        dvc_yaml.replace(", frozen: true", ""), {"in.txt": "1", "made/readme": ""}
    )
    for project in (serial, parallel):
        project.reproduce()
        project.write({"dvc.yaml": dvc_yaml, "in.txt": "2"})
        project.write({"f.txt": "changed"})
    kwargs = {"targets": ["frozen", "make"]}
    assert serial.reproduce(**kwargs) == parallel.reproduce(jobs=2, **kwargs)
    assert_same(serial, parallel)


def test_a_folder_is_hashed_with_its_gitignore_in_serial_order(twins):
    dvc_yaml = """
        stages:
          part:
            foreach: [3, 2, 1, 0]
            do:
              cmd: sleep 0.${item}; echo ${item} > parts/${item}.txt
              outs: ["parts/${item}.txt"]
          all: {cmd: "cat parts/*.txt > all.txt", deps: [parts], outs: [all.txt]}
    """
    serial, parallel = twins(dvc_yaml, {"parts/readme": "parts"})
    assert serial.reproduce() == parallel.reproduce(jobs=4)
    assert_same(serial, parallel)
    assert parallel.reproduce(jobs=4) == []


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


def test_executables(twins):
    dvc_yaml = """
        stages:
          a: {cmd: ./tool a, deps: [tool], outs: [a]}
          b: {cmd: ./a b, deps: [a, tool], outs: [b]}
          c: {cmd: ./a c, deps: [a], outs: [{c: {cache: false}}]}
          d: {cmd: ./c d, deps: [c, b], outs: [d]}
    """
    script = '#!/bin/sh\ncp "$0" $1; chmod +x $1; echo "# $1" >> $1\n'
    projects = twins(dvc_yaml, {"tool": script})
    for text in ("", "# more\n"):
        for project, jobs in zip(projects, (None, 2)):
            project.write({"tool": script + text})
            (project.path / "tool").chmod(0o755)
            assert project.reproduce(jobs=jobs) == ["a", "b", "c", "d"]
        assert_same(*projects)


def test_no_scm(twins):
    dvc_yaml = (
        "stages: {a: {cmd: echo a > a, outs: [a]}, b: {cmd: echo b > b, outs: [b]}}"
    )
    serial, parallel = twins(dvc_yaml, scm=False)
    assert serial.reproduce() == parallel.reproduce(jobs=2)
    assert_same(serial, parallel)
    assert not parallel.exists(".gitignore")


def test_paths_of_a_stage_that_has_ended_are_free(make_project):
    project = make_project(
        "free",
        """
        stages:
          a: {cmd: echo a > a, outs: [a]}
          b: {cmd: cp .dvc/tmp/rwlock seen}
        """,
    )
    assert project.reproduce(jobs=1) == ["a", "b"]
    assert not any(json.loads(project.read("seen")).values())


def test_a_disk_that_is_full_when_path_locks_are_released(make_project, mocker):
    project = make_project(
        "full",
        """
        stages:
          a: {cmd: echo a > a, outs: [a]}
          b: {cmd: echo b > b, outs: [b]}
        """,
    )
    write = LocksFile.write

    def write_if_held(self, held):
        if not held:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, held)

    mocker.patch.object(LocksFile, "write", write_if_held)
    assert project.reproduce(jobs=2) == ["a", "b"]
    assert "a:" in project.read("dvc.lock")


def test_hardlink_lock(make_project):
    project = make_project(
        "hardlink",
        "stages: {a: {cmd: echo a > a, outs: [a]}, b: {cmd: echo b > b, outs: [b]}}",
        {".dvc/config": "[core]\n    hardlink_lock = true\n"},
    )
    assert project.reproduce(jobs=2) == ["a", "b"]
    assert not list(Path(project.path / ".dvc" / "tmp").glob("lock"))


def test_autostage(twins):
    import subprocess

    dvc_yaml = (
        "stages: {a: {cmd: echo a > a, outs: [a]}, b: {cmd: echo b > b, outs: [b]}}"
    )
    config = {".dvc/config": "[core]\n    autostage = true\n"}
    staged = []
    for project, jobs in zip(twins(dvc_yaml, config), (1, 2)):
        project.reproduce(jobs=jobs)
        command = ["git", "-C", project.path, "diff", "--cached", "--stat"]
        staged.append(subprocess.run(command, capture_output=True, check=True).stdout)
    assert staged[0] == staged[1]
    assert b"dvc.lock" in staged[0]


def test_subprojects_with_wdir(twins):
    files = {
        "one/dvc.yaml": "stages: {a: {cmd: cat ../in > a, deps: [../in], outs: [a]}}",
        "two/dvc.yaml": (
            "stages: {b: {wdir: data, cmd: cat ../../one/a > b,"
            " deps: [../../one/a], outs: [b]}}"
        ),
        "two/data/readme": "",
        "in": "in",
    }
    dvc_yaml = """
        stages:
          c:
            cmd: cat one/a two/data/b > c
            deps: [one/a, two/data/b]
            outs: [c]
    """
    serial, parallel = twins(dvc_yaml, files)
    for kwargs in ({}, {"force": True}, {"all_pipelines": True, "force": True}):
        assert serial.reproduce(**kwargs) == parallel.reproduce(jobs=3, **kwargs)
        assert_same(serial, parallel)


def test_run_cache_hits(twins):
    dvc_yaml = """
        stages:
          a: {cmd: cat in > a, deps: [in], outs: [a]}
          b: {cmd: cat in > b, deps: [in],
              outs: [b], metrics: [{m.json: {cache: false}}]}
    """
    dvc_yaml = dvc_yaml.replace("cat in > b,", "cat in > b && echo 1 > m.json,")
    projects = twins(dvc_yaml, {"in": "1"})
    for text in ("1", "2", "1"):
        results = []
        for project, jobs in zip(projects, (1, 2)):
            project.write({"in": text})
            results.append(project.reproduce(jobs=jobs))
        assert results == [["a", "b"]] * 2
        assert_same(*projects)


def test_imports_and_added_data(twins):
    dvc_yaml = (
        "stages: {c: {cmd: cat added imported > c, deps: [added, imported], outs: [c]}}"
    )
    projects = twins(dvc_yaml, {"added": "1", "source": "2"})
    results = []
    for project, jobs in zip(projects, (1, 3)):
        with project.repo() as repo:
            repo.add("added")
            repo.imp_url("source", "imported")
        project.write({"source": "3"})
        with project.repo() as repo:
            repo.unfreeze("imported.dvc")
        results.append(project.reproduce(jobs=jobs))
    assert results[0] == results[1]
    assert_same(*projects)
    assert projects[1].read("c") == "13"


def test_read_only_workspace(make_project):
    project = make_project("ro", "stages: {a: {cmd: 'true', outs: [a]}}")
    os.chmod(project.path, 0o555)
    try:
        if os.access(project.path, os.W_OK):
            pytest.skip("this user, as root, may write everywhere")
        result = project.dvc("repro", "-j", 2, check=False)
    finally:
        os.chmod(project.path, 0o755)
    assert result.returncode == 255
    assert "Traceback" not in result.stderr
    assert not project.exists("dvc.lock")


def test_an_error_of_our_own_leaves_no_thread_and_no_lock(make_project, mocker):
    from dvc_parallel.engine.plan import Finished, Plan, PlanError

    handle = Plan.handle

    def fail(plan, event):
        if isinstance(event, Finished):
            raise PlanError("ouch")
        return handle(plan, event)

    mocker.patch.object(Plan, "handle", fail)
    project = make_project(
        "ouch",
        """
        stages:
          a: {cmd: echo a > a.txt, outs: [a.txt]}
          b: {cmd: sleep 300; echo b > b.txt, outs: [b.txt]}
        """,
    )
    with pytest.raises(PlanError, match="ouch"):
        project.reproduce(jobs=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("dvc-stage")]
    assert not any(json.loads(project.path_locks()).values())
    assert "a:" in project.read("dvc.lock")
    assert project.dvc("status", "a").returncode == 0


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

    if GOES_IN_ORDER:
        # NOTE: which of two that begin at once is told first is not certain
        assert sorted(order(first)[:2]) == ["a", "b"]
        assert order(first)[2:] == ["long"]
    assert order(second)[0] == max(known, key=known.__getitem__)


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
        assert_same(*projects)


def test_a_repo_in_a_folder_of_a_git_repo(make_project):
    dvc_yaml = """
        stages:
          a: {cmd: cat ../outside > a, deps: [../outside], outs: [a]}
          b: {cmd: cat ../outside > b, deps: [../outside], outs: [b]}
          c: {cmd: cat a b > c, deps: [a, b], outs: [c]}
    """
    left = []
    for jobs in (None, 3):
        outer = make_project(f"outer{jobs}", files={"outside": "x"})
        inner = outer.path / "inner"
        inner.mkdir()
        outer.dvc("init", "-q", "--subdir", cwd=inner)
        (inner / "dvc.yaml").write_text(textwrap.dedent(dvc_yaml))
        args = ["-j", str(jobs)] if jobs else []
        outer.dvc("repro", *args, cwd=inner)
        left.append(outer.left())
    assert left[0] == left[1]


def test_a_run_ends_when_nobody_reads_its_output(make_project):
    project = make_project(
        "pipe",
        f"""
        stages:
          bad: {{cmd: "{PYTHON} hold.py bad; echo x; exit 3"}}
          good: {{cmd: "{PYTHON} hold.py good; echo x > g.txt", outs: [g.txt]}}
          later: {{cmd: cat g.txt > l.txt, deps: [g.txt], outs: [l.txt]}}
        """,
        SCRIPTS,
    )
    process = project.start("repro", "-j", 2, *(["-k"] if HAS_KEEP_GOING else []))
    project.wait_for("bad.runs", "good.runs")
    process.stdout.close()
    project.write({"bad.go": "", "good.go": ""})
    assert process.wait(HANGS) != 0
    assert not any(json.loads(project.path_locks()).values())
    assert project.dvc("status", "-q", "good", check=False).returncode in (0, 1)


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
