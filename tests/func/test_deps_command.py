"""``dvc-parallel deps``: what is not declared, and how it is added to dvc.yaml."""

import json

import pytest

# Comments, and what nobody else would write in this way, are to stay.
PROJECT = """
# The pipeline.
vars:
  - regions: {us: 1, eu: 2}

stages:
  prepare:  # first
    cmd: python src/prepare.py in.csv
    deps:
      - in.csv   # raw

      - src/prepare.py
    # What it makes:
    outs: [prepared.csv]
  train:
    cmd: >-
      python -m model.train
      --lr   0.1
    # A remark on params.
    params: [lr]
    outs:
    -   model.pkl
  each:
    foreach: ${regions}
    do:
      cmd: python ../src/each.py ${key} ${item}
      wdir: sub
      outs: ["out-${key}"]
  declared:
    cmd: python src/prepare.py
    deps: [src, "in.csv"]
  flow: {cmd: python src/each.py, deps: [src/helper.py]}
  grid:
    foreach: [one, two]
    do:
      cmd: python src/${item}.py
      deps: [in.csv]
  shell:
    cmd: cp in.csv out.csv
"""
FILES = {
    "in.csv": "1\n",
    "params.yaml": "lr: 1\n",
    "src/prepare.py": "import numpy, os, helper\nimport helper as h\n",
    "src/helper.py": "from lib import a\n",
    "src/lib/__init__.py": "",
    "src/lib/a.py": "x = 1\n",
    "src/lib/unused.py": "x = 1\n",
    "src/each.py": "def f():\n    import helper\nf()\n",
    "src/one.py": "x = 1",
    "src/two.py": "x = 1",
    "model/__init__.py": "from .net import Net\n",
    "model/net.py": "class Net: pass\n",
    "model/train.py": "from . import net\n",
    "sub/keep": "",
}
MISSING = {
    "prepare": ["src/helper.py", "src/lib/a.py"],
    "train": ["model/__init__.py", "model/net.py", "model/train.py"],
    "each": ["../src/each.py", "../src/helper.py", "../src/lib/a.py"],
    "flow": ["src/each.py", "src/lib/a.py"],
}


@pytest.fixture
def project(make_project):
    return make_project(dvc_yaml=PROJECT, files=FILES)


def test_shows_what_is_not_declared(project):
    before = project.read("dvc.yaml")
    shown = project.deps().stdout
    for name, paths in MISSING.items():
        lines = "".join(f"  not declared: {path}\n" for path in paths)
        assert f"{name}:\n{lines}" in shown
    assert "declared:\n  not" not in shown
    assert "shell" not in shown
    assert "only grid@one uses 'src/one.py': add it by hand" in shown
    assert "10 modules not declared." in shown
    assert project.deps("--check", status=1).stdout == shown
    assert project.read("dvc.yaml") == before


def test_json_has_what_is_shown(project):
    told = json.loads(project.deps("--json", "--check", status=1).stdout)
    assert (told["version"], told["safe"], told["added"]) == (1, None, [])
    found = {stage["name"]: stage["findings"] for stage in told["stages"]}
    for name, paths in MISSING.items():
        assert [it["path"] for it in found[name] if it["add"]] == paths
    (note, _) = found["grid"]
    assert note["kind"] == "note"
    assert "only grid@one uses 'src/one.py'" in note["text"]
    told = json.loads(project.deps("--json", "--write", "flow").stdout)
    assert told["added"] == [{"name": "flow", "deps": MISSING["flow"]}]


