"""What Python processes tell of themselves."""

import os
import subprocess
import sys

import pytest

from dvc_parallel.commands.trace.audit_hook import AuditHook
from dvc_parallel.commands.trace.used_files import UsedFiles
from dvc_parallel.engine.runner import Command

SCRIPT = """\
import os, subprocess, sys
sys.stdin.read()
open("in").close()
open("out", "w").close()
with open("db", "r+") as file: file.read()
try: open("nothing")
except OSError: pass
open("t", "x").close()
os.replace("t", "renamed")
os.symlink("in", "soft"); os.link("in", "hard")
open("gone", "w").close(); os.remove("gone")
os.chdir("sub")
open("below", "w").close()
# as a daemon does
for fd in range(3, 64):
    try: os.close(fd)
    except OSError: pass
with open("own", "wb") as own:
    open("../in").close()
    own.write(b"x")
subprocess.run([sys.executable, "-c", "open('../child', 'w')"], check=True)
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("in", "db"):
        (folder / name).write_text("1")
    return folder


def used_files(folder):
    def place(path):
        below = path.startswith(f"{folder}/")
        return os.path.relpath(path, folder) if below else None

    return UsedFiles(place)


def test_what_a_script_does(tmp_path, folder):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('mine')")
    hook, path = AuditHook(str(tmp_path / "hook")), str(tmp_path / "trace")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "own")}
    command = hook.wrap(Command([sys.executable, "-c", SCRIPT], env), path)
    done = subprocess.run(
        command.args,
        env=command.env,
        cwd=folder,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout == "mine\nmine\n"
    assert (folder / "sub" / "own").read_text() == "x"
    used = used_files(folder)
    assert hook.read(path, str(folder), used) == (0, "")
    used.settle(lambda _: False, lambda _: False)
    assert set(used.reads) == {"in", "db"}
    assert used.missing == {"nothing"}
    assert used.left == {
        *("out", "renamed", "soft", "hard", "sub/below", "sub/own", "child"),
    }
    assert used.writes - used.left == {"t", "gone"}


def test_a_python_that_has_no_module_of_that_name_says_nothing(tmp_path):
    hook = AuditHook(str(tmp_path / "hook"))
    command = hook.wrap(
        Command([sys.executable, "-Sc", "import site; site.main()"]), ""
    )
    done = subprocess.run(
        command.args, env=command.env, capture_output=True, check=True
    )
    assert done.stderr == b""


@pytest.mark.parametrize(
    "line",
    [
        "what?",
        "[]",
        "1",
        '["open"]',
        '["open", "relative", 0, true]',
        '["open", "/w/x", "0", true]',
        '["open", "/w/x"]',
        '["remove", "/w/x", "/w/y"]',
        '["settle", "/w/x"]',
        '["rename", "/w/x"]',
    ],
)
def test_a_line_that_is_not_understood_is_counted(tmp_path, line):
    path = tmp_path / "trace"
    path.write_text(f"{line}\n")
    used = used_files("/w")
    hook = AuditHook(str(tmp_path / "hook"))
    assert hook.read(str(path), "/w", used) == (1, line)
    assert not used.writes
    assert not used.reads


def test_no_python_has_run(tmp_path):
    hook = AuditHook(str(tmp_path / "hook"))
    assert hook.read(str(tmp_path / "none"), "/w", used_files("/w")) == (0, "")
