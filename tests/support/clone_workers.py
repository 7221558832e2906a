"""Workers as processes of their own, in folders of their own."""

import os
import pickle
import queue
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.project import Project

ROOT = Path(__file__).parent.parent.parent


class Worker:
    """A process that performs one request at a time."""

    def __init__(self, home: Path, folder: Path):
        home.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        env = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
        env.update(
            HOME=str(home),
            TMPDIR=str(home),
            PATH=os.pathsep.join([os.path.dirname(sys.executable), env["PATH"]]),
            PYTHONPATH=str(ROOT),
            DVC_NO_ANALYTICS="1",
            DVC_TEST="true",
        )
        for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
            env[f"DVC_{name}_DIR"] = str(home / name.lower())
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.clone_worker_process", str(folder)],
            cwd=home,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def perform(self, request, show=lambda *_: None):
        pickle.dump(request, self.process.stdin)
        self.process.stdin.flush()
        while True:
            kind, *message = pickle.load(self.process.stdout)
            if kind == "output":
                show(*message)
            elif kind == "error":
                raise message[0]
            else:
                return message[0]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Carrier:
    """Something else that carries requests."""

    def __init__(self, carry):
        self.carry = carry


class Workers:
    """Some workers, each of which is given what there is to do when it is idle.

    Args:
        path: for their folders.
        hosts: how many folders.
        slots: how many workers have the same folder.

    Attributes:
        requests: all that have been carried.
    """

    def __init__(self, path: Path, *, hosts: int, slots: int):
        self.all = [
            Worker(path / f"home{host}.{slot}", path / f"host{host}")
            for host in range(hosts)
            for slot in range(slots)
        ]
        self.requests = []
        self._idle = queue.LifoQueue()
        for worker in self.all:
            self._idle.put(worker)

    def carry(self, request, show, _job):
        worker = self._idle.get()
        try:
            self.requests.append(request)
            return worker.perform(request, show)
        finally:
            self._idle.put(worker)

    def close(self):
        for worker in self.all:
            worker.close()


def reproduce(project: Project, workers: Workers, jobs: int = 2, **kwargs) -> list:
    """As ``Project.reproduce``, with commands on workers."""
    results = []

    def run(pending):
        results.extend(pending.perform(pending.side_by_side(carry=workers.carry)))

    with project.repo() as repo:
        repo.reproduce(jobs=jobs, instead=run, **kwargs)
    return [stage.addressing for stage in results]
