"""A Dask cluster that is there before a run begins, and stays until its end."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .process import Place, RunError

# Seconds until all of it is there.
LIMIT = 120.0
HOST = "127.0.0.1"

WAIT = """
import sys
from distributed import Client
file, count, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with Client(scheduler_file=file, timeout=limit) as client:
    client.wait_for_workers(count, timeout=limit)
"""


@contextmanager
def dask_cluster(place: Place) -> Iterator[dict[str, str]]:
    """A scheduler, and a worker with one thread for each job.

    Yields:
        dict: variables by which tools find it.

    Raises:
        RunError: they are not there in time.
    """
    folder, jobs = place.folder, place.jobs
    folder.mkdir()
    file = folder / "scheduler.json"
    python = str(place.bin_dir / "python")
    with ExitStack() as stack, open(folder / "log", "wb") as log:

        def start(*args: str) -> None:
            process = subprocess.Popen(
                [python, "-m", *args],
                cwd=folder,
                env=dict(place.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)

        common = ("--scheduler-file", str(file), "--no-dashboard", "--host", HOST)
        start("distributed.cli.dask_scheduler", *common, "--port", "0")
        for number in range(jobs):
            options = ("--nthreads", "1", "--memory-limit", "0", "--no-nanny")
            name = ("--name", f"worker-{number}")
            start("distributed.cli.dask_worker", *common, *options, *name)
        try:
            subprocess.run(
                [python, "-c", WAIT, str(file), str(jobs), str(LIMIT)],
                check=True,
                capture_output=True,
                env=dict(place.env),
                timeout=2 * LIMIT,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            text = (folder / "log").read_text(encoding="utf-8", errors="replace")
            raise RunError(f"no Dask cluster: {text.strip()[-200:]}") from None
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
        yield {
            "DVC_PARALLEL_RUNNER": address.replace("tcp://", "dask://"),
            "DASK_SCHEDULER_ADDRESS": address,
        }
