"""Projects that cannot be had in DVC, in one line; data that nothing tracks."""

import subprocess
import sys

import pytest

pytest.importorskip("kedro", reason="needs the extra dvc-parallel[kedro]")

REGISTRY = "src/shop/pipeline_registry.py"


@pytest.mark.parametrize(
    "name, old, new, what",
    [
        (
            REGISTRY,
            "def register_pipelines():",
            "def register_pipelines():\n    raise OSError('no disk')",
            "the pipelines cannot be loaded: OSError: no disk "
            "(src/shop/pipeline_registry.py, line 7)",
        ),
        (
            "src/shop/nodes.py",
            "def total(",
            "def total(:",
            "SyntaxError: invalid syntax (src/shop/nodes.py, line 28)",
        ),
        (
            "src/shop/nodes.py",
            "from .base",
            "import missing_package\nfrom .base",
            "No module named 'missing_package' (src/shop/nodes.py, line 3)",
        ),
        (
            "conf/base/catalog.yml",
            "raw: {",
            "raw: {{",
            "conf/base/catalog.yml, unable to read line",
        ),
        (
            "conf/base/catalog.yml",
            "type: shop.datasets.Json, filepath: data/raw.json",
            "filepath: '${globals:nothing}'",
            "Globals key 'nothing' not found",
        ),
    ],
)
def test_what_the_project_raises(shop, name, old, new, what):
    shop.edit(name, old, new)
    assert what in shop.fails("update")


LOADED, LINE_1 = "the project cannot be loaded: ", "line 1)"
SETTINGS, CLI = "src/shop/settings.py", "src/shop/cli.py"


@pytest.mark.parametrize(
    "name, text, what",
    [
        (SETTINGS, "raise OSError('lost')", f"OSError: lost ({SETTINGS}, {LINE_1}"),
        (SETTINGS, "a = (", f"'(' was never closed ({SETTINGS}, {LINE_1}"),
        (SETTINGS, "HOOKS = 5", "TypeError: 'int' object is not iterable"),
        ("src/shop/__init__.py", "a b", f"syntax (src/shop/__init__.py, {LINE_1}"),
        (CLI, "raise OSError('lost')", f"OSError: lost ({CLI}, {LINE_1}"),
        (CLI, "", "AttributeError: module 'shop.cli' has no attribute 'cli'"),
        ("pyproject.toml", "[tool.kedro]", "Missing required keys ["),
        (
            "pyproject.toml",
            "[tool.kedro]\npackage_name = 'shop'\nproject_name = 'shop'\n"
            "kedro_init_version = '0.19.1'",
            "Your Kedro project version 0.19.1 does not match",
        ),
    ],
)
def test_what_kedro_loads_before_its_commands(shop, name, text, what):
    shop.write({name: text})
    error = shop.fails("update")
    assert error.startswith(f"ERROR: {LOADED}")
    assert what in error


def test_a_logging_that_cannot_be(shop):
    shop.write({"conf/logging.yml": "a: [\n"})
    error = shop.fails("update")
    assert "Kedro cannot configure its logging (conf/logging.yml" in error
    assert "did not find expected" in error or "expected the node content" in error


def test_a_folder_that_is_no_kedro_project(shop):
    error = shop.fails("update", cwd=shop.path.parent)
    assert f"'{shop.path.parent}' is in no Kedro project" in error


@pytest.mark.parametrize(
    "name, text, what",
    [
        ("conf/local/credentials.yml", "a: [", "conf/local/credentials.yml, unable"),
        (REGISTRY, "a b", f"{LOADED}SyntaxError: invalid syntax ({REGISTRY}, {LINE_1}"),
        (".kedro-dvc/clean.json", "[]", ".json is not a fingerprint; run `kedro dvc"),
        (".kedro-dvc/clean.json", "{", ".json is not a fingerprint; run `kedro dvc"),
    ],
)
def test_a_node_that_cannot_start(shop, name, text, what):
    shop.update()
    shop.write({name: text})
    assert what in shop.fails("run", "clean")
    assert not shop.exists("data/cleaned.json")


def test_a_pipeline_that_kedro_only_warns_of(shop):
    shop.update()
    before = shop.read("dvc.yaml")
    shop.write(
        {
            REGISTRY: """\
from kedro.framework.project import find_pipelines


def register_pipelines():
    found = find_pipelines()
    return {**found, "__default__": sum(found.values())}
""",
            "src/shop/pipelines/__init__.py": "",
            "src/shop/pipelines/first/__init__.py": "from .pipeline import nothing\n",
            "src/shop/pipelines/first/pipeline.py": "a = 1\n\nraise OSError('lost')\n",
        }
    )
    error = shop.fails("update")
    assert "'shop.pipelines.first'" in error
    assert "OSError: lost (src/shop/pipelines/first/pipeline.py, line 3)" in error
    assert shop.read("dvc.yaml") == before


