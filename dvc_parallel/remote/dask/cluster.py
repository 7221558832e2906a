"""Where the Dask scheduler is, and what to close at the end."""

import importlib
import sys
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Union

import dask
import distributed
from distributed import Client, SpecCluster
from distributed.deploy import Cluster

from dvc_parallel.engine.runner import RunnerError
from dvc_parallel.remote import DASK

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        """The scheduler of a cluster or client, which is closed with it."""
        address = (
            made.scheduler.address  # type: ignore[union-attr]
            if isinstance(made, Client)
            else made.scheduler_address
        )
        scheduler = cls(runner, str(address), getattr(made, "security", None))
        scheduler.is_made = True
        scheduler._stack.callback(made.close)
        return scheduler


def is_open(address: str) -> bool:
    """Whether what goes to an address leaves this machine, for all to read."""
    scheme, _, rest = address.partition("://")
    if scheme not in ("tcp", "ws"):
        return False
    host = rest.rpartition(":")[0].strip("[]")
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def open_cluster(runner: str, root: str, jobs: int) -> Scheduler:
    """Find the scheduler of a runner, or have one made.

    Args:
        runner, root, jobs: as for :func:`dvc_parallel.remote.choose_runner.connect`.

    Raises:
        RunnerError: it cannot be made.
    """
    if runner == DASK:
        return _in_this_process(runner, jobs)
    scheme, separator, rest = runner.partition("://")
    if separator:
        return Scheduler(runner, f"{'tcp' if scheme == DASK else scheme}://{rest}")
    return Scheduler.of(runner, _made_by(runner, root))


# What Dask need not do for a cluster of this process: look at the stacks of its threads
# a hundred times a second, and at the machine twice.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "1h",
}


class _Unseen:
    """Without an HTTP server: Dask has one even without a dashboard."""

    def start_http_server(self, *args, **kwargs) -> None:
        pass


class _UnseenScheduler(_Unseen, distributed.Scheduler):
    pass


class _UnseenWorker(_Unseen, distributed.Worker):
    pass


def _in_this_process(runner: str, jobs: int) -> Scheduler:
    """The scheduler of a cluster of threads, in which nothing listens.

    Whoever reaches a scheduler or worker can have it run anything: so nobody can, not
    even on this machine, which others may use as well.
    """
    with ExitStack() as stack:
        # NOTE: Dask puts it into sys.path, and its own choice is a folder in /tmp that
        # somebody else can have made
        folder = stack.enter_context(TemporaryDirectory(prefix="dvc-parallel-dask-"))
        options = {"protocol": "inproc://", "local_directory": folder}
        stack.enter_context(dask.config.set(QUIET))
        threads = {"nthreads": jobs, "memory_limit": 0}
        cluster = SpecCluster(
            scheduler={"cls": _UnseenScheduler, "options": options},
            workers={0: {"cls": _UnseenWorker, "options": {**options, **threads}}},
            silence_logs=40,
        )
        scheduler = Scheduler.of(runner, cluster)
        # NOTE: the folder goes once the cluster, which has it, is closed
        stack.push(scheduler._stack.pop_all())
        scheduler._stack = stack.pop_all()
        return scheduler


def _made_by(runner: str, root: str) -> Union[Cluster, Client]:
    """The result of the function that a runner names."""
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
    """Put a folder first in the search for modules."""
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
