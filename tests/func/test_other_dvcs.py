"""A DVC that the plugin is not for works as if it were not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dvc
import pytest

STAGE = "stages: {a: {cmd: echo a}}"

OWN_OPTION = """

def add_parser(subparsers, parent_parser, add_parser=add_parser):
    add_parser(subparsers, parent_parser)
    parser = subparsers.choices["repro"]
    parser.add_argument("-j", "--jobs", type=int, default=0)


def run(self, run=CmdRepro.run):
    print("jobs of its own:", self.args.jobs)
    return run(self)


CmdRepro.run = run
"""
OWN_CONFIG = 'SCHEMA["core"]["parallel_jobs"] = Coerce(int)\n'


@pytest.fixture
def other_dvc(tmp_path):
    """Make another DVC: a copy, with something added to some of its files."""
    lib = tmp_path / "lib"

    def make(additions):
        shutil.copytree(Path(dvc.__file__).parent, lib / "dvc")
        for name, text in additions.items():
            with open(lib / "dvc" / name, "a") as fobj:
                fobj.write(text)

        def run(project, *args, module="dvc"):
            return subprocess.run(
                [sys.executable, "-m", module, *args],
                cwd=project.path,
                env={**os.environ, "PYTHONPATH": str(lib)},
                capture_output=True,
                text=True,
                check=False,
            )

        return run

    return make


@pytest.mark.parametrize("version", [(2, 58, 1), (3, 68, 0)])
def test_unsupported(make_project, other_dvc, version):
    name = ".".join(map(str, version))
    run = other_dvc(
        {"__init__.py": f"\n__version__ = '{name}'\nversion_tuple = {version}\n"}
    )
    project = make_project(dvc_yaml=STAGE)
    # NOTE: it may be there from an earlier DVC
    project.write({".dvc/config.local": "[core]\n    parallel_jobs = 2\n"})
    result = run(project, "repro")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "Running stage 'a':\n> echo a" in result.stdout

    result = run(project, "repro", "-j", "2")
    assert result.returncode == 254
    (line,) = result.stderr.splitlines()
    supported = "dvc-parallel supports DVC 2.58.2 to 3.67.1"
    assert line.endswith(f"{supported}, but this is {name}")

    result = run(project, "doctor", module="dvc_parallel")
    assert result.returncode == 1
    assert supported in result.stdout


def test_jobs_of_its_own(make_project, other_dvc):
    run = other_dvc({"commands/repro.py": OWN_OPTION, "config_schema.py": OWN_CONFIG})
    project = make_project(dvc_yaml=STAGE)
    result = run(project, "repro", "-j", "3")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "jobs of its own: 3" in result.stdout
    assert "Running stage 'a':\n> echo a" in result.stdout

    assert run(project, "config", "core.parallel_jobs", "4").returncode == 0
    assert run(project, "config", "core.parallel_jobs", "auto").returncode == 251
    assert run(project, "repro").returncode == 0

    result = run(project, "doctor", module="dvc_parallel")
    assert result.returncode == 0
    assert "its own `repro --jobs`" in result.stdout


def test_a_supported_one_that_is_not_as_released(make_project, other_dvc):
    run = other_dvc({"stage/run.py": "\n\ndef _run(moved, run=_run, **kwargs): ...\n"})
    project = make_project(dvc_yaml=STAGE)
    result = run(project, "repro", "-j", "2")
    assert result.returncode == 255
    assert "dvc.stage.run._run takes" in result.stderr
    assert "Traceback" not in result.stderr
    assert not project.exists("dvc.lock")
    result = run(project, "doctor", module="dvc_parallel")
    assert result.returncode == 1
    assert "dvc.stage.run._run takes" in result.stdout
