"""DVC in processes of its own that have imported it already, so that they are cheap.

A server that has imported DVC forks them; they are as if a shell had started them, in a
session of their own.
"""

import io
import json
import locale
import multiprocessing
import os
import runpy
import shlex
import signal
import site
import socketserver
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import contextmanager
from pathlib import Path

import psutil

from dvc_parallel.engine import executor, local_runner
from tests import HANGS, is_alive

_context = multiprocessing.get_context("forkserver")
# NOTE: what a run needs and DVC imports only when it does
_context.set_forkserver_preload(
    [
        __name__,
        "configobj",
        "dulwich.ignore",
        "dulwich.worktree",
        "dvc.__main__",
        "dvc._debug",
        "dvc.cachemgr",
        "dvc.cli.parser",
        "dvc.commands.repro",
        "dvc.daemon",
        "dvc.data_cloud",
        "dvc.dirs",
        "dvc.fs",
        "dvc.parsing",
        "dvc.repo.artifacts",
        "dvc.repo.datasets",
        "dvc.repo.experiments.executor.base",
        "dvc.repo.graph",
        "dvc.repo.index",
        "dvc.repo.init",
        "dvc.repo.open_repo",
        "dvc.repo.plots",
        "dvc.repo.stage",
        "dvc.repo.trie",
        "dvc.stage.cache",
        "dvc.ui.table",
        "dvc.utils.strictyaml",
        "dvc_data.hashfile.build",
        "dvc_data.hashfile.db.local",
        "dvc_data.hashfile.status",
        "dvc_parallel.commands.cli",
        "dvc_parallel.commands.doctor_command",
        "dvc_parallel.commands.logs_command",
        "dvc_parallel.commands.plan_command",
        "dvc_parallel.commands.report_command",
        "dvc_parallel.commands.validate_command",
        "dvc_parallel.reporting.choose_reporters",
        "dvc_parallel.run.parallel_run",
        "dvc_render.vega_templates",
        "flatten_dict",
        "fsspec.implementations.memory",
        "networkx",
        "platformdirs.unix",
        "pygit2",
        "pytest",
        "ruamel.yaml",
        "tabulate",
    ]
)

# What Python reads in the environment when it starts
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _run(folder, module, args, env, stdio, grace):
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    # NOTE: as Python would have it, whatever the server does with them
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # NOTE: a terminal that is opened here becomes that of the session
    for fd, path in enumerate(stdio):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(opened, fd)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    if grace is not None:
        executor.GRACE = local_runner.GRACE = grace
    sys.argv = [module, *args]
    sys.path[0] = folder
    sys.modules.pop(f"{module}.__main__", None)  # as DVC imports its own
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        # NOTE: as Python does
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except Exception:
        # NOTE: where it can be read without the terminal, too
        with open(f"{stdio[1]}.traceback", "w") as fobj:
            traceback.print_exc(file=fobj)
        raise


def run(module, args, cwd, env, timeout, text):
    """Run ``python -m module args...`` as ``subprocess.run`` does, but as a fork."""
    with tempfile.TemporaryDirectory() as folder:
        stdio = (os.devnull, f"{folder}/stdout", f"{folder}/stderr")
        process = _context.Process(
            target=_run, args=(str(cwd), module, args, env, stdio, None)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([module, *args], timeout)
        output = [Path(path).read_bytes() for path in stdio[1:]]
    if text:
        encoding = locale.getpreferredencoding(False)
        output = [io.TextIOWrapper(io.BytesIO(it), encoding).read() for it in output]
    return subprocess.CompletedProcess([module, *args], process.exitcode, *output)


# Starts for each command, so it imports next to nothing.
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
call = [os.getpid(), os.getcwd(), sys.argv, dict(os.environ)]
connection.sendall(json.dumps(call).encode() + b"\\n")
sys.exit(int(connection.makefile().read() or 1))
"""


class _Commands(socketserver.StreamRequestHandler):
    def handle(self):
        pid, folder, (path, *args), env = json.loads(self.rfile.readline())
        module = Path(path).name.replace("-", "_")
        stdio = [f"/proc/{pid}/fd/{number}" for number in range(3)]
        process = _context.Process(
            target=_run, args=(folder, module, args, env, stdio, None)
        )
        process.start()
        process.join(HANGS)
        self.wfile.write(str(process.exitcode).encode())


@contextmanager
def quick_commands(folder: Path):
    """Have ``dvc`` and ``dvc-parallel`` in a folder for ``PATH``, for shells."""
    address = str(folder / "socket")
    for name in ("dvc", "dvc-parallel"):
        path = folder / name
        path.write_text(CLIENT.format(python=sys.executable, address=address))
        path.chmod(0o755)
    with socketserver.ThreadingUnixStreamServer(address, _Commands) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def can_fork(env) -> bool:
    """Whether Python would start no differently in an environment than here."""
    return _of_the_interpreter(env) == _BEFORE


def _of_the_interpreter(env):
    return {name: env[name] for name in env if name.startswith(READ_AT_START)}


_BEFORE = _of_the_interpreter(os.environ)


class DvcProcess:
    """``dvc``, with the plugin.

    Args:
        project: where to run it.
        args: its arguments.
        grace: seconds after which what does not end is killed, if not as ever.
        terminal: path of one; without it, ``output`` has what is printed.
        name: of the file for that, beside the project; one that is not in use.
    """

    def __init__(
        self, project, *args, grace=None, terminal=None, env=(), name="output"
    ):
        self._args = args
        self._output = project.path.parent / f"{project.path.name}.{name}"
        self._output.unlink(missing_ok=True)
        stdio = (os.devnull, str(self._output), str(self._output))
        self._process = _context.Process(
            target=_run,
            args=(
                str(project.path),
                "dvc",
                list(map(str, args)),
                {**os.environ, **dict(env)},
                (terminal,) * 3 if terminal else stdio,
                grace,
            ),
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    @property
    def traceback(self) -> str:
        """Of an exception that has ended it, which would be a mistake of ours."""
        path = Path(f"{self._output}.traceback")
        return path.read_text() if path.exists() else ""

    @property
    def returncode(self):
        """As of :class:`subprocess.Popen`."""
        return self._process.exitcode

    def wait(self, seconds):
        """Wait for its end; return whether it has come."""
        self._process.join(seconds)
        return self.returncode is not None

    def send_signal(self, signum):
        # NOTE: reaped by the server, so it may be gone already
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            pass

    def finish(self, seconds=HANGS):
        """Wait for its end; return what it has printed."""
        if not self.wait(seconds):
            self.send_signal(signal.SIGKILL)
            self.wait(HANGS)
            raise AssertionError(f"{self} did not end: {self.output}")
        return self.output

    def __repr__(self):
        return f"dvc {shlex.join(map(str, self._args))}"


def dvc_alone(project, *args):
    """Run ``dvc`` where the plugin cannot get at it: Python reads no .pth files.

    Raises:
        AssertionError: it has failed.
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(site.getsitepackages())}
    command = [sys.executable, "-S", "-m", "dvc", *args]
    return project.run(command, env=env, timeout=HANGS)


def commands_in(folder) -> list[psutil.Process]:
    """Processes that are in a folder, without those that have ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(folder)):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if is_alive(process)]


def watchdogs_of(pid) -> list[psutil.Process]:
    """The watchdogs of the runs of a process."""
    try:
        children = psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []
    watchdogs = []
    for child in children:
        try:
            if "watchdog.py" in " ".join(child.cmdline()):
                watchdogs.append(child)
        except psutil.Error:
            continue
    return watchdogs
