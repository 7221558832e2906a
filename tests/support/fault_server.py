"""Runs commands of dvc-parallel in forks of itself, with system calls that fail.

    python -m tests.support.fault_server

Each line of its input is a command, in JSON, and so is each line of what it answers.
To import DVC once makes thousands of them possible.
"""

import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pkgutil import walk_packages

import dvc_parallel
from dvc_parallel.commands import cli
from tests.support import injection

SECONDS = 600


def run(argv, cwd, env, fault):
    """Run a command in a fork.

    Returns:
        dict: its exit status, None if it had to be killed; what it has printed; how
        many calls it made from where, and how many of these failed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as counts:
        pid = os.fork()
        if not pid:
            status = 99
            try:
                os.setsid()
                os.chdir(cwd)
                os.environ.update(env)
                null = os.open(os.devnull, os.O_RDONLY)
                for fd, number in ((null, 0), (output.fileno(), 1), (1, 2)):
                    os.dup2(fd, number)
                faults = injection.Faults(**fault)
                injection.install(faults)
                try:
                    status = cli.main(argv)
                finally:
                    sys.stdout.flush()
                    told = {"calls": faults.counts, "failed": faults.failed}
                    counts.write(json.dumps(told).encode())
                    counts.flush()
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)

        status = wait_for(pid)
        output.seek(0)
        counts.seek(0)
        return {
            "status": status,
            "output": output.read().decode(errors="replace"),
            **json.loads(counts.read() or "{}"),
        }


def wait_for(pid):
    end = time.monotonic() + SECONDS
    fd = os.pidfd_open(pid)
    try:
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            os.killpg(pid, signal.SIGABRT)
            time.sleep(1)
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
    finally:
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def import_all():
    for module in walk_packages(dvc_parallel.__path__, "dvc_parallel."):
        # NOTE: no run uses the room that needs Kedro
        if not module.name.endswith("__main__") and ".kedro." not in module.name:
            import_module(module.name)


def main():
    cli.main_parser()
    import_all()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(run(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
