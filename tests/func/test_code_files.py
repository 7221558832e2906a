"""``meta.parallel.code``: a stage runs again when code that it uses changes."""

import json
import os
import sys

import pytest

from dvc_parallel.run import code_files
from dvc_parallel.run.code_files import refresh
from tests.support.capabilities import HAS_MATRIX
from tests.support.project import finish

PROJECT = """
stages:
  train:
    cmd: python src/train.py
    outs: [model.txt]
    meta: {parallel: {code: true}}
  report:
    cmd: cat model.txt > report.txt
    deps: [model.txt]
    outs: [report.txt]
"""
FILES = {
    "src/train.py": """
from lib import used

# A comment.
def unused():
    return 1

if __name__ == "__main__":
    open("model.txt", "w").write(str(used()))
""",
    "src/lib.py": "def used():\n    return 1\n\ndef other():\n    return 1\n",
}
FILE = ".dvc-code/train.json"


@pytest.fixture
def project(make_project):
    project = make_project(dvc_yaml=PROJECT, files=FILES)
    assert f"added: {FILE}" in project.deps("--write").stdout
    return project


def edit(project, file, old, new):
    text = project.read(file)
    assert old in text
    project.write({file: text.replace(old, new)})


def test_a_stage_runs_when_code_that_it_uses_changes(project):
    assert project.reproduce(jobs=2) == ["train", "report"]
    edit(project, "src/train.py", "# A comment.", "# Another.\n\n")
    edit(project, "src/train.py", "return 1", "return 2")
    edit(project, "src/lib.py", "def other():\n    return 1", "")
    assert project.reproduce(jobs=2) == []
    edit(project, "src/lib.py", "return 1", "return 2")
    assert project.reproduce(jobs=1) == ["train", "report"]
    assert project.read("report.txt") == "2"
    # NOTE: who has no plugin sees a file like others
    assert project.reproduce() == []


def test_status_and_plan_know_of_it(project):
    project.reproduce(jobs=1)
    assert "up to date" in project.dvc("status").stdout
    edit(project, "src/lib.py", "return 1", "return 2")
    assert f"modified:           {FILE}" in project.dvc("status").stdout
    edit(project, "src/lib.py", "return 2", "return 1")
    assert "up to date" in project.dvc("status").stdout
    edit(project, "src/lib.py", "return 1", "return 3")
    plan = [sys.executable, "-m", "dvc_parallel", "plan"]
    assert f"changed dependency {FILE}" in project.run(plan).stdout


@pytest.mark.parametrize(
    "command", [("commit", "-f"), ("commit", "-f", "train"), ("exp", "save")]
)
def test_commit_accepts_the_code_that_is_there(project, command):
    run = project.run
    project.reproduce(jobs=1)
    run(["git", "add", "."])
    run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"])
    edit(project, "src/lib.py", "return 1", "return 2")
    before = project.read(FILE)
    project.dvc(*command)
    assert project.read(FILE) != before
    assert "up to date" in project.dvc("status").stdout
    edit(project, "src/lib.py", "return 2", "return (")
    shown = project.dvc("commit", "-f")
    assert "stage 'train': meta.parallel.code: lib.py, line " in shown.stderr


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_git_is_to_have_the_file_and_dvc_lock(project, jobs):
    assert f"git add {FILE}" not in project.dvc("repro", "--dry", "train").stdout
    project.dvc("config", "core.autostage", "true")
    project.dvc("repro", "-j", jobs)
    project.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]
    )
    edit(project, "src/lib.py", "return 1", "return 2")
    # NOTE: it writes the file, and stages nothing
    project.dvc("status")
    project.dvc("repro", "-j", jobs)
    staged = project.run(["git", "diff", "--name-only", "--cached"]).stdout.split()
    assert sorted(staged) == [FILE, "dvc.lock"]
    project.dvc("config", "core.autostage", "false")
    assert "git add" not in project.dvc("repro", "-j", jobs).stdout
    edit(project, "src/lib.py", "return 2", "return 3")
    shown = project.dvc("repro", "-j", jobs).stdout
    added = next(line for line in shown.splitlines() if "git add" in line)
    assert set(added.split()[2:]) == {FILE, "dvc.lock"}


def test_the_file_names_what_changed(project):
    before = json.loads(project.read(FILE))
    assert set(before) == {"definitions", "packages"}
    assert set(before["definitions"]) == {"lib:used", "train", "train:used"}
    edit(project, "src/lib.py", "return 1", "return 2")
    project.dvc("status")
    after = json.loads(project.read(FILE))
    changed = before["definitions"].items() ^ after["definitions"].items()
    assert {name for name, _ in changed} == {"lib:used"}


