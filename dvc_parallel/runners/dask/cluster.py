"""Where the Dask scheduler is, and what to close at the end."""

import importlib
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Union

from distributed import Client, LocalCluster
from distributed.deploy import Cluster

from dvc_parallel.jobs import available_cpus
from dvc_parallel.runners.choice import DASK
from dvc_parallel.runners.remote import RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the workers of a cluster for one run load first.
PRELOAD = "dvc_parallel.runners.dask.apart"


class Scheduler:
    """A Dask scheduler.

    Attributes:
        runner: as the user has named it.
        address: for a client; or what Dask takes for it.
        security: what a client takes, too.
        is_made (bool): whether it was made for the run, its workers maybe later.
    """

    def __init__(self, runner: str, address: str, security: Any = None):
        self.runner = runner
        self.address = address
        self.security = security
        self.is_made = False
        self._stack = ExitStack()

    def close(self) -> None:
        """Close what was made for the run."""
        self._stack.close()

    @classmethod
    def of(cls, runner: str, made: Union[Cluster, Client]) -> "Scheduler":
        """That of a cluster or client, which is closed with it."""
        address = (
            made.scheduler.address  # type: ignore[union-attr]
            if isinstance(made, Client)
            else made.scheduler_address
        )
        scheduler = cls(runner, str(address), getattr(made, "security", None))
        scheduler.is_made = True
        scheduler._stack.callback(made.close)
        return scheduler


def open_cluster(runner: str, root: str, jobs: int) -> Scheduler:
    """Find the scheduler of a runner, or have one made.

    Args:
        runner, root, jobs: as for :func:`dvc_parallel.runners.choice.connect`.

    Raises:
        RunnerError: it cannot be made.
    """
    if runner == DASK:
        workers = min(jobs, available_cpus())
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=-(-jobs // workers),
            processes=True,
            host="127.0.0.1",
            dashboard_address=":0",
            memory_limit=0,
            preload=PRELOAD,
            silence_logs=40,
        )
        return Scheduler.of(runner, cluster)
    scheme, separator, rest = runner.partition("://")
    if separator:
        return Scheduler(runner, f"{'tcp' if scheme == DASK else scheme}://{rest}")
    return Scheduler.of(runner, _made_by(runner, root))


def _made_by(runner: str, root: str) -> Union[Cluster, Client]:
    """What the function that a runner names returns."""
    module, _, name = runner.partition(":")[2].rpartition(".")
    try:
        with _importable(root):
            function = getattr(importlib.import_module(module), name)
            made = function()
    except Exception as exc:
        raise RunnerError(f"runner '{runner}': {type(exc).__name__}: {exc}") from exc
    if not isinstance(made, (Client, Cluster)):
        raise RunnerError(
            f"runner '{runner}': expected a Dask cluster or client, got {made!r}"
        )
    return made


@contextmanager
def _importable(root: str) -> "Iterator[None]":
    """Have the modules in a folder found first."""
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
