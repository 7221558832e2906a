"""What stages print: how it is shown, and that nothing of it is lost."""

import json
import os
import re
import subprocess
import sys

import pytest
from dvc.exceptions import InvalidArgumentError

from dvc_parallel.reporting.records import Runs
from tests import HANGS
from tests.support.capabilities import HAS_KEEP_GOING, needs_keep_going
from tests.support.ci import log_commands
from tests.support.project import SCRIPTS

PYTHON = sys.executable

# Prints all that is hard to print, some of it after its end.
HARD = r"""
import os, sys, time
os.write(1, b"\xff\xfe raw\n1%\r2%\r\n")
os.write(2, b"to stderr\n")
os.write(1, b"no end")
if "leave" in sys.argv and os.fork() == 0:
    os.setpgid(0, 0)
    time.sleep(300)
if "fail" in sys.argv:
    sys.exit(3)
"""
HARD_BYTES = {b"\xff\xfe raw", b"2%", b"to stderr", b"no end"}

TWO = f"""
    stages:
      good: {{cmd: "{PYTHON} hard.py leave"}}
      bad: {{cmd: "{PYTHON} hard.py fail", deps: [hard.py]}}
"""


@pytest.fixture
def project(make_project):
    return make_project("output", TWO, {"hard.py": HARD})


def run_of(project):
    return Runs(str(project.path / ".dvc" / "tmp")).load()


def lines_of(result):
    shown = re.sub(rb"(good|bad) \| ", b"", result.stdout + result.stderr)
    return [line.rstrip(b"\r") for line in shown.split(b"\n")]


def repro(project, *args):
    return project.dvc("repro", "-j", 2, *args, check=False, text=False)


def failing(project, *args):
    """A run with a failure, which shows its last lines once and names its log."""
    result = repro(project, *args)
    assert result.returncode == 255
    _, _, end = result.stderr.decode(errors="replace").partition(
        "WARNING: 1 stage failed:\n"
    )
    lines = end.splitlines()
    row = r"  bad    3     \d+\.\d s  dvc-parallel logs bad"
    assert re.fullmatch(row, lines[1])
    assert sorted(lines[2:6]) == sorted(
        f"    | {line}" for line in ("\ufffd\ufffd raw", "2%", "to stderr", "no end")
    )
    assert "failed to reproduce 'bad'" in lines[6]
    command, *log = project.own("logs", "bad", text=False).stdout.split(b"\n")
    assert command == f"> {PYTHON} hard.py fail".encode()
    assert {*log} == (HARD_BYTES - {b"2%"}) | {b"1%\r2%\r"}
    return result


def test_prefixed(project):
    result = failing(project)
    lines = lines_of(result)
    for line in HARD_BYTES:
        assert lines.count(line) == 2, line
    assert b"good | \xff\xfe raw\ngood | 2%\n" in result.stdout
    assert re.search(rb"^good \| ran in \d\.\d s$", result.stdout, re.MULTILINE)
    assert re.search(rb"^bad \| failed in \d\.\d s$", result.stdout, re.MULTILINE)


def test_grouped(project):
    result = failing(project, "--output", "grouped")
    command = re.escape(f"> {PYTHON} hard.py".encode())
    block = rb"=== %s\n%s %s\n\xff\xfe raw\n2%%\nto stderr\nno end\n"
    for name, arg in ((b"good", b"leave"), (b"bad", b"fail")):
        assert re.search(block % (name, command, arg), result.stdout)
    lines = lines_of(result)
    assert all(lines.count(line) == 2 for line in HARD_BYTES)


def test_failed(project):
    result = failing(project, "--output", "failed")
    assert b"=== bad\n" in result.stdout
    assert re.findall(rb"^.*good.*$", result.stdout, re.MULTILINE) == [
        b"Running stage 'good':",
        *re.findall(rb"^good \| ran in .*$", result.stdout, re.MULTILINE),
    ]
    lines = lines_of(result)
    assert all(lines.count(line) == 1 for line in HARD_BYTES)


def test_none(project):
    result = failing(project, "--output", "none")
    assert HARD_BYTES.isdisjoint(lines_of(result))
    # NOTE: who fails is never being saved
    (bad,) = (stage for stage in run_of(project).stages if stage.name == "bad")
    phases = [phase for _, phase, _ in bad.phases]
    assert phases == ["lock", "check", "command", "lock", "failed"]


FORGE = 'printf "::error::forged\\r\\n ##[group]\\n"'
CI = """
    stages:
      good:
        cmd:
          - 'printf "::error::forged\\n ##[group]"'
          - 'printf "1%%\\r::error::forged\\r\\nno end" >&2'
      bad:
        foreach: [1]
        do:
          cmd: 'printf "\\033[0Ksection_start:1:x\\r\\033[0K::error::forged\\n"; exit 3'
"""


