"""The ways in which users install DVC, with the plugin beside it.

Takes a package index, pip, pipx and uv: ``tox -e installs``.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DVC = "dvc==3.67.1"
DVC_YAML = "stages: {a: {cmd: echo a}, b: {cmd: echo b}}\n"


def call(*command, check=True, **kwargs):
    result = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        **kwargs,
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip")
    call(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (path,) = folder.iterdir()
    return path


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "project"
    path.mkdir()
    (path / "dvc.yaml").write_text(DVC_YAML)
    return path


class Venv:
    def __init__(self, path):
        self.bin = path / "bin"
        call(sys.executable, "-m", "venv", path)
        self.pip("install", "--quiet", DVC)

    def pip(self, *args):
        return call(self.bin / "python", "-m", "pip", *args).stdout

    def freeze(self):
        return set(self.pip("freeze").splitlines())


@pytest.fixture
def venv(tmp_path):
    return Venv(tmp_path / "venv")


def check(dvc, project, parallel=True):
    """DVC works in a project, and does or does not have the option."""
    if not (project / ".dvc").exists():
        call(dvc, "init", "--quiet", "--no-scm", cwd=project)
    assert "Running stage 'a'" in call(dvc, "repro", "--force", cwd=project).stdout
    result = call(dvc, "repro", "--force", "-j", 2, check=False, cwd=project)
    assert ("with 2 jobs" in result.stdout) == parallel
    assert result.returncode == (0 if parallel else 254)


def test_pip_and_removal(venv, wheel, project):
    dvc = venv.bin / "dvc"
    before = venv.freeze()
    check(dvc, project, parallel=False)

    venv.pip("install", "--quiet", wheel)
    (added,) = venv.freeze() - before
    assert added.startswith("dvc-parallel")
    assert before < venv.freeze()
    check(dvc, project)
    call(venv.bin / "dvc-parallel", "doctor", cwd=project)

    call(dvc, "config", "--local", "core.parallel_jobs", 2, cwd=project)
    told = call(venv.bin / "dvc-parallel", "doctor", cwd=project).stdout
    assert f"is set in {project}/.dvc/config.local" in told
    call(dvc, "config", "--local", "--unset", "core.parallel_jobs", cwd=project)
    venv.pip("uninstall", "--quiet", "--yes", "dvc-parallel")
    assert venv.freeze() == before
    check(dvc, project, parallel=False)
    site_packages = next(venv.bin.parent.glob("lib/python*/site-packages"))
    assert not list(site_packages.glob("dvc_parallel*"))


def test_editable(venv, project):
    venv.pip("install", "--quiet", "--editable", ROOT)
    check(venv.bin / "dvc", project)
    venv.pip("uninstall", "--quiet", "--yes", "dvc-parallel")
    check(venv.bin / "dvc", project, parallel=False)


def test_where_pth_files_are_not_read(venv, wheel, project, tmp_path):
    lib = tmp_path / "lib"
    venv.pip("install", "--quiet", "--no-deps", "--target", lib, wheel)
    check(venv.bin / "dvc", project, parallel=False)
    env = {**os.environ, "PYTHONPATH": str(lib)}
    command = (venv.bin / "python", "-m", "dvc_parallel", "repro", "--force", "-j", "2")
    assert "with 2 jobs" in call(*command, cwd=project, env=env).stdout


def from_readme(program, **env):
    """Install as the README says, in the clone."""
    lines = (ROOT / "README.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(program)]
    bin_dir = Path(sys.executable).parent
    env["PATH"] = os.pathsep.join([str(bin_dir), os.environ["PATH"]])
    call("sh", "-c", line, cwd=ROOT, env={**os.environ, **env})


def test_pipx(project, tmp_path):
    env = {
        **os.environ,
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_DEFAULT_PYTHON": sys.executable,
    }
    pipx = (sys.executable, "-m", "pipx")
    call(*pipx, "install", DVC, env=env)
    check(tmp_path / "bin" / "dvc", project, parallel=False)
    from_readme("pipx", **env)
    check(tmp_path / "bin" / "dvc", project)
    call(tmp_path / "bin" / "dvc-parallel", "doctor", cwd=project)
    call(*pipx, "uninject", "dvc", "dvc-parallel", env=env)
    check(tmp_path / "bin" / "dvc", project, parallel=False)


def test_uv_tool(project, tmp_path):
    env = {
        **os.environ,
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "UV_PYTHON": sys.executable,
    }
    from_readme("uv", **env)
    check(tmp_path / "bin" / "dvc", project)
    call(tmp_path / "bin" / "dvc-parallel", "doctor", cwd=project)
    uv = (sys.executable, "-m", "uv", "--quiet", "tool", "install")
    call(*uv, "--reinstall", DVC, env=env)
    check(tmp_path / "bin" / "dvc", project, parallel=False)
