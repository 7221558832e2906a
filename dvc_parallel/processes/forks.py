"""Nodes of Kedro as forks of a process that has imported what they need.

    LocalRunner ── runs ──> fork_server     a command of the run, like any other
         │ hold                 │ forks
         └─────> Fork <─────────┘           its ID, how it has ended, what it has used

With :data:`VARIABLE`, a command that is ``kedro dvc run NODE`` and nothing else becomes
such a fork; all others start as they always do, and so does this one where anything is
in the way.  There is one server for each Python, folder and environment, but for the
variables of DVC that differ from stage to stage.

A fork is what the runner would have started otherwise: the head of a session of its
own.  It is held until the runner knows its process ID, so no signal misses it.  The
server has the ID of the run in its environment, and so have all forks.
"""

import json
import os
import re
import shutil
import socket
import sys
import threading
from collections import deque
from contextlib import closing, suppress
from io import FileIO
from typing import Any, Optional

from dvc_parallel.engine import logger
from dvc_parallel.engine.local_runner import GRACE, Forks, LocalRunner, signal_all
from dvc_parallel.engine.runner import Command, RunnerClosedError
from dvc_parallel.engine.signals import SIGKILL

VARIABLE = "DVC_PARALLEL_KEDRO_FORK"
_NODE = re.compile(r"kedro dvc run(?: (?:--env|-e) [\w.-]+)? [\w.-]+")
# Variables that differ from stage to stage; nothing looks at them as it is imported.
_OF_STAGES = "DVC_"
# Seconds in which a fork takes what it has to run.
PATIENCE = 5.0


class Fork:
    """A process as of :class:`subprocess.Popen`, forked by another one.

    Args:
        channel: its server says there how it has ended.
        pid: its process ID, which is its own until this side of the channel is closed.
        script: what it runs.

    Attributes:
        rusage: by the kernel, once it has ended, if that is known.
    """

    def __init__(self, channel: socket.socket, pid: int, script: str):
        self.pid = pid
        self.returncode: Optional[int] = None
        self.rusage: Any = None
        self.stdout: Optional[FileIO] = None
        self.stderr: Optional[FileIO] = None
        self._channel = channel
        self._script = script

    def start(self, command: Command, stdin: int) -> bool:
        """Let it run; tell whether it does.  If not, nothing of it is left."""
        from .fork_server import LENGTH

        outs = [os.pipe() for _ in range(2)]
        descriptors = [0, 1, 2, *command.inherited]
        what = {
            "args": [self._script, *_words(command)[1:]],
            "cwd": command.cwd or os.getcwd(),
            "env": dict(os.environ if command.env is None else command.env),
            "descriptors": descriptors,
        }
        body = json.dumps(what).encode()
        head = len(body).to_bytes(LENGTH, "big")
        try:
            fds = [stdin, *(write for _, write in outs), *command.inherited]
            self._channel.settimeout(PATIENCE)
            socket.send_fds(self._channel, [head], fds)  # type: ignore[attr-defined]
            self._channel.sendall(body)
            self._channel.settimeout(None)
        except OSError:
            for read, _ in outs:
                os.close(read)
            self.drop()
            return False
        finally:
            for _, write in outs:
                os.close(write)
        self.stdout, self.stderr = (FileIO(read) for read, _ in outs)
        return True

    def drop(self) -> None:
        """End it before it has run anything."""
        signal_all(self, SIGKILL)
        self._channel.close()

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        if self.returncode is None:
            with closing(self._channel), suppress(OSError):
                if said := self._channel.recv(64):
                    self.returncode = int(said)
                    self._channel.shutdown(socket.SHUT_WR)
                    self._read_usage()
            if self.returncode is None:
                # NOTE: nobody knows any more how it ends
                signal_all(self, SIGKILL)
                self.returncode = -SIGKILL
        return self.returncode

    def _read_usage(self) -> None:
        import resource

        with self._channel.makefile("rb") as file, suppress(ValueError):
            self.rusage = resource.struct_rusage(json.load(file))  # type: ignore[attr-defined]