def test_added_lines_are_all_that_changes(project):
    before = project.read("dvc.yaml").splitlines()
    assert "added: src/helper.py" in project.deps("--write").stdout
    after = project.read("dvc.yaml").splitlines()
    removed = [line for line in before if line not in after]
    # NOTE: a list in one line stays one
    assert [line.strip() for line in removed] == [
        "flow: {cmd: python src/each.py, deps: [src/helper.py]}"
    ]
    text = project.read("dvc.yaml")
    assert (
        "      - src/prepare.py\n      - src/helper.py\n      - src/lib/a.py\n"
        "    # What it makes:\n"
    ) in text
    assert (
        "      --lr   0.1\n    deps:\n      - model/__init__.py\n"
        "      - model/net.py\n      - model/train.py\n    # A remark"
    ) in text
    assert "deps: [src/helper.py, src/each.py, src/lib/a.py]}" in text
    with project.repo() as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
        found = {dep.def_path for dep in stages["each@us"].deps}
        assert found == set(MISSING["each"])


def test_nothing_is_left_to_add(project):
    project.deps("--write", "prepare", "train", "each", "flow")
    text = project.read("dvc.yaml")
    names = ("prepare", "train", "each", "flow", "shell", "declared")
    assert "All modules are declared" in project.deps("--check", *names).stdout
    assert "declared" in project.deps("--write", "prepare").stdout
    assert project.read("dvc.yaml") == text


def test_other_layouts_get_them_too(make_project):
    lines = [
        "stages:\r\n",
        "  last:\r\n",
        "    outs: [a]\r\n",
        "    cmd: python x.py",
    ]
    project = make_project(files={"x.py": "import y", "y.py": "z = 1"})
    (project.path / "dvc.yaml").write_bytes("".join(lines).encode())
    project.deps("--write")
    text = (project.path / "dvc.yaml").read_bytes().decode()
    assert text.startswith("".join(lines[:3]))
    assert "deps:\r\n" in text
    assert "All" in project.deps("--check").stdout
    one_line = "stages: {a: {cmd: python x.py}}  # Kept.\n"
    (project.path / "dvc.yaml").write_text(one_line)
    project.deps("--write")
    assert "# Kept." in project.read("dvc.yaml")
    assert "All" in project.deps("--check").stdout


def test_what_is_not_understood_is_no_error(make_project):
    files = {"broken.py": "x = (", "ok.py": "import broken", "nb.ipynb": "{}"}
    project = make_project(
        dvc_yaml="""
        stages:
          notebook: {cmd: papermill nb.ipynb out.ipynb}
          gone: {cmd: python gone.py}
          code: {cmd: python ok.py}
          tool: {cmd: python -m json.tool}
          several: {cmd: [bash run.sh, python -m nowhere && python -c 1]}
        """,
        files=files,
    )
    shown = project.deps("--check").stdout
    assert "notebook:\n  not understood: `papermill nb.ipynb out.ipynb`:" in shown
    assert "gone:\n  not understood: there is no script 'gone.py'" in shown
    assert "code:\n  not understood: broken.py, line 1:" in shown
    assert "`bash run.sh`: scripts of a shell are not read" in shown
    assert "there is no module 'nowhere'" in shown
    assert "`python -c 1`: code in a command is not read" in shown
    assert "tool" not in shown


@pytest.mark.parametrize(
    "layout, cmd, path",
    [
        ("src", "python -m pkg.main", "src/pkg/lib.py"),
        ("lib", "PYTHONPATH=lib python -m pkg.main", "lib/pkg/lib.py"),
        (".", "cd pkg && python -m main", "pkg/lib.py"),
        (".", "uv run pkg/main.py", "pkg/lib.py"),
    ],
)
def test_where_modules_are_found(make_project, layout, cmd, path):
    files = {
        f"{layout}/pkg/main.py": "import lib" if layout == "." else "import pkg.lib",
        f"{layout}/pkg/lib.py": "x = 1",
    }
    if layout == "src":
        files["pyproject.toml"] = ""
    project = make_project(dvc_yaml=f"stages: {{a: {{cmd: {cmd}}}}}", files=files)
    assert f"not declared: {path}" in project.deps().stdout


