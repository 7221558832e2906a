"""``dvc`` and ``dvc-parallel`` that start in no time.

A server has imported DVC. Each command is a fork of it, with the arguments, variables,
folder and streams of its caller, and calls the same ``main``. What is saved is the time
of the imports, most of what a small command takes.
"""

import json
import os
import pkgutil
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

# Starts for each command, so it imports next to nothing. The status comes before the
# command has ended, and the end of the connection after that.
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
call = {{"argv": sys.argv, "folder": os.getcwd(), "env": dict(os.environ)}}
socket.send_fds(connection, [json.dumps(call).encode()], [0, 1, 2])
status = connection.recv(1)
while connection.recv(1):
    pass
sys.exit(status[0] if status else 1)
"""

# What commands import as they need it; with all of dvc.repo and of this package.
MODULES = [
    "configobj",
    "dulwich.ignore",
    "dulwich.worktree",
    "dvc._debug",
    "dvc.cachemgr",
    "dvc.cli.parser",
    "dvc.daemon",
    "dvc.data_cloud",
    "dvc.repo.experiments.executor.base",
    "dvc.ui.table",
    "dvc.utils.strictyaml",
    "dvc_data.hashfile.db.local",
    "dvc_data.hashfile.status",
    "dvc_render.vega_templates",
    "flatten_dict",
    "networkx",
    "platformdirs.unix",
    "pygit2",
    "tabulate",
]


@contextmanager
def preloaded(folder: Path) -> Iterator[Path]:
    """A folder for ``PATH`` with both commands, for as long as the context lasts."""
    address = str(folder / "socket")
    for name in ("dvc", "dvc-parallel"):
        path = folder / name
        path.write_text(CLIENT.format(python=sys.executable, address=address))
        path.chmod(0o755)
    command = [sys.executable, "-m", __name__, address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout.read(1), "no server"
        yield folder
        # NOTE: its stdin ends, however this process ends
        server.stdin.close()


def preload() -> None:
    import dvc.repo

    import dvc_parallel

    found = [
        *pkgutil.iter_modules(dvc.repo.__path__, "dvc.repo."),
        *pkgutil.walk_packages(dvc_parallel.__path__, "dvc_parallel."),
    ]
    names = [module.name for module in found]
    left_out = re.compile(r"__main__|\.dask|\.backport")
    for name in MODULES + [name for name in names if not left_out.search(name)]:
        with suppress(ImportError):  # what a release does not have
            import_module(name)


def serve(address: str) -> None:
    preload()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"!")
        os.dup2(2, 1)
        while select.select([listener, 0], [], [])[0] == [listener]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                run(connection)
            connection.close()


def run(connection: socket.socket) -> None:
    data, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    call = json.loads(data)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["env"])
    sys.argv = call["argv"]
    if Path(sys.argv[0]).name == "dvc":
        from dvc.cli import main
    else:
        from dvc_parallel.commands.cli import main
    status = 1
    try:
        status = main(sys.argv[1:])
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([status or 0]))
    sys.exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