def in_ci(make_project, service, *args):
    """What a run shows in a service, by its streams."""
    env = {**os.environ, service: "true", "CI": "true"}
    project = make_project(service, CI)
    result = project.dvc("repro", "-j", 2, *args, check=False, text=False, env=env)
    assert result.returncode == 255
    assert not list(log_commands(result.stderr))
    found = list(log_commands(result.stdout))
    assert {*found} <= {"group", "endgroup", "error", "start", "end"}
    assert len(found) <= 3
    return result.stdout.decode(), result.stderr.decode()


def test_github_actions_folds_stages_and_shows_failures_in_dvc_yaml(make_project):
    out, err = in_ci(make_project, "GITHUB_ACTIONS")
    block = (
        r"^::group::good \| ran in \d\.\d s\n(> printf .*\n)"
        r"\\::error::forged\n ##\[\\group\](> printf .*\n)"
        r"\\::error::forged\nno end\n::endgroup::\n"
    )
    assert re.search(block, out.replace("]\n>", "]>"), re.MULTILINE), out
    block = (
        r"^=== bad@1 \| failed in \d\.\d s\n> printf .*\n\\::error::forged\n"
        r"::error title=bad@1 failed,file=dvc.yaml,line=7::`printf .* exited with 3"
        r"%0A\| ::error::forged\n"
    )
    assert re.search(block, out, re.MULTILINE), out
    assert "    | ::error::forged\n" in err
    assert "2 stages: 1 ran, 1 failed" in out


def test_gitlab_folds_stages_and_shows_how_long_they_took(make_project):
    out, _ = in_ci(make_project, "GITLAB_CI")
    block = (
        "^\x1b\\[0Ksection_start:\\d+:(\\w+)\\[collapsed=true\\]\r\x1b\\[0K"
        r"good \| ran in \d\.\d s\n(?s:.*)no end\n"
        "\x1b\\[0Ksection_end:\\d+:\\1\r\x1b\\[0K\n"
    )
    assert re.search(block, out, re.MULTILINE), out
    assert re.search(r"^=== bad@1 \| failed in .*\n> ", out, re.MULTILINE)
    assert len(re.findall("\x1b.*section_", out)) == 2
    assert "::error title" not in out


def test_commands_that_show_logs_and_names_forge_nothing(make_project, monkeypatch):
    name = "a@##[error]forged"
    dvc_yaml = f"stages: {{a: {{foreach: ['{name[2:]}'], do: {{cmd: '{FORGE}'}}}}}}"
    project = make_project("logs", dvc_yaml)
    project.dvc("repro", "-j", 2)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    own = [PYTHON, "-m", "dvc_parallel"]
    for args in (["logs", name], ["logs", "-f"], ["logs"], ["plan"], ["logs", "##[x]"]):
        result = subprocess.run(
            [*own, *args], cwd=project.path, capture_output=True, check=False
        )
        assert result.stdout or result.returncode
        assert not list(log_commands(result.stdout + b"\n" + result.stderr)), args
    log = project.path / "log.txt"
    with log.open("wb") as file:
        subprocess.run([*own, "logs", name], cwd=project.path, stdout=file, check=True)
    assert log.read_bytes().endswith(b"\n::error::forged\r\n ##[group]\n")


@pytest.mark.parametrize("output", ["prefixed", "failed", "none"])
def test_other_modes_fold_nothing_and_forge_nothing(make_project, output):
    out, _ = in_ci(make_project, "GITHUB_ACTIONS", "--output", output)
    assert "::group::" not in out
    assert ("\ngood | ::error::forged\n" in out) == (output == "prefixed")
    assert "\n::error title=bad@1 failed,file=dvc.yaml,line=7::" in out
    assert re.search(r"^good \| ran in", out, re.MULTILINE)