SETUP = "from setuptools import setup\nsetup(entry_points=%s)\n"
# Where a project says that `tool` calls `pkg.cli:main`, by their kinds.
CONSOLE_SCRIPTS = {
    "pyproject.toml": '[project.scripts]\ntool = "pkg.cli:main"\n',
    "gui": '[project.gui-scripts]\ntool = "pkg.cli:main"\n',
    "poetry": '[tool.poetry.scripts]\ntool = "pkg.cli:main"\n',
    "poetry, long": '[tool.poetry.scripts]\ntool = {callable = "pkg.cli:main"}\n',
    "poetry, file": (
        '[tool.poetry.scripts]\ntool = {reference = "pkg/cli.py", type = "file"}\n'
    ),
    "setup.cfg": (
        "[options.entry_points]\nconsole_scripts =\n  tool = pkg.cli:main [extra]\n"
    ),
    "setup.py": SETUP % "{'console_scripts': ['tool=pkg.cli:main']}",
    "setup.py, text": SETUP % "'[console_scripts]\\ntool = pkg.cli:main'",
    "installed": "tool = pkg.cli:main",
}


@pytest.mark.parametrize("kind", CONSOLE_SCRIPTS)
def test_console_scripts_of_the_project(make_project, kind):
    text, layout = CONSOLE_SCRIPTS[kind], "" if "file" in kind else "src/"
    files = {
        f"{layout}pkg/cli.py": "import pkg.lib\ndef main(): return pkg.lib.x",
        f"{layout}pkg/lib.py": "x = 1",
        "sub/x": "",
        kind if kind.startswith("setup.c") else "pyproject.toml": text,
    }
    if kind == "installed":
        info = ".venv/lib/python3.11/site-packages/mine-1.dist-info/entry_points.txt"
        files.update({"pyproject.toml": "", info: f"[console_scripts]\n{text}\n"})
    elif kind.startswith("setup.py"):
        files.update({"pyproject.toml": "", "setup.py": text})
    yaml = """
    stages:
      a: {cmd: tool train}
      b: {cmd: uv run tool}
      c: {cmd: cd sub; nice tool}
    """
    shown = make_project(dvc_yaml=yaml, files=files).deps().stdout
    for name in ("cli", "lib"):
        assert shown.count(f"{layout}pkg/{name}.py\n") == 3
    assert "not understood" not in shown


def test_programs_that_are_not_followed_are_named(make_project):
    files = {
        "setup.py": SETUP % "{'console_scripts': ['tool=' + target]}",
        "run": "#!/usr/bin/env python3\nimport lib\n",
        "go": "#!/bin/sh\npython run\n",
        "lib.py": "x = 1",
        ".venv/pyvenv.cfg": "",
        ".venv/bin/other": "#!/usr/bin/python\nimport lib\n",
    }
    project = make_project(
        dvc_yaml="""
        stages:
          a: {cmd: tool train}
          b: {cmd: ./run}
          c: {cmd: [./go, make all, cp lib.py other.py]}
          d: {cmd: .venv/bin/other}
        """,
        files=files,
    )
    assert project.deps().stdout == (
        "a:\n"
        "  not understood: `tool train`: what 'tool' calls is not read from setup.py\n"
        "b:\n  not declared: lib.py\n  not declared: run\n"
        "c:\n  not understood: `make all`: files of make are not read\n"
        "  not understood: `./go`: scripts of a shell are not read\n"
        "\n2 modules not declared. Add with --write.\n"
    )


def test_a_script_that_changes_sys_path(make_project):
    files = {
        "scripts/a.py": "import sys; sys.path.append('..')\nimport common.x",
        "common/x.py": "y = 1",
    }
    yaml = "stages: {a: {cmd: python scripts/a.py}}"
    project = make_project(dvc_yaml=yaml, files=files)
    assert "not declared: common/x.py" in project.deps().stdout


def test_an_output_of_its_own_is_no_dependency(make_project):
    yaml = "stages: {a: {cmd: python a.py, deps: [a.py], outs: [made.py]}}"
    files = {"a.py": "import made", "made.py": "x = 1"}
    project = make_project(dvc_yaml=yaml, files=files)
    assert "All modules are declared" in project.deps().stdout
