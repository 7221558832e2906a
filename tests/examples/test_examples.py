"""The examples leave the same serially and in parallel, and so says the demo."""

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.docs import run_page
from tests.support.project import Project, assert_same

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def twin_examples(tmp_path, monkeypatch):
    """Copy an example twice: for serial DVC, and for a parallel run."""
    # NOTE: the commands of the stages run the Python that has what they need
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def make(name, *edits):
        projects = [Project(tmp_path / role) for role in ("serial", "parallel")]
        for project in projects:
            shutil.copytree(EXAMPLES / name, project.path, dirs_exist_ok=True)
            for old, new in edits:
                text = project.read("params.yaml")
                assert text.count(old) == 1
                project.write({"params.yaml": text.replace(old, new)})
        return projects

    return make


def reproduce_both(serial, parallel):
    """Run both; what the parallel run has shown."""
    for project, options in ((serial, []), (parallel, ["-j", 4])):
        site_cache = str(project.path.with_suffix(".site"))
        env = {**os.environ, "DVC_SITE_CACHE_DIR": site_cache}
        result = project.dvc("repro", *options, env=env)
    return result.stdout


def test_sessions(twin_examples):
    serial, parallel = twin_examples("sessions", ("epochs: 200", "epochs: 2"))
    reproduce_both(serial, parallel)

    assert_same(serial, parallel)
    lock = parallel.read("dvc.lock")
    assert [lock.count(f"  round{n}@s0") for n in (1, 2)] == [6, 6]
    assert "up to date" in parallel.dvc("status").stdout


def test_training(twin_examples):
    pytest.importorskip("sklearn", reason="the training example needs scikit-learn")
    pytest.importorskip("yaml", reason="the training example needs PyYAML")
    serial, parallel = twin_examples(
        "training",
        ("folds: 5", "folds: 2"),
        ("n_estimators: [200]", "n_estimators: [5]"),
        ("n_estimators: [100]", "n_estimators: [5]"),
    )
    reproduce_both(serial, parallel)

    assert_same(serial, parallel)
    assert "up to date" in parallel.dvc("status").stdout


def test_gpu_pool(twin_examples, monkeypatch):
    """A training fails if another one has its GPU."""
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "gpu=0,1")
    serial, parallel = twin_examples("gpu-pool")
    shown = reproduce_both(serial, parallel)
    assert_same(serial, parallel)
    gpus = dict(re.findall(r"^(\S+) \| \w+ on GPU (\S+)$", shown, re.MULTILINE))
    assert gpus.pop("finetune") == "0,1"
    assert sorted(gpus) == [f"train@s{number}" for number in (1, 2, 3, 4)]
    assert {*gpus.values()} <= {"0", "1"}


@pytest.mark.parametrize("taken, status", [(1, 1), (2, 0)])
def test_two_trainings_on_one_gpu(twin_examples, monkeypatch, taken, status):
    project, _ = twin_examples("gpu-pool")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with open(project.path / "train.py", "r+") as memory:
        fcntl.lockf(memory, fcntl.LOCK_EX, 1, taken)
        command = [sys.executable, "train.py", "one", "out.txt"]
        result = project.run(command, check=False)
    assert result.returncode == status
    assert ("GPU 1 is out of memory" in result.stderr) is bool(status)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page, there",
    [("sessions", "half a minute"), ("training", "scikit-learn")],
)
def test_page(tmp_path, page, there):
    if there == "scikit-learn":
        pytest.importorskip("sklearn", reason="the example needs scikit-learn")

    def without_installing(command):
        return "true" if command.startswith("pip ") else command

    run_page(f"examples/{page}/README.md", tmp_path, without_installing, there)


def test_the_committed_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn has the data to compare with"
    )
    pixels, digits = datasets.load_digits(return_X_y=True)
    lines = [
        f"{digit} {''.join('0123456789abcdefg'[value] for value in row)}\n"
        for digit, row in zip(digits, pixels.astype(int))
    ]
    committed = EXAMPLES / "sessions" / "data" / "digits.txt"
    assert committed.read_text(encoding="ascii") == "".join(lines)


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_demo_refuses_jobs(demo, jobs, capsys):
    with pytest.raises(SystemExit) as exc_info:
        demo.parse_args(["--jobs", jobs])
    assert exc_info.value.code == 2
    assert "--jobs" in capsys.readouterr().err


def test_demo_refuses_an_example_that_is_not_there(demo, capsys):
    with pytest.raises(SystemExit) as exc_info:
        demo.parse_args(["--example", "none"])
    assert exc_info.value.code == 2
    assert "training" in capsys.readouterr().err


def test_demo_runs_two_jobs_on_a_single_cpu(demo, monkeypatch):
    monkeypatch.setattr(demo, "count_cpus", lambda: 1)
    args = demo.parse_args([])
    assert (args.example, args.jobs, args.keep) == ("training", 2, False)


