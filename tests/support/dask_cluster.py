"""A real Dask scheduler and real workers on the loopback interface."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from distributed import Client

from tests import HANGS


class Cluster:
    """Started with the environment that there is then.

    Args:
        folder: for it to live in; each worker has its own below.
        host: where the scheduler listens.
        protocol: "tcp", or "tls" where the environment says how.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1", protocol: str = "tcp"):
        self.folder = folder
        self.host = host
        self.protocol = protocol
        self.processes: dict[str, subprocess.Popen] = {}
        self.port = 0
        self.start_scheduler()

    def _start(self, name, *args, wrapper=()):
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [*wrapper, sys.executable, "-m", *args],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_scheduler(self):
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self._start(
            "scheduler",
            "distributed.cli.dask_scheduler",
            *("--host", self.host, "--port", str(self.port), "--no-dashboard"),
            *("--scheduler-file", str(file), "--protocol", self.protocol),
        )
        end = time.monotonic() + HANGS
        while not file.exists() or not file.read_text():
            assert self.processes["scheduler"].poll() is None, self.log("scheduler")
            assert time.monotonic() < end, self.log("scheduler")
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        self.port = int(address.rpartition(":")[2])

    def start_worker(self, name, *args, threads=2, nanny=False, wrapper=()):
        self._start(
            name,
            "distributed.cli.dask_worker",
            self.address,
            *("--name", name, "--nthreads", str(threads), "--memory-limit", "0"),
            *("--no-dashboard", "--local-directory", str(self.folder / name)),
            "--nanny" if nanny else "--no-nanny",
            *args,
            wrapper=wrapper,
        )

    @property
    def address(self):
        return f"{self.protocol}://{self.host}:{self.port}"

    @property
    def runner(self):
        return self.address.replace("tcp://", "dask://")

    def wait_for_workers(self, count):
        with Client(self.address, set_as_default=False, timeout=HANGS) as client:
            client.wait_for_workers(count, timeout=HANGS)

    def log(self, name):
        return (self.folder / name / "log").read_text()

    def signal(self, name, signum):
        self.processes[name].send_signal(signum)

    def kill(self, name):
        """Kill a process, and only it."""
        self.signal(name, signal.SIGKILL)
        self.processes.pop(name).wait()

    def close(self):
        for process in self.processes.values():
            processes = [psutil.Process(process.pid)]
            processes += processes[0].children(recursive=True)
            for one in processes:
                try:
                    one.kill()
                except psutil.NoSuchProcess:
                    continue
            process.wait()


def processes_in(folder):
    """All processes whose current folder it is."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == os.fspath(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def in_another_workspace(path):
    """Run a command where a folder is another, empty one."""
    script = f'mount -t tmpfs none {path} && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


def can_unshare(tmp_path):
    command = [*in_another_workspace(tmp_path), "true"]
    return not subprocess.run(command, check=False, capture_output=True).returncode


MIXED = """
    stages:
      one: {cmd: "sleep 0.2; echo one > one.txt", outs: [one.txt]}
      many:
        foreach: [a, b, c]
        do:
          cmd: "mkdir -p out/${item}; cat one.txt in.txt > out/${item}/data"
          deps: [one.txt, in.txt]
          outs: ["out/${item}"]
      sub: {wdir: sub, cmd: "pwd -P | xargs basename > here.txt", outs: [here.txt]}
      all:
        cmd:
          - cat out/*/data > all.txt
          - echo '{"lines":' $(wc -l < all.txt)'}' > metrics.json
        deps: [out/a, out/b, out/c, sub/here.txt]
        outs: [all.txt]
        metrics: [{metrics.json: {cache: false}}]
"""


def phases(project):
    """What happened to each stage in the last run: pairs of phases and details."""
    journal = sorted(project.path.glob(".dvc/tmp/parallel/runs/*/journal.jsonl"))[-1]
    header, *entries = map(json.loads, journal.read_text().splitlines())
    found = {stage["name"]: [] for stage in header["stages"]}
    for entry in entries:
        if "stage" in entry:
            name = header["stages"][entry["stage"]]["name"]
            found[name].append((entry["phase"], entry))
    return found


def worker_of(project, stage):
    (worker,) = {
        entry["worker"] for phase, entry in phases(project)[stage] if phase == "command"
    }
    return worker


CLUSTER = """
    from distributed import Client

    def address():
        return Client("{address}")
"""
