"""DVC commands as processes that have imported DVC already: many start quickly."""

import os
import signal
import sys
from multiprocessing import get_context
from pathlib import Path

from dvc.cli import main

_context = get_context("forkserver")
_context.set_forkserver_preload([__name__, "dvc_parallel.backport.repro"])


class Command:
    """A ``dvc`` that runs, with its output in a file.

    Args:
        args: of ``dvc``.
        folder: where it runs.
        output: the file.
    """

    def __init__(self, args: list, folder: Path, output: Path):
        self.args = [str(arg) for arg in args]
        self.output = output
        options = (self.args, str(folder), str(output), dict(os.environ))
        self._process = _context.Process(target=_run, args=options)
        self._process.start()

    def wait(self, seconds: float) -> int:
        """Its exit status; if it does not end, it is killed with all it has started."""
        self._process.join(seconds)
        assert self._process.pid
        if self._process.is_alive():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.join()
            raise AssertionError(f"{self} did not end: {self.text}")
        assert self._process.exitcode is not None
        return self._process.exitcode

    @property
    def text(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def __repr__(self) -> str:
        return f"dvc {' '.join(self.args)}"


def _run(args: list, folder: str, output: str, env: dict) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    sys.argv = ["dvc", *args]
    sys.exit(main(args))
