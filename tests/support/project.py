"""A DVC project in a folder of its own, and what a run has left in it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from dvc.repo import Repo, reproduce

from dvc_parallel.backport import seams
from tests import HANGS, wait_until
from tests.support import processes


@cache
def _template(scm: bool) -> Path:
    """An empty DVC repo, to be copied: `init` takes its time."""
    folder = Path(tempfile.mkdtemp(prefix="dvc-parallel-tests-"))
    if scm:
        subprocess.run(["git", "init", "-q", folder], check=True)
    Repo.init(str(folder), no_scm=not scm).close()
    return folder


@contextmanager
def plain_dvc():
    """DVC without the plugin."""
    installed = [
        (seam, seam.current())
        for seam in seams.present(seams.IN_DVC)
        if seam.module == reproduce.__name__
    ]
    for seam, patched in installed:
        seam.replace(reproduce, patched.__wrapped__)
    try:
        yield
    finally:
        for seam, patched in installed:
            seam.replace(reproduce, patched)


class Project:
    def __init__(self, path: Path, scm: bool = True):
        self.path = Path(path)
        self._started: list[subprocess.Popen] = []
        shutil.copytree(_template(scm), self.path)

    def write(self, files: dict) -> None:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content)

    def read(self, name: str) -> str:
        return (self.path / name).read_text()

    def exists(self, name: str) -> bool:
        return (self.path / name).exists()

    @contextmanager
    def repo(self):
        cwd = os.getcwd()
        os.chdir(self.path)
        try:
            with Repo() as repo:
                yield repo
        finally:
            os.chdir(cwd)

    def reproduce(self, jobs=None, **kwargs):
        """Run ``Repo.reproduce``; return the names of what was reproduced.

        Without ``jobs``, by DVC alone.
        """
        with ExitStack() as stack:
            repo = stack.enter_context(self.repo())
            if jobs is None:
                stack.enter_context(plain_dvc())
            else:
                kwargs["jobs"] = jobs
            return [stage.addressing for stage in repo.reproduce(**kwargs)]

    def command(self, *args) -> list:
        return [sys.executable, "-m", "dvc", *map(str, args)]

    def dvc(self, *args, check=True, **kwargs) -> subprocess.CompletedProcess:
        """Run the real ``dvc`` in the project."""
        return self.run(self.command(*args), check, **kwargs)

    def own(self, *args, check=True, **kwargs) -> subprocess.CompletedProcess:
        """Run ``dvc-parallel`` in the project."""
        command = [sys.executable, "-m", "dvc_parallel", *map(str, args)]
        return self.run(command, check, **kwargs)

    def deps(self, *args, status=0) -> subprocess.CompletedProcess:
        """Run ``dvc-parallel deps``, which must exit with a status."""
        result = self.own("deps", *args, check=False)
        assert result.returncode == status, result.stdout + result.stderr
        return result

    def run(self, command, check=True, **kwargs) -> subprocess.CompletedProcess:
        """Run a command in the project; those of Python are forks if they can be."""
        kwargs = {"cwd": self.path, "text": True, "timeout": HANGS, **kwargs}
        env = kwargs.get("env") or dict(os.environ)
        if (
            list(command[:2]) == [sys.executable, "-m"]
            and kwargs.keys() <= {"cwd", "env", "text", "timeout"}
            and processes.can_fork(env)
        ):
            module, *args = command[2:]
            result = processes.run(module, args, **{**kwargs, "env": env})
        else:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
            result = subprocess.run(command, capture_output=True, check=False, **kwargs)
        if check and result.returncode:
            raise AssertionError(f"{command}: {result.stdout}{result.stderr}")
        return result

    def start(self, *args, before=(), **kwargs) -> subprocess.Popen:
        """Start the real ``dvc`` in the project, as a shell would.

        Args:
            before: a command, with its arguments, that is to start it.
        """
        process = subprocess.Popen(
            [*before, *self.command(*args)],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **kwargs,
        )
        self._started.append(process)
        return process

    def wait_for(self, *names: str) -> None:
        """Wait until a command has made the files, or all of ``dvc`` has ended."""

        def are_there() -> bool:
            return all(self.exists(name) for name in names)

        def has_ended() -> bool:
            return all(process.poll() is not None for process in self._started)

        wait_until(lambda: are_there() or (self._started and has_ended()))
        assert are_there(), f"no {names}: {os.listdir(self.path)}"

    def left(self) -> dict:
        """What a run has left: all files of the workspace, their modes, the cache."""
        files = {}
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            if re.search(r"(^|/)(\.git|\.dvc/tmp|\.dvc/cache/runs)/", name):
                continue
            if ".dvc/cache/" in name:
                files[name] = None if path.is_dir() else path.stat().st_size
            elif path.is_file():
                files[name] = oct(path.stat().st_mode), path.read_bytes()
            else:
                files[name] = None
        return files

    def everything(self) -> dict:
        """All files with their contents, but for those that `dvc status` touches."""
        return {
            path: path.read_bytes() if path.is_file() else None
            for path in self.path.rglob("*")
            if path.name not in ("lock", "btime")
        }

    def path_locks(self) -> str:
        path = self.path / ".dvc" / "tmp" / "rwlock"
        return path.read_text() if path.exists() else "{}"


def assert_same(serial: Project, parallel: Project) -> None:
    one, other = serial.left(), parallel.left()
    different = [
        f"{name}: {one.get(name, 'missing')!r} != {other.get(name, 'missing')!r}"
        for name in sorted({*one, *other})
        if one.get(name, "missing") != other.get(name, "missing")
    ]
    assert not different, "\n".join(different)
    locks = json.loads(parallel.path_locks())
    assert not any(locks.values()), locks


def finish(process: subprocess.Popen, seconds: float = HANGS) -> str:
    """Wait for a process, and return what it has printed."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"did not end: {output}") from None
    return output


# Waits until so many others have come; fails if they do not.
MEET = """\
import sys, time, pathlib
name, count = sys.argv[1], int(sys.argv[2])
here = pathlib.Path("meeting")
here.mkdir(exist_ok=True)
(here / name).touch()
end = time.monotonic() + 600
while len(list(here.iterdir())) < count:
    if time.monotonic() > end:
        sys.exit(f"{name} waited in vain for {count}")
    time.sleep(0.01)
"""


# Holds on until a file is there.
HOLD = """\
import sys, time, pathlib
name = sys.argv[1]
pathlib.Path(name + ".runs").touch()
while not pathlib.Path(name + ".go").exists():
    time.sleep(0.01)
"""


SCRIPTS = {"meet.py": MEET, "hold.py": HOLD}
