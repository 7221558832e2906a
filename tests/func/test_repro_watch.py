"""``dvc-parallel repro --watch``: again whenever something has changed."""

import os
import signal
import subprocess
import sys

import pytest

from tests import HANGS

pytest.importorskip("watchfiles", reason="needs the extra 'watch'")

COMMAND = [sys.executable, "-m", "dvc_parallel", "repro", "-j", "2", "--watch"]

DVC_YAML = f"""
    vars: [names.yaml]
    stages:
      inside: {{cmd: touch src/inside, outs: [src/inside]}}
      folder: {{cmd: cp src/new out.txt, deps: [src], outs: [out.txt]}}
      code:
        cmd: {sys.executable} code.py
        deps: [.dvc-code/code.json]
        outs: [code.txt]
        meta: {{parallel: {{code: true}}}}
      last:
        cmd: cat out.txt code.txt; echo ${{name}}
        deps: [out.txt, code.txt]
        params: [a]
"""
FILES = {
    "names.yaml": "name: one",
    "params.yaml": "a: 1",
    "src/old": "1",
    "code.py": "import helper\nopen('code.txt', 'w').write(str(helper.VALUE))\n",
    "helper.py": "VALUE = 1\n",
    ".dvc-code/code.json": "{}\n",
}


class Watching:
    """Reads what it prints, run by run."""

    def __init__(self, project, command=COMMAND):
        self.process = subprocess.Popen(
            command,
            cwd=project.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def lines_until(self, text):
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if text in line:
                return lines
        raise AssertionError("".join(lines))

    def outcomes(self):
        """What stages have run until it waits, and how that has ended."""
        lines = self.lines_until("changes; Ctrl-C ends.")
        ran = {line.split()[0] for line in lines if "| ran in" in line}
        return ran, lines[-1].startswith("Failed")

    def interrupt(self):
        os.killpg(self.process.pid, signal.SIGINT)
        rest, _ = self.process.communicate(timeout=HANGS)
        return self.process.returncode, rest


@pytest.fixture
def watch():
    started = []

    def start(*args, **kwargs):
        started.append(Watching(*args, **kwargs))
        return started[-1]

    yield start
    for watching in started:
        if watching.process.poll() is None:
            os.killpg(watching.process.pid, signal.SIGKILL)
            watching.process.wait()


def test_what_is_affected_runs_again(make_project, watch):
    project = make_project("watch", DVC_YAML, FILES)
    watching = watch(project)
    assert watching.outcomes() == ({"inside", "code"}, True)
    # NOTE: a run that the outputs of the one before had triggered would come first
    project.write({"src/new": "2"})
    assert watching.outcomes() == ({"folder", "last"}, False)
    project.write({"helper.py": "VALUE = 2\n"})
    assert watching.outcomes() == ({"code", "last"}, False)
    project.write({"params.yaml": "a: 2"})
    assert watching.outcomes() == ({"last"}, False)
    project.write({"names.yaml": "name: two"})
    assert watching.outcomes() == ({"last"}, False)
    project.write({"dvc.yaml": "stages:"})
    assert watching.outcomes() == (set(), True)
    status, rest = watching.interrupt()
    assert (status, rest) == (252, "")


def test_a_change_during_a_run_counts(make_project, watch):
    project = make_project(
        "watch",
        """
        stages:
          one: {cmd: cat in, deps: [in]}
          two: {cmd: "until [ -f go ]; do sleep 0.1; done", deps: [other]}
        """,
        {"in": "1\n", "other": ""},
    )
    watching = watch(project)
    watching.lines_until("one | ran in")
    project.write({"in": "2\n"})
    project.write({"go": ""})
    assert watching.outcomes()[0] == {"two"}
    assert watching.outcomes()[0] == {"one"}

    (project.path / "go").unlink()
    project.write({"other": "3\n"})
    watching.lines_until("two | > until")
    status, rest = watching.interrupt()
    assert status == 252
    assert "interrupted" in rest


@pytest.mark.parametrize(
    "args, status, error",
    [
        ([], 1, "--watch needs the package 'watchfiles': pip install"),
        (["--no-such"], 254, "unrecognized arguments: --no-such"),
    ],
)
def test_errors(make_project, watch, args, status, error):
    project = make_project("watch", DVC_YAML, FILES)
    project.write({"watchfiles.py": "raise ImportError"})
    result = project.run([*COMMAND, *args], check=False)
    assert result.returncode == status
    assert error in result.stderr
    assert not project.exists("out.txt")
