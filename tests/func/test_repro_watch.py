"""``dvc-parallel repro --watch``: again whenever something has changed."""

import os
import signal
import subprocess
import sys

import dvc
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

    def next(self):
        """What has changed, which stages have run then, and whether that failed."""
        lines = self.lines_until("changes; Ctrl-C ends.")
        changed = [it.partition(" changed.")[0] for it in lines if " changed." in it]
        ran = {line.split()[0] for line in lines if "| ran in" in line}
        return ", ".join(changed), ran, lines[-1].startswith("Failed")

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
        watching.process.communicate()


def test_what_is_affected_runs_again(make_project, watch):
    project = make_project("watch", DVC_YAML, FILES)
    project.write({"helper.py": "VALUE = (\n"})
    watching = watch(project)
    assert watching.next() == ("", set(), True)
    project.write({"helper.py": "VALUE = 1\n"})
    assert watching.next() == ("helper.py", {"inside", "code"}, True)
    # NOTE: a run that the outputs of the one before had triggered would come first
    project.write({"src/new": "2"})
    assert watching.next() == ("src/new", {"folder", "last"}, False)
    project.write({"src/more/new": "2", "src/.new.swp": ""})
    assert watching.next() == ("src/more/new", {"folder"}, False)
    project.write({"helper.py": "VALUE = 2\n"})
    assert watching.next() == ("helper.py", {"code", "last"}, False)
    project.write({"params.yaml": "a: 2"})
    assert watching.next() == ("params.yaml", {"last"}, False)
    replace(project, "names.yaml", "name: two")
    assert watching.next() == ("names.yaml", {"last"}, False)
    (project.path / "params.yaml").unlink()
    assert watching.next() == ("params.yaml", set(), True)
    status, rest = watching.interrupt()
    assert (status, rest) == (252, "")


def replace(project, name, text):
    """As editors do that write a new file and rename it."""
    for it in ("4913", f".{name}.swp", f"{name}~"):
        project.write({it: text})
    os.replace(project.path / f"{name}~", project.path / name)
    os.unlink(project.path / "4913")


def test_files_of_dvc(make_project, watch):
    text = "stages: {one: {cmd: cat in, deps: [in]}}"
    project = make_project("watch", text, {"in": "1\n"})
    watching = watch(project, [*COMMAND, "--all-pipelines"])
    assert watching.next() == ("", {"one"}, False)
    replace(project, "dvc.yaml", text[:-5])
    assert watching.next() == ("dvc.yaml", set(), True)
    # NOTE: what dvc.yaml said counts while DVC does not understand it
    project.write({"in": "2\n"})
    assert watching.next() == ("in", set(), True)
    project.write({"dvc.yaml": text})
    assert watching.next() == ("dvc.yaml", {"one"}, False)
    (project.path / "dvc.yaml").unlink()
    assert watching.next() == ("dvc.yaml", set(), False)

    address = "new/more/dvc.yaml:two"
    project.write({"new/more/dvc.yaml": "stages: {two: {cmd: ls, deps: [data]}}"})
    project.write({"new/more/data/a": "1\n"})
    assert watching.next() == ("new/more/dvc.yaml", {address}, False)
    project.write({".dvcignore": "b\n"})
    assert watching.next() == (".dvcignore", set(), False)
    project.write({"new/more/data/b": "1\n", "raw": "1\n"})
    project.dvc("add", "raw")
    assert watching.next() == ("raw.dvc", set(), False)
    project.write({"raw.dvc": f"{project.read('raw.dvc')}desc: as it came\n"})
    assert watching.next() == ("raw.dvc", set(), False)


def test_what_a_run_writes_does_not_count(make_project, watch):
    project = make_project(
        "watch",
        """
        stages:
          make:
            cmd: mkdir store/out && cp data in store/out
            deps: [data, in]
            outs: [store/out]
          use:
            cmd: cat link/out/in folder/link; cp dvc.yaml copy; mv copy dvc.yaml
            deps: [link/out/in, folder, link]
            always_changed: true
        """,
        {"data": "1\n", "in": "1\n", "folder/a": "", "store/a": ""},
    )
    (project.path / "link").symlink_to("store")
    (project.path / "folder/link").symlink_to("../store/out/in")
    project.dvc("add", "data")
    recorded = project.read("data.dvc")
    watching = watch(project)
    assert watching.next() == ("", {"make", "use"}, False)
    project.write({"data": "2\n"})
    assert watching.next() == ("data", {"data.dvc", "make", "use"}, False)
    if dvc.version_tuple < (3,):
        # NOTE: it copies data that it records back from the cache
        assert watching.next() == ("data", {"use"}, False)
    # NOTE: a run would record the data that are there, not those that `git pull` named
    assert project.read("data.dvc") != recorded
    project.write({"data.dvc": recorded})
    project.write({"in": "2\n"})
    assert watching.next()[0] == "in"


def test_links(make_project, watch, tmp_path):
    project = make_project(
        "watch",
        """
        stages:
          file: {cmd: cat link, deps: [link]}
          folder: {cmd: ls folder, deps: [folder]}
          inside: {cmd: ls plain, deps: [plain]}
        """,
        {"plain/a": ""},
    )
    elsewhere = tmp_path / "elsewhere"
    for name in ("file", "folder", "inside"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "a").write_text("1")
    (project.path / "link").symlink_to(elsewhere / "file/a")
    (project.path / "folder").symlink_to(elsewhere / "folder")
    (project.path / "plain/link").symlink_to(elsewhere / "inside/a")
    watching = watch(project)
    assert watching.next() == ("", {"file", "folder", "inside"}, False)
    (elsewhere / "file/a").write_text("12")
    assert watching.next() == ("link", {"file"}, False)
    (elsewhere / "folder/b").write_text("1")
    assert watching.next() == ("folder/b", {"folder"}, False)
    (elsewhere / "inside/a").write_text("12")
    assert watching.next() == ("plain/link", {"inside"}, False)
    (elsewhere / "other").write_text("other")
    (project.path / "new").symlink_to(elsewhere / "other")
    os.replace(project.path / "new", project.path / "link")
    assert watching.next() == ("link", {"file"}, False)


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
    assert watching.next() == ("", {"two"}, False)
    assert watching.next() == ("in", {"one"}, False)

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
