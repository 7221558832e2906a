import os
import subprocess
import sys

import pytest

from dvc_parallel.processes import watchdog

# Prints a line, and then is there until its stdin ends.
WAIT = [sys.executable, "-c", "print(1, flush=True); input()"]


@pytest.fixture
def start():
    """Start a process that belongs to runs, and prints a line when it is there."""
    processes = []

    def start(*run_ids, command=WAIT):
        env = dict(os.environ)
        for run_id in run_ids:
            env = watchdog.marked(env, run_id)
        process = subprocess.Popen(command, stdin=-1, stdout=-1, env=env)
        processes.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