def test_demo_without_git(demo, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert demo.main([]) == 1
    assert capsys.readouterr().err.startswith("error: needs git")


def test_demo_with_an_old_python(demo, monkeypatch, capsys):
    monkeypatch.setattr(demo.sys, "version_info", (3, 8, 0))
    assert demo.main([]) == 1
    error = "error: needs Python 3.9 or newer, this is Python 3.8\n"
    assert capsys.readouterr().err == error


def test_demo_shows_the_error_of_a_command_in_one_line(demo):
    code = "print('ERROR: no network'); print('a notice'); exit(3)"
    with pytest.raises(demo.DemoError, match=r"^pip: ERROR: no network$"):
        demo.run_quietly([sys.executable, "-c", code], "pip")


NUMPY = "numpy>=1.2 (from scikit-learn)"
PIP = f"""
for name in ("dvc==3.67.1", "{NUMPY}"):
    print("Collecting", name)
print("Installing collected packages: numpy, dvc")
"""


def test_demo_says_what_is_installed_meanwhile(demo, capfd, monkeypatch):
    pip = [sys.executable, "-c", PIP]
    demo.run_quietly(pip, "pip")
    assert capfd.readouterr().out == "  unpacking 2 packages ...\n"

    monkeypatch.setattr(demo.sys.stdout, "isatty", lambda: True)
    demo.run_quietly(pip, "pip")
    shown = capfd.readouterr().out.split("\r\033[K")
    assert shown[1:3] == ["  package 1: dvc==3.67.1", f"  package 2: {NUMPY}"]
    assert shown[3] == "  unpacking 2 packages ...\n"


def test_demo_says_what_to_try(demo, make_project, monkeypatch, capsys):
    project = make_project(
        dvc_yaml="""
        stages:
          train:
            foreach: [svm, forest]
            do: {cmd: "echo a ${item}"}
        """
    )
    project.reproduce(jobs=2)
    monkeypatch.setattr(demo, "VENV", Path(sys.executable).parents[1])
    capsys.readouterr()
    demo.say_what_to_try("training", 2, project.path)
    said = capsys.readouterr().out.partition("Try there:\n")[2]
    assert said.count("\n  dvc-parallel ") == 3
    monkeypatch.setenv("PATH", os.defpath)
    shown = project.run(["bash", "-ec", said], cwd="/").stdout
    assert "\na svm\n" in shown
    assert "report.html\n" in shown
    assert "2 to run" in shown


def test_demo_says_which_command_failed(demo, tmp_path):
    with pytest.raises(demo.DemoError, match="failed with exit code 3"):
        demo.run([sys.executable, "-c", "exit(3)"], tmp_path, os.environ)


def test_demo_environment_shares_nothing(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", "elsewhere")
    monkeypatch.setenv("GIT_DIR", "elsewhere")
    env = demo.make_environment(tmp_path)
    assert not {"DVC_ROOT", "GIT_DIR"} & set(env)
    assert Path(env["DVC_SITE_CACHE_DIR"]).parent == tmp_path
    assert env["PATH"].startswith(str(demo.VENV))


@pytest.mark.parametrize(
    "name",
    ["pyproject.toml", "dvc_parallel/backport/cli.py", "examples/a/requirements.txt"],
)
def test_demo_installs_again_what_has_changed(demo, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("one")
    before = demo.fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("is not installed")
    assert demo.fingerprint(tmp_path) == before
    path.write_text("other")
    assert demo.fingerprint(tmp_path) != before


@pytest.fixture
def twin_folders(tmp_path):
    folders = [tmp_path / "serial", tmp_path / "parallel"]
    for folder in folders:
        for name in (".git/index", ".dvc/tmp/lock", ".dvc/cache/runs/1"):
            path = folder / name
            path.parent.mkdir(parents=True)
            path.write_text(folder.name)  # what may differ
        (folder / "dvc.lock").write_text("schema: '2.0'\n")
        (folder / ".gitignore").write_text("/out\n")
        (folder / "metrics.json").write_text("{}\n")
    return folders


def test_demo_finds_the_same(demo, twin_folders, capsys):
    assert demo.compare(*map(demo.snapshot, twin_folders)) == 0
    assert "Identical byte for byte: dvc.lock, 1 .git" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dvc.lock", ".gitignore", "metrics.json"])
@pytest.mark.parametrize("role", [0, 1])
@pytest.mark.parametrize("missing", [True, False])
def test_demo_finds_what_differs(demo, twin_folders, name, role, missing, capsys):
    path = twin_folders[role] / name
    if missing:
        path.unlink()
    else:
        path.write_text("other\n")
    assert demo.compare(*map(demo.snapshot, twin_folders)) == 1
    assert capsys.readouterr().out == f"DIFFERENT: {name}\n"


def test_demo_does_not_take_nothing_for_the_same(demo, capsys):
    assert demo.compare({}, {}) == 1
    assert "no dvc.lock" in capsys.readouterr().out


@pytest.mark.parametrize("keep", [True, False])
def test_demo_ends_with_1_on_differing_results(
    demo, tmp_path, monkeypatch, keep, capsys
):
    folders = []

    def reproduce(example, folder, options):
        folders.append(folder.parent)
        folder.mkdir()
        return 1.0, {"dvc.lock": example + " ".join(options)}

    monkeypatch.setattr(demo, "check_system", lambda: None)
    monkeypatch.setattr(demo, "install", lambda _: None)
    monkeypatch.setattr(demo, "reproduce", reproduce)
    monkeypatch.setattr(demo.tempfile, "tempdir", str(tmp_path))

    assert demo.main(["-j", "3", *(["--keep"] if keep else [])]) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT: dvc.lock" in out
    assert "dvc repro -j 3" in out
    assert ("Try there:" in out) is keep
    assert ("Add --keep" in out) is not keep
    assert all(folder.exists() is keep for folder in folders)


def test_demo_needs_the_standard_library_only():
    # NOTE: -S has no site-packages, -I ignores the environment
    command = [sys.executable, "-I", "-S", str(EXAMPLES / "demo.py"), "--help"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--example" in result.stdout
