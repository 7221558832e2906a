"""The plugin reaches ``dvc`` with nothing to set up, and never harms it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path
from textwrap import dedent

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


def test_an_interpreter_that_never_imports_dvc_imports_nothing():
    pth = PACKAGE.parent / "dvc_parallel.pth"
    (line,) = pth.read_text().splitlines()
    installed = Path(sysconfig.get_path("purelib"), pth.name).read_text()
    assert installed.strip() == line, f"an old {pth.name}: install the package again"
    code = "import sys; print(*(m for m in sys.modules if 'dvc_parallel' in m))"
    assert python(code).stdout.split() == []
    # NOTE: nor does it compile what it does not need: that would take longer
    assert line.startswith("import sys; sys.meta_path.insert(0, type(")
    code = compile(line, pth, "exec")
    assert not {"importlib", "try"} & set(code.co_names)


OWN_MODULE = {"dvc.py": ""}
OWN_PACKAGE = {
    "dvc/__init__.py": "from dvc import config_schema",
    "dvc/config_schema.py": "",
    "dvc/config.py": "",
    "dvc/lock.py": "",
    "dvc/repo/__init__.py": "",
    "dvc/repo/reproduce.py": "",
}
NAMESPACE = {name: text for name, text in OWN_PACKAGE.items() if "__init__" not in name}


@pytest.mark.parametrize("files", [OWN_MODULE, OWN_PACKAGE, NAMESPACE])
@pytest.mark.parametrize("zipped", [False, True])
def test_what_is_named_dvc_and_is_not_dvc_is_left_alone(tmp_path, files, zipped):
    lib = tmp_path / "lib"
    for name, text in files.items():
        (lib / name).parent.mkdir(parents=True, exist_ok=True)
        (lib / name).write_text(text)
    if zipped:
        lib = shutil.make_archive(str(lib), "zip", lib)
    # NOTE: DVC itself, which is installed, comes before a namespace package
    code = f"""
        import sys
        sys.path[:] = [{str(lib)!r}, *(p for p in sys.path if "site-packages" not in p)]
        import dvc
        if {len(files)} > 1:
            import dvc.config_schema, dvc.repo.reproduce, dvc.lock
        print(dvc.__name__)
    """
    result = python(dedent(code), cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("dvc\n", "")


def test_an_error_in_a_module_that_is_not_dvc_is_its_own(tmp_path):
    (tmp_path / "dvc.py").write_text("raise ValueError('mine')")
    result = python("import dvc", cwd=tmp_path)
    assert "ValueError: mine" in result.stderr
    assert "dvc_parallel" not in result.stderr


def test_a_module_of_the_name_of_ours_is_not_run(tmp_path):
    (tmp_path / "dvc_parallel.py").write_text("print('mine')")
    code = (
        "import dvc.cli; from dvc.config_schema import SCHEMA; "
        "print('parallel_jobs' in SCHEMA['core'])"
    )
    assert python(code, cwd=tmp_path).stdout == "True\n"
    # NOTE: and if the user has imported it, it stays theirs
    result = python(f"import dvc_parallel; {code}", cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("mine\nFalse\n", "")


def test_commands_of_our_own_say_that_it_is_not_dvc(tmp_path):
    (tmp_path / "dvc.py").write_text("")
    for command in ("doctor", "repro", "plan"):
        result = subprocess.run(
            [sys.executable, "-m", "dvc_parallel", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        path = tmp_path / "dvc.py"
        assert result.stderr.startswith(f"ERROR: `dvc` is {path} here, not DVC; ")


def test_a_second_dvc_in_one_process_gets_the_hook_as_well(tmp_path):
    (tmp_path / "dvc.py").write_text("")
    shutil.copytree(Path(dvc.__file__).parent, tmp_path / "vendor" / "dvc")
    code = """
        import sys
        import dvc
        found = [dvc.__file__]
        for path in ("vendor", None):
            for name in [name for name in sys.modules if name.split(".")[0] == "dvc"]:
                del sys.modules[name]
            sys.path[0:1] = [path] if path else []
            from dvc.commands import repro
            import dvc
            assert repro.add_parser.dvc_parallel_seam
            found.append(dvc.__file__)
        assert len(set(found)) == 3, found
    """
    result = python(dedent(code), cwd=tmp_path)
    assert result.stderr == ""


@pytest.mark.parametrize("module", ["repo/reproduce.py", "commands/repro.py"])
def test_an_install_of_dvc_that_is_broken_fails_as_it_would(tmp_path, module):
    shutil.copytree(Path(dvc.__file__).parent, tmp_path / "dvc")
    (tmp_path / "dvc" / module).unlink()
    result = python("from dvc.cli import main; main(['repro'])", cwd=tmp_path)
    assert "No module named" in result.stderr
    assert "dvc-parallel" not in result.stderr


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


@pytest.mark.parametrize("module", ["seams.py", "config.py", "dvc_cli.py"])
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
    changed = source.replace("(subparsers parent_parser)", "(moved)")
    assert changed != source
    env = broken("backport/seams.py", changed)

    result = run_dvc(project, "repro", **env)
    assert result.returncode == 0
    assert "Running stage 'a'" in result.stdout
    (line,) = result.stderr.splitlines()
    assert "dvc.commands.repro.add_parser takes (" in line
    assert line.endswith("instead of (moved)")


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


@pytest.mark.parametrize("module", ["engine.executor", "engine.repo_lock"])
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

    everything = dict.fromkeys(
        (
            *seams.IN_DVC,
            *seams.IN_LOADING,
            *seams.IN_RUNS,
            *seams.IN_JOBS,
            *seams.IN_DRY_RUNS,
        )
    )
    assert not seams.misfits(everything)
    version = dvc.version_tuple[:3]
    lacking = {
        str(seam)
        for seam in everything
        if seam.dispensable and seam.is_for(version) and seam.misfit()
    }
    if version == NEWEST:
        assert not lacking
    # NOTE: older dvc-objects have it elsewhere
    assert lacking <= {"dvc_objects.fs.base.FileSystem.relpath"}

    names = [str(seam) for seam in seams.present(everything)]
    assert len(names) == len(set(names))

    in_dvc = seams.present(seams.IN_DVC)
    for seam in in_dvc:
        import_module(seam.module)
    assert all(seam.installed for seam in in_dvc)


REPRO = """
import sys
from dvc.cli import main
status = main(["repro", "--jobs", "2"])
print(*sys.modules)
sys.exit(status)
"""


def test_a_run_imports_only_what_it_needs(make_project):
    project = make_project("project", "stages: {a: {cmd: 'true'}, b: {cmd: 'true'}}")
    imported = project.run([sys.executable, "-c", REPRO]).stdout.split()
    assert "dvc_parallel.run.parallel_run" in imported
    needless = {
        "dvc_parallel.reporting.live",
        "dvc_parallel.remote.dask",
        "distributed",
    }
    assert not needless & set(imported)
