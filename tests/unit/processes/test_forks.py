"""Commands of nodes as forks, with a script in the place of Kedro's own."""

import os
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pytest

from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.runner import Command, RunnerClosedError, TimeIsUpError
from dvc_parallel.engine.usage import USAGE, usage_of
from dvc_parallel.processes import forks
from dvc_parallel.processes.supervisor import RunSupervisor
from tests import is_alive, wait_until

if sys.platform != "linux":
    pytest.skip("forks are for Linux", allow_module_level=True)

KEDRO = """\
#!{python}
import sys
sys.path.insert(0, "src")
def main():
    with open(sys.argv[3] + ".py") as file:
        exec(compile(file.read(), sys.argv[3] + ".py", "exec"), {{}})
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """A Python without any package."""
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, symlinks=True)
    return folder / "bin/python"


class Nodes:
    """A folder with nodes, each a script, and a Python for them with packages."""

    def __init__(self, folder, python, runner):
        self.folder = folder
        self.runner = runner
        (folder / "bin").mkdir()
        (folder / "bin/kedro").write_text(KEDRO.format(python=python))
        (folder / "bin/kedro").chmod(0o755)
        version = "python{}.{}".format(*sys.version_info)
        self.site = python.parents[1] / "lib" / version / "site-packages"
        path = f"{folder}/bin:{os.environ['PATH']}"
        # NOTE: packages are written again within a second
        env = {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", forks.VARIABLE: "1"}
        self.env = {**os.environ, **env}

    def node(self, name, code):
        (self.folder / f"{name}.py").write_text(dedent(code))

    def package(self, name, code):
        path = self.site / f"{name}.py"
        path.write_text(dedent(code))
        return path

    def run(self, name, env=(), **kwargs):
        """Run a node; return its status and what it prints."""
        lines = {"stdout": b"", "stderr": b"", USAGE: b""}

        def output(stream, data):
            lines[stream] += data

        command = Command(
            ["/bin/sh", "-c", f"kedro dvc run {name}"],
            {**self.env, **dict(env)},
            str(self.folder),
            **kwargs,
        )
        status = self.runner.run(command, output)
        return status, lines["stdout"].decode(), lines["stderr"].decode()

    def says(self, name, env=()):
        status, out, err = self.run(name, env)
        assert (status, err) == (0, "")
        return out.strip()

    @property
    def servers(self):
        return list(self.runner._forks._servers.values())


@pytest.fixture
def nodes(tmp_path, python):
    runner = LocalRunner(RunSupervisor(), forks.ForkServers())
    nodes = Nodes(tmp_path, python, runner)
    before = set(nodes.site.iterdir())
    nodes.node("parent", "import os; print(os.getppid())")
    yield nodes
    runner.close()
    for path in set(nodes.site.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_nodes_are_forks_of_one_process(nodes):
    parent = nodes.says("parent")
    assert Path(f"/proc/{parent}/cmdline").read_text().count("fork_server.py") == 1
    assert nodes.says("parent") == parent
    nodes.runner.close()
    assert not is_alive(int(parent))


@pytest.mark.parametrize(
    "command", ["kedro dvc run parent; true", "kedro dvc run parent extra", "true"]
)
def test_other_commands_are_not(nodes, command):
    command = Command(["/bin/sh", "-c", command], nodes.env, str(nodes.folder))
    assert nodes.runner.run(command, print) == 0
    assert not nodes.servers


def test_nor_are_nodes_without_the_variable(nodes):
    nodes.says("parent", {forks.VARIABLE: ""})
    assert not nodes.servers


def test_nor_where_the_script_is_not_pythons(nodes):
    (nodes.folder / "bin/kedro").write_text("#!/bin/sh\necho a shell\n")
    assert nodes.says("parent") == "a shell"
    assert not nodes.servers


def test_a_line_where_there_can_be_none(nodes, monkeypatch, mocker):
    warning = mocker.patch.object(forks.logger, "warning")
    monkeypatch.setattr(forks, "sys", SimpleNamespace(platform="darwin"))
    for _ in range(2):
        nodes.says("parent")
    (args,) = [call.args for call in warning.call_args_list]
    assert args[0] % args[1:] == "DVC_PARALLEL_KEDRO_FORK works on Linux alone: ignored"


ENDS = {
    "ends": "print('done')",
    "fails": "import sys; print('no', file=sys.stderr); sys.exit(3)",
    "says why": "import sys; sys.exit('because')",
    "raises": "def f():\n    raise ValueError('x')\nf()",
    "is cut short": "import os; os.write(1, b'half'); os._exit(4)",
    "is killed": "import os; os.kill(os.getpid(), 9)",
    "is terminated": "import os; os.kill(os.getpid(), 15)",
    "is interrupted": "import os; os.kill(os.getpid(), 2)",
    "at exit": "import atexit; atexit.register(print, 'bye'); print('first')",
    "in a file": "import __main__ as m; m.f = open('left', 'w'); m.f.write('x')",
    "what it is": """\
        import os, sys, signal, threading
        import __main__
        print(sys.argv, getattr(sys, "orig_argv", None), sys.path[1], sys.executable)
        print(__main__.__file__, __main__.__name__, __main__.__spec__)
        print(os.getcwd(), sorted(os.environ))
        print([signal.getsignal(n) for n in (1, 2, 13, 15, 17)])
        print(sys.stdin.read(), os.umask(0), threading.active_count())
        """,
}


SHELL = {130: "", 137: "Killed", 143: "Terminated"}


@pytest.mark.parametrize("way", ENDS)
def test_same_as_what_is_started(nodes, way):
    nodes.node("node", ENDS[way])
    usual = nodes.run("node", {forks.VARIABLE: ""})
    if way == "in a file":
        (nodes.folder / "left").unlink()
    forked = nodes.run("node")
    assert len(nodes.servers) == 1

    def told(result):
        # NOTE: a process that is started may be the child of a shell, which tells
        status, out, err = result
        if status > 128:
            return 128 - status, out, err.replace(f"{SHELL[status]}\n", "")
        return result

    if way == "what it is":
        for name in ("PWD", "OLDPWD", "_", "SHLVL"):
            usual, forked = (
                (status, out.replace(f"'{name}', ", ""), err)
                for status, out, err in (usual, forked)
            )
    if way == "is interrupted":
        assert forked[0] == told(usual)[0] == -2
        assert forked[2].endswith("KeyboardInterrupt\n")
    else:
        assert told(forked) == told(usual)
    if way == "in a file":
        assert (nodes.folder / "left").read_text() == "x"


def test_modules_are_imported_before_and_the_projects_own_are_not(nodes):
    nodes.package("heavy", "import os; PID = os.getpid()\n")
    (nodes.folder / "src").mkdir()
    own = nodes.folder / "src/own.py"
    code = "import heavy, os, own; print(os.getpid() == heavy.PID, own.VALUE)"
    nodes.node("node", code)
    own.write_text("VALUE = 1\n")
    assert nodes.says("node") == "True 1"
    own.write_text("VALUE = 22\n")
    assert nodes.says("node") == "False 22"


def test_a_package_that_is_edited_is_imported_again(nodes):
    path = nodes.package("heavy", "VALUE = 1\n")
    nodes.node("node", "import heavy, os; print(os.getppid(), heavy.VALUE)")
    first, second = (nodes.says("node").split() for _ in range(2))
    assert first == second
    assert first[1] == "1"
    path.write_text("VALUE = 22\n")
    third = nodes.says("node").split()
    assert third[0] != first[0]
    assert third[1] == "22"


def test_environments_of_their_own(nodes):
    nodes.node("node", "import os; print(os.getppid(), os.environ.get('DVC_STAGE'))")
    a, b = (nodes.says("node", {"DVC_STAGE": name}).split() for name in "ab")
    assert a[0] == b[0]
    assert (a[1], b[1]) == ("a", "b")
    assert nodes.says("node", {"OMP_NUM_THREADS": "2"}).split()[0] != a[0]


def test_what_it_uses_is_known(nodes):
    nodes.node("node", "while __import__('time').process_time() < 0.3: pass")
    told = []
    command = Command(
        ["/bin/sh", "-c", "kedro dvc run node"], nodes.env, str(nodes.folder)
    )
    assert nodes.runner.run(command, lambda *said: told.append(said)) == 0
    (usage,) = [usage_of(data) for stream, data in told if stream == USAGE]
    assert 0.3 <= usage.cpu < 10


def test_random_numbers_differ(nodes):
    (nodes.site / "numpy").mkdir(exist_ok=True)
    (nodes.site / "numpy/__init__.py").write_text("")
    (nodes.site / "numpy/random.py").write_text(
        "calls = []\nseed = lambda: calls.append(1)\n"
    )
    nodes.node(
        "node", "import random, numpy.random as r; print(len(r.calls), random.random())"
    )
    told = [nodes.says("node").split() for _ in range(3)]
    assert [calls for calls, _ in told] == ["0", "1", "1"]
    assert len({number for _, number in told}) == 3


def test_descriptors_keep_their_numbers(nodes):
    read, write = os.pipe()
    inherited = [os.dup2(write, number) for number in (write, 190, 180)]
    nodes.node(
        "node",
        "import os; [os.write(n, b'%d ' % n) for n in NUMBERS]".replace(
            "NUMBERS", str(inherited)
        ),
    )
    assert nodes.run("node", inherited=tuple(inherited))[0] == 0
    assert os.read(read, 99).decode().split() == [str(n) for n in inherited]
    for fd in {read, *inherited}:
        os.close(fd)


@pytest.mark.parametrize(
    "code, why",
    [
        ("import threading, time\nthreading.Thread(name='mine', target=time.sleep, "
         "args=(9e6,), daemon=True).start()", "starts threads: mine"),
        ("import sys, types; sys.modules['kedro'] = types.ModuleType('kedro')",
         "'heavy' imports kedro"),
        ("import os; os.getpid() == os.getsid(0) and 'fork_server' in sys.argv[0]",
         None),
    ],
    ids=["threads", "the script's package", "nothing wrong"],
)  # fmt: skip
def test_what_makes_unfit(nodes, code, why, mocker):
    warning = mocker.patch.object(forks.logger, "warning")
    nodes.package("heavy", f"import sys\n{code}\n")
    nodes.node("node", "import heavy, os; print(os.getppid())")
    parents = [nodes.says("node") for _ in range(3)]
    if why is None:
        assert len(set(parents)) == 1
        assert not warning.called
        return
    assert parents[1] != parents[0]
    (args,) = [call.args for call in warning.call_args_list]
    assert args[0] % args[1:] == f"{forks.VARIABLE}: nodes start as usual: " + (
        why if why.startswith("'") else f"what is imported {why}"
    )


def test_a_server_that_ends_itself(nodes, mocker):
    warning = mocker.patch.object(forks.logger, "warning")
    code = "import os, sys\nif sys.argv[0].endswith('fork_server.py'):\n    "
    code += "print('no luck', file=sys.stderr, flush=True)\n    os._exit(1)\n"
    nodes.package("heavy", code)
    nodes.node("node", "import heavy; print('ran')")
    assert [nodes.says("node") for _ in range(3)] == ["ran"] * 3
    (args,) = [call.args for call in warning.call_args_list]
    assert (args[0] % args[1:]).endswith(": nodes start as usual: no luck")


WAITS = """
    import os, signal, subprocess, sys, time
    child = subprocess.Popen(["sleep", "300"])
    signal.signal(signal.SIGTERM, lambda *_: (print("asked", flush=True), sys.exit(7)))
    print(os.getpid(), os.getppid(), child.pid, flush=True)
    time.sleep(300)