class _Server:
    """A server, which is started when something is to be forked."""

    def __init__(self, runner: LocalRunner, command: Command, python: str, script: str):
        self._runner = runner
        self._python = python
        self._script = script
        self._cwd = command.cwd
        env = os.environ if command.env is None else command.env
        # NOTE: what it leaves belongs to no stage
        self._env = {k: v for k, v in env.items() if k != "DVC_STAGE"}
        self._guard = threading.Lock()  # of the fields below
        self._control: Optional[socket.socket] = None
        self._threads: list[threading.Thread] = []
        self._is_unfit = False
        self._said: deque[bytes] = deque(maxlen=1)  # its last line

    def hold(self) -> Optional[Fork]:
        from .fork_server import STALE, UNFIT

        with self._guard:
            # NOTE: twice, as packages may have changed since it has imported them
            for _ in range(2):
                if self._is_unfit:
                    return None
                if self._control is None:
                    self._start()
                channel, said = self._ask()
                if said.isdigit():
                    return Fork(channel, int(said), self._script)
                channel.close()
                self._end()
                if said != STALE:
                    self._give_up(said.removeprefix(UNFIT))
        return None

    def _ask(self) -> tuple[socket.socket, bytes]:
        """The channel of a fork, and its process ID or what is said instead of that."""
        assert self._control
        channel, end = socket.socketpair()
        try:
            with closing(end):
                socket.send_fds(self._control, [b"f"], [end.fileno()])  # type: ignore[attr-defined]
            return channel, channel.recv(4096)
        except OSError:
            return channel, b""

    def _start(self) -> None:
        from .fork_server import __file__ as server

        self._control, end = socket.socketpair()
        args = [self._python, server, str(end.fileno()), self._script]
        command = Command(args, self._env, self._cwd, inherited=(end.fileno(),))

        def run() -> None:
            # NOTE: once it has ended, nobody waits for an answer any more
            with closing(end), suppress(RunnerClosedError, OSError):
                self._runner.run(command, self._show)

        thread = threading.Thread(target=run, name="dvc-fork-server", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _show(self, stream: str, data: bytes) -> None:
        if stream == "stderr":
            self._said.extend(filter(None, data.splitlines()))

    def _give_up(self, said: bytes) -> None:
        self._is_unfit = True
        if self._runner.is_closed:
            return
        if not said:
            # NOTE: it has ended, and what it has printed last says why
            self._threads[-1].join(GRACE)
        why = (said or b"".join(self._said)).decode(errors="replace")
        logger.warning("%s: nodes start as usual: %s", VARIABLE, why)

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def close(self) -> None:
        with self._guard:
            self._is_unfit = True
            self._end()
        for thread in self._threads:
            thread.join(GRACE)


class ForkServers(Forks):
    """The servers of a runner.  Any thread may call any method at any time."""

    def __init__(self) -> None:
        self._guard = threading.Lock()  # of the fields below
        self._servers: dict[tuple, _Server] = {}
        self._has_told = False

    def hold(self, command: Command, runner: LocalRunner) -> Optional[Fork]:
        env = os.environ if command.env is None else command.env
        if env.get(VARIABLE) != "1" or not (words := _words(command)):
            return None
        if sys.platform != "linux":
            with self._guard:
                if not self._has_told:
                    logger.warning("%s works on Linux alone: ignored", VARIABLE)
                self._has_told = True
            return None
        cwd = command.cwd or os.getcwd()
        script = shutil.which(words[0], path=env.get("PATH", ""))
        python = _python_of(script)
        if not script or not python or not os.path.isdir(cwd):
            return None
        seen = frozenset((k, v) for k, v in env.items() if not k.startswith(_OF_STAGES))
        key = python, script, cwd, seen
        with self._guard:
            if key not in self._servers:
                self._servers[key] = _Server(runner, command, python, script)
            server = self._servers[key]
        return server.hold()

    def close(self) -> None:
        with self._guard:
            servers = list(self._servers.values())
        for server in servers:
            server.close()


def _words(command: Command) -> list[str]:
    """The words of the command of a node, as DVC has a shell run it, or none."""
    args = command.args
    if isinstance(args, str) or args[-2:-1] != ["-c"]:
        return []
    return args[-1].split() if _NODE.fullmatch(args[-1]) else []


def _python_of(script: Optional[str]) -> Optional[str]:
    """The Python that runs a script, if the script names nothing but that."""
    if not script or not os.path.isabs(script):
        return None
    with suppress(OSError), open(script, "rb") as file:
        line = os.fsdecode(file.readline(4096)).rstrip()
        python = line.removeprefix("#!").strip()
        if line.startswith("#!/") and os.path.basename(python).startswith("python"):
            return python if os.access(python, os.X_OK) else None
    return None