def test_no_dvc_repo(shop):
    import shutil

    shutil.rmtree(shop.path / ".dvc")
    assert "is in no DVC repo; run `git init` and `dvc init`" in shop.fails("update")


def test_a_repo_around_the_project(shop, tmp_path):
    folder = shop.path / "projects" / "one"
    folder.mkdir(parents=True)
    for name in ("conf", "data", "src", "pyproject.toml"):
        (shop.path / name).rename(folder / name)
    command = shop.kedro("update", cwd=folder)
    assert "3 stages" in command.stdout
    stages = [f"projects/one/dvc.yaml:{name}" for name in ("clean", "double", "total")]
    assert shop.ran("-R", "projects", "-j", "2") == stages
    assert (folder / "data/total.json").read_text() == "[26.0]"
    assert "up to date" in shop.dvc("status").stdout


def test_dvc_yaml_that_is_none(shop):
    shop.write({"dvc.yaml": "stages: [\n"})
    assert "dvc.yaml cannot be read" in shop.fails("update")


INSTALL = "`pip install 'dvc-parallel[kedro]'`"
WITHOUT = """\
import sys
sys.modules["kedro"] = None if sys.argv[1] == "missing" else type(sys)("kedro")
if sys.argv[1] == "old":
    sys.modules["kedro"].__version__ = "0.19.14"
from dvc_parallel.kedro import KedroError
from dvc_parallel.kedro.update import update
try:
    update()
except KedroError as exc:
    print(exc)
"""


@pytest.mark.parametrize(
    "which, what",
    [
        ("missing", f"Kedro is not installed here; run {INSTALL}"),
        ("old", "Kedro 0.19.14 is too old; 1.0 or newer is needed"),
    ],
)
def test_another_kedro(which, what, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, which],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"{what}\n"


def test_no_kedro_project(tmp_path):
    from dvc_parallel.kedro import KedroError
    from dvc_parallel.kedro.project import find

    with pytest.raises(KedroError, match=r"is in no Kedro project: no pyproject\.toml"):
        find(tmp_path)


def test_inputs_that_nothing_tracks(shop):
    shop.write({".gitignore": "data/**\n!data/**/\n"})
    forget = ["git", "rm", "-q", "--cached", "-r", "data"]
    subprocess.run(forget, cwd=shop.path, check=True)
    (shop.path / "data/more.json").unlink()
    warned = shop.update().stderr
    assert "'data/more.json' does not exist, and no stage makes it" in warned
    assert "`kedro dvc update --add` has DVC track them:\n  data/raw.json\n" in warned
    shop.write({"data/more.json": "[4]"})
    error = shop.kedro("update", "--add", check=False).stderr
    assert error == (
        "ERROR: git ignores 'data/more.json.dvc', which DVC needs; add the lines "
        "'!*.dvc' and '!.gitignore' to the end of .gitignore\n"
    )
    shop.write({".gitignore": "data/**\n!data/**/\n!*.dvc\n!.gitignore\n"})
    added = shop.update("--add")
    assert "added data/more.json.dvc\nadded data/raw.json.dvc\n" in added.stdout
    assert (added.stdout + added.stderr).count("To track the changes with git") == 1
    assert shop.exists("data/raw.json.dvc")
    assert shop.update().stderr == ""
    assert shop.ran() == ["clean", "double", "total"]


def test_fingerprints_that_git_ignores(shop):
    lines = "*.json\n!/data/*.json\n"
    shop.write({".gitignore": lines})
    warned = shop.update().stderr
    assert warned == (
        "WARNING: git ignores '.kedro-dvc/clean.json', which belongs to git; add the "
        "line '!.kedro-dvc/*.json' to the end of .gitignore\n"
    )
    shop.write({".gitignore": f"{lines}!.kedro-dvc/*.json\n"})
    assert shop.update().stderr == ""


def test_a_pull_and_a_clone_need_no_run(shop, tmp_path):
    shop.update()
    shop.dvc("repro", "-q")
    remote = tmp_path / "remote"
    shop.dvc("remote", "add", "-q", "-d", "store", str(remote))
    shop.commit()
    shop.dvc("push", "-q")
    clone = type(shop).__new__(type(shop))
    clone.path, clone._started = tmp_path / "clone", []
    subprocess.run(["git", "clone", "-q", shop.path, clone.path], check=True)
    clone.dvc("pull", "-q")
    assert clone.read("data/total.json") == "[26.0]"
    assert clone.ran() == []
    assert "0 of their fingerprints changed" in clone.update().stdout
