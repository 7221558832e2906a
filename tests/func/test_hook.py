"""The plugin reaches ``dvc`` with nothing to set up, and never harms it."""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import dvc
import pytest

import dvc_parallel

DVC = [sys.executable, "-m", "dvc"]
PACKAGE = Path(dvc_parallel.__file__).parent


def python(code, *args, **kwargs):
    return subprocess.run(
        [sys.executable, *args, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


def test_an_interpreter_that_never_imports_dvc_imports_next_to_nothing():
    code = "import sys; print(*sorted(m for m in sys.modules if 'dvc' in m))"
    names = ["dvc_parallel", "dvc_parallel.backport", "dvc_parallel.backport.hook"]
    assert python(code).stdout.split() == names

    # NOTE: and those import nothing but `sys`
    imports = [
        line
        for name in ("__init__.py", "backport/__init__.py", "backport/hook.py")
        for line in (PACKAGE / name).read_text().splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert imports == ["import sys"]


def run_dvc(project, *args, **env):
    return subprocess.run(
        [*DVC, *args],
        cwd=project.path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def broken(tmp_path):
    """A copy of the package, found first, in which a module can be broken."""
    shutil.copytree(PACKAGE, tmp_path / "lib" / "dvc_parallel")

    def break_(name, text):
        (tmp_path / "lib" / "dvc_parallel" / name).write_text(text)
        return {"PYTHONPATH": str(tmp_path / "lib")}

    return break_


@pytest.mark.parametrize("module", ["seams.py", "config.py", "cli.py"])
def test_dvc_works_when_the_hook_does_not(make_project, broken, module):
    project = make_project(dvc_yaml="stages: {a: {cmd: echo a}}")
    env = broken(f"backport/{module}", "raise ZeroDivisionError('ouch')")
    result = run_dvc(project, "repro", **env)
    assert result.returncode == 0
    assert "Running stage 'a'" in result.stdout
    lines = [line for line in result.stderr.splitlines() if "dvc-parallel" in line]
    assert len(lines) == 1, result.stderr
    assert "ouch" in lines[0]


def test_dvc_works_when_the_package_cannot_be_imported(make_project, broken):
    project = make_project(dvc_yaml="stages: {a: {cmd: echo a}}")
    env = broken("backport/hook.py", "import no_such_module")
    result = run_dvc(project, "repro", **env)
    assert result.returncode == 0
    assert result.stderr == ""


def test_dvc_works_when_a_seam_has_moved(make_project, broken):
    project = make_project(dvc_yaml="stages: {a: {cmd: echo a}}")
    source = (PACKAGE / "backport" / "seams.py").read_text()
    changed = source.replace('"subparsers parent_parser"', '"moved"')
    assert changed != source
    env = broken("backport/seams.py", changed)

    result = run_dvc(project, "repro", **env)
    assert result.returncode == 0
    assert "Running stage 'a'" in result.stdout
    (line,) = result.stderr.splitlines()
    assert "dvc.commands.repro.add_parser does not take (moved)" in line


def test_where_pth_files_are_not_read(make_project):
    project = make_project(dvc_yaml="stages: {a: {cmd: echo a}}")
    paths = os.pathsep.join(p for p in sys.path if p)
    env = {**os.environ, "PYTHONPATH": f"{PACKAGE.parent}{os.pathsep}{paths}"}

    def run(*args):
        return subprocess.run(
            [sys.executable, "-S", *args],
            cwd=project.path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("-m", "dvc", "repro", "-j", "2").returncode == 254
    result = run("-m", "dvc_parallel", "repro", "-j", "2")
    assert result.returncode == 0, result.stderr
    assert "with 2 jobs" in result.stdout

    result = run("-m", "dvc_parallel", "doctor")
    assert result.returncode == 1
    assert "dvc-parallel repro" in result.stdout


@pytest.mark.parametrize("module", ["executor", "repo_lock"])
def test_whichever_of_our_modules_comes_first(module):
    code = (
        f"import dvc_parallel.{module}; from dvc.cli import main; main(['repro', '-h'])"
    )
    shown = python(code)
    assert "is off" not in shown.stderr
    assert "--jobs" in shown.stdout


def test_the_command_of_our_own(make_project):
    project = make_project(dvc_yaml="stages: {a: {cmd: echo a}}")
    script = Path(sys.executable).parent / "dvc-parallel"
    result = subprocess.run(
        [script, "repro", "-j", "2"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "with 2 jobs" in result.stdout
    assert subprocess.run([script, "--version"], check=True, capture_output=True)
    assert subprocess.run([script], check=True, capture_output=True)


def test_seams_of_runs_are_there_only_while_one_goes_on():
    from dvc_parallel.backport import seams

    in_runs = seams.present(seams.IN_RUNS)
    in_jobs = seams.present(seams.IN_JOBS)
    all_seams = (*in_runs, *in_jobs)
    before = [seam.current() for seam in all_seams]
    assert not any(seam.installed for seam in all_seams)
    with seams.installed(all_seams):
        with seams.installed(in_runs):
            assert all(seam.installed for seam in all_seams)
        assert all(seam.installed for seam in all_seams)
    with seams.installed(in_runs):
        assert all(seam.installed for seam in in_runs)
        assert not any(seam.installed for seam in in_jobs)
    assert [seam.current() for seam in all_seams] == before


def test_this_dvc_has_all_seams_as_described():
    from dvc_parallel.backport import seams
    from dvc_parallel.backport.seam import NEWEST

    everything = (
        *seams.IN_DVC,
        *seams.IN_RUNS,
        *seams.IN_JOBS,
        *seams.IN_REHEARSALS,
    )
    assert not seams.misfits(everything)
    lacking = {str(seam) for seam in everything if seam.dispensable and seam.misfit()}
    if dvc.version_tuple[:3] == NEWEST:
        assert not lacking
    # NOTE: older dvc-objects name its parameters otherwise
    assert lacking <= {"dvc_objects.fs.system.reflink"}

    names = [str(seam) for seam in seams.present(everything)]
    assert len(names) == len(set(names))

    in_dvc = seams.present(seams.IN_DVC)
    for seam in in_dvc:
        import_module(seam.module)
    assert all(seam.installed for seam in in_dvc)
