"""Runs in which calls to the system fail."""

import json
import os
import re
import subprocess
import sys

import psutil
from ruamel.yaml import YAML

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


FAULTS = os.environ.get("DVC_PARALLEL_FAULTS")


class Server:
    """Runs commands of dvc-parallel."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fault_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(self, project, argv, fault=None):
        command = {
            "argv": argv,
            "cwd": str(project.path),
            "env": {"DVC_PARALLEL_JOBSERVER": "1", "DVC_PARALLEL_LOG_SIZE": "4K"},
            "fault": fault._asdict() if fault else {},
        }
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.communicate()


def recorded(project):
    if not project.exists("dvc.lock"):
        return {}
    with open(project.path / "dvc.lock") as fobj:
        return dict(YAML(typ="safe").load(fobj)["stages"])


def in_any_order(project):
    """What is left, in whatever order stages have been recorded."""
    # NOTE: DVC leaves what it has half copied in the cache, where nobody looks for it
    files = {
        name: value
        for name, value in project.left().items()
        if not name.startswith("trace.json")
        and not re.search(r"\.dvc/cache/.*\.tmp$", name)
    }
    _, lines = files.get(".gitignore", ("", b""))
    files[".gitignore"] = set(lines.splitlines())
    files["dvc.lock"] = recorded(project)
    return files


def processes_in(folder):
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(folder)):
                yield process
        except psutil.Error:
            continue