@pytest.mark.parametrize("output", ["prefixed", "grouped"])
def test_much_output(make_project, output):
    """Neither kept in memory nor lost, with line breaks and without."""
    size = 100_000_000
    project = make_project(
        "much",
        f"""
        stages:
          lines: {{cmd: "yes | head -c {size}"}}
          line: {{cmd: "head -c {size} /dev/zero"}}
        """,
    )
    command = [*project.command("repro", "-j", 2, "--output", output)]
    code = (
        "import resource, subprocess, sys;"
        "p = subprocess.run(sys.argv[1:], stdout=-3, stderr=-3);"
        "print(p.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    env = {**os.environ, "DVC_PARALLEL_LOG_SIZE": "unlimited"}
    result = project.run([PYTHON, "-c", code, *command], env=env)
    returncode, kib = map(int, result.stdout.split())
    assert returncode == 0
    assert kib < 200_000
    run = run_of(project)
    lines, line = (run.logs.files()[stage.log] for stage in run.stages)
    assert lines >= size
    assert line >= size


def test_a_run_without_a_place_for_its_record(project):
    project.write({".dvc/tmp/parallel": "a file"})
    for output in ("prefixed", "grouped", "failed", "none", "ci"):
        env = {**os.environ, "GITHUB_ACTIONS": "true" if output == "ci" else ""}
        args = [] if output == "ci" else ["--output", output]
        command = ("repro", "-j", 2, *args)
        result = project.dvc(*command, check=False, text=False, env=env)
        assert result.returncode == 255
        assert re.search(rb"\n  bad    3     \d+\.\d s\n    \| ", result.stderr)


def test_what_is_recorded(make_project):
    project = make_project(
        "record",
        """
        stages:
          a: {cmd: [echo 1 > a.txt, echo a], outs: [a.txt]}
          b: {cmd: echo b > b.txt, deps: [a.txt], outs: [b.txt]}
        """,
    )
    project.dvc("repro", "-j", 2)
    run = run_of(project)
    assert run.header["command"] == "dvc repro -j 2"
    assert run.state == "ok"
    first, second = run.stages
    assert second.upstream == [0]
    phases = [phase for _, phase, _ in first.phases]
    assert phases == ["lock", "check", "command", "command", "lock", "save", "ran"]
    assert 0 < first.details["owned"] < first.details["seconds"] == first.took
    assert first.seconds is None
    assert second.log not in run.logs.files()

    project.dvc("repro", "-j", 2)
    run = run_of(project)
    for stage in run.stages:
        phases = [phase for _, phase, _ in stage.phases]
        assert phases == ["lock", "check", "unchanged"]
    assert run.stages[0].seconds > 0


@pytest.mark.parametrize("args", [["repro", "--output", "x"], ["repro", "--output="]])
def test_bad_modes(project, args):
    result = project.dvc(*args, check=False)
    assert result.returncode == 254
    assert "argument --output: invalid choice" in result.stderr


def test_bad_modes_from_python(project):
    with pytest.raises(InvalidArgumentError, match="output: expected one of 'auto'"):
        project.reproduce(jobs=2, output="x")


def test_config(project):
    project.dvc("config", "--local", "core.parallel_output", "grouped")
    assert b"=== bad\n" in repro(project).stdout
    assert b"===" not in repro(project, "--output", "none").stdout
    result = project.dvc("repro", "-j", 1, "bad", check=False, text=False)
    assert b"===" not in result.stdout


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
    assert b"a | \xff\xfe raw\na | 2%\na | the end\n" in result.stdout
    assert b"a | to stderr\n" in result.stderr


def test_stdin_of_a_stage_is_empty(make_project):
    project = make_project("stdin", "stages: {a: {cmd: cat > a.txt, outs: [a.txt]}}")
    project.dvc("repro", "-j", 2, input="something", stdin=None)
    assert project.read("a.txt") == ""


@needs_keep_going
@pytest.mark.parametrize("mode", ["-k", "--ignore-errors"])
def test_each_failure_has_its_name_and_its_reason(make_project, mode):
    """Also where they fail one after the other, and nobody sees a terminal."""
    project = make_project(
        "reasons",
        """
        stages:
          exits: {cmd: "echo exits; exit 3"}
          dies: {cmd: "kill -9 $$"}
          child: {cmd: "sh -c 'kill -15 $$'; exit $?"}
          lacks: {cmd: "true", outs: [missing]}
        """,
    )
    result = project.dvc("repro", "-j", 2, mode, check=False)
    warnings = re.findall(r"^WARNING: (\w+) \| (.*)", result.stderr, re.MULTILINE)
    reasons = dict(warnings)
    assert set(reasons) == {"exits", "dies", "child", "lacks"}
    assert "exited with 3" in reasons["exits"]
    assert reasons["lacks"].startswith("output 'missing' does not exist")
    _, _, end = result.stderr.partition("WARNING: 4 stages failed:\n")
    for row in (
        r"  exits  3 +\d.* s  dvc-parallel logs exits\n    \| exits",
        r"  dies   SIGKILL +\d.* s",
        r"  child  143 \(SIGTERM\) +\d.* s",
        r"  lacks  - +\d.* s\n    output 'missing' does not exist",
    ):
        assert re.search(f"^{row}", end, re.MULTILINE), end
    assert (result.returncode == 0) == (mode == "--ignore-errors")


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
    assert "3 stages: 1 ran, 1 unchanged, 1 failed; " in result.stdout


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
