"""``meta.parallel.code: {trace: true}``: what ran and is not covered is named."""

import json
import os

import pytest

PROJECT = """
stages:
  train:
    cmd: python src/train.py scale
    outs: [model.txt]
    meta: {parallel: {code: {trace: true}}}
"""
# What reading does not find: a plug-in whose path and name are made up.
FILES = {
    "src/train.py": """\
import importlib.util, os, sys

def load(name):
    path = os.path.join(os.path.dirname(__file__), "..", "plugins", name + "." + "py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

if __name__ == "__main__":
    name = sys.argv[1]
    with open("model.txt", "w") as file:
        print(getattr(load(name), "_".join(["run", name]))(), file=file)
""",
    "plugins/scale.py": """\
def run_scale():
    return 1

def run_other():
    return 1
""",
}
FILE = ".dvc-code/train.json"
FOUND = ["plugins/scale.py", "plugins/scale.py:run_scale"]
WARNING = (
    f"stage 'train' ran code that '{FILE}' does not cover: {', '.join(FOUND)}. The next"
)


@pytest.fixture
def project(make_project):
    project = make_project(dvc_yaml=PROJECT, files=FILES)
    project.deps("--write")
    return project


def edit(project, file, old, new):
    text = project.read(file)
    assert old in text
    project.write({file: text.replace(old, new)})


def warnings(result):
    return " ".join(result.stderr.split())


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_ran_is_named_and_covered_by_the_next_update(project, jobs):
    before = project.read(FILE)
    shown = warnings(project.dvc("repro", "-j", jobs))
    assert WARNING in shown
    # NOTE: nothing that it depends on has changed while it ran
    assert project.read(FILE) == before
    with project.repo() as repo, repo.lock:
        (stage,) = repo.index.stages
        assert not stage.changed()
    assert f"modified:           {FILE}" in project.dvc("status").stdout
    assert json.loads(project.read(FILE))["also"] == FOUND
    assert warnings(project.dvc("repro", "-j", jobs)).count("does not cover") == 0
    assert "up to date" in project.dvc("status").stdout

    edit(project, "plugins/scale.py", "def run_other():\n    return 1", "")
    assert "up to date" in project.dvc("status").stdout
    edit(project, "plugins/scale.py", "return 1", "return 2")
    assert project.reproduce(jobs=int(jobs)) == ["train"]
    assert project.read("model.txt") == "2\n"


def test_it_stays_covered_for_those_who_do_not_trace(project):
    project.reproduce(jobs=1)
    project.dvc("commit", "-f")
    assert "up to date" in project.dvc("status").stdout
    edit(project, "dvc.yaml", "{trace: true}", "true")
    text = project.read(FILE)
    # in the midst of a merge
    lines = text.splitlines()
    at = lines.index('    "plugins/scale.py",')
    lines[at:at] = ["<<<<<<< ours"]
    lines[at + 2 : at + 2] = ["=======", '    "gone.py:f",', ">>>>>>> theirs"]
    project.write({FILE: "\n".join(lines)})
    assert "up to date" in project.dvc("status").stdout
    assert project.read(FILE) == text
    os.unlink(project.path / "plugins/scale.py")
    project.dvc("status")
    assert "also" not in json.loads(project.read(FILE))


def test_code_in_other_processes_and_modules(make_project):
    """Processes that the script starts, in whatever way they end; modules by name."""
    project = make_project(
        dvc_yaml="""
        stages:
          train:
            cmd: python main.py
            wdir: sub
            meta: {parallel: {code: {trace: true, entries: [main.py]}}}
            deps: [gen]
        """,
        files={
            "sub/main.py": "import os, sys, subprocess, multiprocessing as m\n"
            "def call(name):\n"
            "    x = __builtins__.__dict__['__imp' + 'ort__'](name)\n"
            "    getattr(x, 'f')()\n"
            "    os._exit(0)\n"
            "if __name__ == '__main__':\n"
            "    p = m.get_context('fork').Process(target=call, args=('x' + 'y',))\n"
            "    p.start(); p.join()\n"
            "    run = [sys.executable, '../tools/say' + '.' + 'py']\n"
            "    subprocess.run(run, check=True)\n"
            "    sys.path.append('gen'); call('a' + 'b')\n",
            "sub/xy.py": "def f(): pass\ndef g(): pass\n",
            "sub/gen/ab.py": "def f(): pass\n",
            "tools/say.py": "def f(): pass\nif __name__ == '__main__': f()\n",
        },
    )
    project.deps("--write")
    shown = warnings(project.dvc("repro"))
    assert ": tools.say, xy. The next" in shown
    assert "sitecustomize" not in shown
    assert "does not cover" not in warnings(project.dvc("repro"))
    edit(project, "tools/say.py", "def f(): pass", "def f(): return 1")
    edit(project, "sub/xy.py", "def g(): pass", "")
    assert project.reproduce(jobs=1) == ["train"]


def test_what_cannot_be_checked_is_said(project):
    edit(project, "dvc.yaml", "cmd: python src", "cmd: python -I src")
    shown = project.dvc("repro")
    assert "stage 'train': no Python of its command said which" in warnings(shown)
    edit(project, "dvc.yaml", "{trace: true}", "{trace: 1}")
    shown = project.dvc("repro", check=False)
    assert "or {trace: true, entries: ...}, got {'trace': 1}" in warnings(shown)


def test_a_stage_that_does_not_ask_runs_as_always(project):
    edit(project, "dvc.yaml", "{trace: true}", "true")
    assert "does not cover" not in warnings(project.dvc("repro"))
    assert not project.exists(".dvc/tmp/parallel/trace")


def test_scripts_of_one_name_in_two_folders(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          a:
            cmd: [python one/run.py, python two/run.py]
            meta: {parallel: {code: true}}
        """,
        files={"one/run.py": "x = 1; print(x)", "two/run.py": "x = 2; print(x)"},
    )
    project.deps("--write")
    project.reproduce(jobs=1)
    for folder in ("one", "two"):
        edit(project, f"{folder}/run.py", "x =", "x = 1 +")
        assert project.reproduce(jobs=1) == ["a"]