def test_an_experiment_keeps_it(project):
    run = project.run
    run(["git", "add", "."])
    project.reproduce(jobs=1)
    run(["git", "add", "."])
    run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"])
    edit(project, "src/lib.py", "return 1", "return 2")
    env = {**os.environ, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
    env.update(GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b")
    project.dvc("exp", "run", "-n", "one", env=env)
    assert project.read("report.txt") == "2"
    shown = run(["git", "show", "refs/exps/one", "--stat"], check=False).stdout
    if not shown:
        refs = run(["git", "for-each-ref", "--format=%(refname)", "refs/exps"]).stdout
        (ref,) = [ref for ref in refs.split() if ref.endswith("/one")]
        shown = run(["git", "show", ref, "--stat"]).stdout
    assert FILE in shown


TEMPLATES = """
stages:
  same:
    foreach: [us, eu]
    do:
      cmd: python ../src/train.py ${item}
      wdir: sub
      meta: {parallel: {code: true}}
  own:
    foreach: [one, two]
    do:
      cmd: python src/${item}.py
      meta: {parallel: {code: true}}
  named:
    cmd: ./run.sh
    meta: {parallel: {code: ["lib:used", src/two.py]}}
    deps: [src/two.py]
"""
MATRIX = """
stages:
  grid:
    matrix: {script: [one, two], lr: [1]}
    cmd: python src/${item.script}.py ${item.lr}
    meta: {parallel: {code: true}}
"""


def test_templates_and_entries(make_project):
    files = {
        **FILES,
        "sub/keep": "",
        "run.sh": "#!/bin/sh\n",
        "src/one.py": "a = 1",
        "src/two.py": "b = 1",
        "lib.py": "def used(): return 1",
    }
    project = make_project(dvc_yaml=TEMPLATES, files=files)
    os.chmod(project.path / "run.sh", 0o755)
    shown = project.deps().stdout
    assert "same:\n  not declared: ../.dvc-code/same.json\n" in shown
    assert "own:\n  not declared: .dvc-code/own@${item}.json\n" in shown
    assert "  to be removed from deps: src/two.py, as any change" in shown
    project.deps("--write")
    assert sorted(os.listdir(project.path / ".dvc-code")) == [
        "named.json",
        "own@one.json",
        "own@two.json",
        "same.json",
    ]
    assert len(project.reproduce(jobs=2)) == 5
    edit(project, "src/one.py", "1", "2; print(a)")
    assert project.reproduce(jobs=2) == ["own@one"]
    edit(project, "src/lib.py", "1", "2")
    # NOTE: what they share is that of all, whichever is asked for
    assert project.reproduce(jobs=1, targets=["same@us"]) == ["same@us"]
    assert project.reproduce(jobs=1) == ["same@eu"]
    edit(project, "lib.py", "1", "2")
    assert project.reproduce(jobs=1) == ["named"]


@pytest.mark.skipif(not HAS_MATRIX, reason="this DVC has no matrix")
def test_a_matrix(make_project):
    files = {"src/one.py": "a = 1", "src/two.py": "b = 1"}
    project = make_project(dvc_yaml=MATRIX, files=files)
    assert (
        "grid:\n  added: .dvc-code/grid@${key}.json\n" in project.deps("--write").stdout
    )
    assert project.reproduce(jobs=2) == ["grid@one-1", "grid@two-1"]
    edit(project, "src/one.py", "1", "2; print(a)")
    assert project.reproduce(jobs=2) == ["grid@one-1"]


@pytest.mark.parametrize(
    "code, cmd, message",
    [
        ("yes please", "python a.py", "expected true, or a list such as [pkg.train"),
        ("[]", "python a.py", "expected true, or a list such as"),
        ("true", "papermill a.ipynb b.ipynb", "notebooks are not read; give a list of"),
        ("true", "cat a.py", "its command runs no Python script; give a list of"),
        ("true", "python b.py", "there is no script 'b.py'; give a list of entries"),
        ("[a:f]", "python a.py", "a:f: 'a' does not define 'f' at its top"),
        ("true", "python broken.py", "broken.py, line 1: "),
    ],
)
def test_errors_come_before_anything_runs(make_project, code, cmd, message):
    yaml = f"""
    stages:
      first: {{cmd: touch ran}}
      a:
        cmd: {cmd}
        deps: [.dvc-code/a.json]
        meta: {{parallel: {{code: {code}}}}}
    """
    files = {"a.py": "x = 1", "broken.py": "x = ("}
    project = make_project(dvc_yaml=yaml, files=files)
    result = project.dvc("repro", check=False)
    assert result.returncode
    assert "stage 'a': meta.parallel.code: " in result.stderr
    assert message in " ".join(result.stderr.split())
    assert not project.exists("ran")
    assert message in " ".join(project.dvc("status").stderr.split())


def test_a_stage_without_its_file_is_told_what_to_do(make_project):
    project = make_project(dvc_yaml=PROJECT, files=FILES)
    result = project.dvc("repro", check=False)
    assert "`dvc-parallel deps --write` adds it" in " ".join(result.stderr.split())
    assert result.returncode


def test_code_that_is_not_understood_keeps_no_other_stage_from_its_file(make_project):
    stage = "cmd: python {0}.py, outs: [{0}.txt], meta: {{parallel: {{code: true}}}}"
    project = make_project(
        dvc_yaml=f"""
            stages:
              good: {{{stage.format("good")}}}
              bad: {{{stage.format("bad")}}}
        """,
        files={"good.py": "", "bad.py": 'x = f"{y"\n'},
    )
    shown = project.deps("--write").stdout
    assert "good:\n  added: .dvc-code/good.json\n" in shown
    assert "bad:\n  stage 'bad': meta.parallel.code: bad.py, line 1" in shown
    assert project.exists(".dvc-code/good.json")
    assert "code" in project.dvc("status", "good").stdout


def test_a_file_that_git_ignores_is_warned_of(make_project):
    project = make_project(
        dvc_yaml="stages: {a: {cmd: python a.py, meta: {parallel: {code: true}}}}\n",
        files={"a.py": "", ".gitignore": "*.json\n"},
    )
    warned = "WARNING: git ignores '.dvc-code/a.json', which belongs to git"
    assert warned in project.deps("--write").stderr
    project.write({".gitignore": "*.json\n!.dvc-code/*.json\n"})
    assert warned not in project.deps("--write").stderr


def test_a_script_in_deps_is_warned_of(project):
    edit(project, "dvc.yaml", f"- {FILE}", f"- {FILE}\n      - src")
    shown = " ".join(project.dvc("repro").stderr.split())
    assert "stage 'train' has meta.parallel.code, but also 'src' in its deps" in shown


def test_not_while_a_stage_runs_that_depends_on_it(project):
    """What a stage has not read must not be recorded as what it has."""
    project.write(
        {
            "src/train.py": "from lib import used\n"
            "open('go').read()\nopen('model.txt', 'w').write(str(used()))\n"
        }
    )
    os.mkfifo(project.path / "go")
    process = project.start("repro", "-j", "2")
    with open(project.path / "go", "w"):
        edit(project, "src/lib.py", "return 1", "return 2")
        before = project.read(FILE)
        # NOTE: which fails, as in any run of that stage
        shown = " ".join(project.dvc("status", check=False).stderr.split())
        assert f"'{FILE}' is not refreshed, as another process runs" in shown
        assert project.read(FILE) == before
    finish(process)
    assert project.read("model.txt") == "1"
    assert f"modified:           {FILE}" in project.dvc("status").stdout


def test_projects_without_it_pay_nothing(make_project):
    project = make_project(dvc_yaml="stages: {a: {cmd: touch a, outs: [a]}}")
    code = "import sys\nfrom dvc.cli import main\n"
    code += "main(sys.argv[1:])\n"
    code += "assert not any('dvc_parallel.code' in name for name in sys.modules)"
    for args in (["repro", "-j", "2"], ["status"]):
        result = project.run([sys.executable, "-c", code, *args])
        assert result.returncode == 0


def test_refresh_writes_only_what_changed(project):
    path = project.path / FILE
    before = path.stat().st_mtime_ns, path.stat().st_ino
    with project.repo() as repo, repo.lock:
        refresh(repo.index.stages)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


NODE = """
stages:
  clean:
    cmd: echo 1 > out
    deps: [.kedro-dvc/clean.json]
    outs: [out]
    meta: {kedro: clean}
"""
FINGERPRINT = {
    "code": {"nodes:clean": "as it was"},
    "entries": ["nodes:clean"],
    "packages": {"gone": "1.0"},
    "source": "src",
    "version": 1,
}


@pytest.mark.parametrize("has_kedro", [True, False])
def test_fingerprints_of_kedro_are_refreshed_where_it_is(
    make_project, monkeypatch, has_kedro
):
    def distribution(name):
        if not has_kedro:
            raise code_files.PackageNotFoundError(name)

    monkeypatch.setattr(code_files, "distribution", distribution)
    name = ".kedro-dvc/clean.json"
    files = {name: json.dumps(FINGERPRINT), "src/nodes.py": "def clean():\n    pass\n"}
    project = make_project(dvc_yaml=NODE, files=files)

    def refreshed():
        with project.repo() as repo, repo.lock:
            refresh(repo.index.stages)
        return json.loads(project.read(name))

    content = refreshed()
    if not has_kedro:
        assert content == FINGERPRINT
        return
    assert {*content} == {*FINGERPRINT}
    assert content["packages"] == {}
    before = content["code"]
    assert [*before] == ["nodes:clean"]
    project.write({"src/nodes.py": "def clean():\n    # a comment\n    return 1\n"})
    assert refreshed()["code"].keys() == before.keys()
    assert refreshed()["code"] != before
    project.write({"src/nodes.py": "def other():\n    pass\n"})
    with pytest.raises(
        code_files.StageCodeError, match=r"stage 'clean': nodes:clean.*kedro"
    ):
        refreshed()
    # NOTE: whatever is wrong with one, the node's own run says it
    project.write({name: "[]"})
    assert refreshed() == []