"""


def in_thread(nodes, on_begun, **kwargs):
    """Run the node, and call something with the IDs that it prints."""
    nodes.node("waits", WAITS)
    told = []

    def output(stream, data):
        if stream == "stdout":
            told.append(data.decode())
        if stream == "stdout" and len(told) == 1:
            on_begun(*map(int, data.split()))

    command = Command(
        ["/bin/sh", "-c", "kedro dvc run waits"], nodes.env, str(nodes.folder), **kwargs
    )
    status = nodes.runner.run(command, output)
    return status, told


def test_signals_reach_it(nodes):
    def on_begun(*pids):
        ids.extend(pids)
        nodes.runner.signal(signal.SIGTERM)

    ids = []
    status, told = in_thread(nodes, on_begun)
    assert (status, told[1:]) == (7, ["asked\n"])
    with pytest.raises(RunnerClosedError):
        nodes.run("parent")
    nodes.runner.close()
    assert not any(map(is_alive, ids))


@pytest.mark.parametrize("which", [0, 1], ids=["it", "its server"])
def test_killed(nodes, which, mocker):
    warning = mocker.patch.object(forks.logger, "warning")

    def on_begun(*pids):
        ids.extend(pids)
        os.kill(ids[which], signal.SIGKILL)

    ids = []
    assert in_thread(nodes, on_begun)[0] == -9
    assert not is_alive(ids[0])
    assert nodes.says("parent")
    assert warning.called == (which == 1)
    nodes.runner.close()
    assert not any(map(is_alive, ids))


def test_time_is_up(nodes):
    ids = []
    with pytest.raises(TimeIsUpError):
        in_thread(nodes, lambda *pids: ids.extend(pids), timeout=1)
    assert not is_alive(ids[0])
    assert not is_alive(ids[2])


def test_all_end_with_whoever_has_started_them(nodes):
    nodes.node("waits", WAITS)
    code = f"""
        import sys
        from dvc_parallel.engine.local_runner import LocalRunner
        from dvc_parallel.engine.runner import Command
        from dvc_parallel.processes.forks import ForkServers
        from dvc_parallel.processes.supervisor import RunSupervisor
        args = ["/bin/sh", "-c", "kedro dvc run waits"]
        command = Command(args, {nodes.env!r}, {str(nodes.folder)!r})
        runner = LocalRunner(RunSupervisor(), ForkServers())
        runner.run(command, lambda _, data: print(data.decode(), flush=True))
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", dedent(code)], stdout=subprocess.PIPE
    )
    ids = [int(pid) for pid in holder.stdout.readline().split()]
    assert all(map(is_alive, ids))
    holder.kill()
    holder.communicate()
    wait_until(lambda: not any(map(is_alive, ids)))
