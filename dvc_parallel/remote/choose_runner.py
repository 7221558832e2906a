"""Which runner a run has: ``core.parallel_runner`` and what wins over it.

- ``local``: commands are processes on this machine.
- ``dask``: a Dask cluster on this machine, for the time of the run.
- ``dask://host:port``, ``tls://host:port``: a Dask scheduler.
- ``dask:module.function``: what the function returns, a Dask cluster or client.
"""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from dvc.exceptions import InvalidArgumentError

from dvc_parallel.engine.own_files import OwnFolder

from .dask import DASK

if TYPE_CHECKING:
    from dvc_parallel.engine.remote_runner import RemoteRunner

ENV = "DVC_PARALLEL_RUNNER"
CONFIG_OPTION = "parallel_runner"

LOCAL = "local"
EXTRA = "dvc-parallel[dask]"

_ADDRESS = re.compile(r"(?:dask|tls)://(?:[^\s:/\[\]]+|\[[0-9a-fA-F:.%]+\]):(\d+)")
_FUNCTION = re.compile(r"dask:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def parse_runner(text: str) -> str:
    """Check the name of a runner, and return it.

    Raises:
        ValueError: says what would be right.
    """
    if text in (LOCAL, DASK) or _FUNCTION.fullmatch(text):
        return text
    match = _ADDRESS.fullmatch(text)
    if match and 0 < int(match[1]) < 2**16:
        return text
    raise ValueError(
        "expected 'local', 'dask', 'dask://host:port', 'tls://host:port' or "
        f"'dask:module.function', got '{text}'"
    )


def setting(option: Optional[str], config: Mapping[str, Any]) -> tuple[str, str]:
    """What says which runner it is, and what it says, which may be malformed.

    Args:
        option: of the command; None: none was given.
        config: the section ``core`` of the config.
    """
    if option is not None:
        return "runner", option
    if (value := os.environ.get(ENV)) is not None:
        return ENV, value
    return f"core.{CONFIG_OPTION}", config.get(CONFIG_OPTION, LOCAL)


def connect(runner: str, root: str, tmp_dir: str, jobs: int) -> "RemoteRunner":
    """Connect with the workers of a runner that is not the local one.

    Args:
        runner: as :func:`parse_runner` has it.
        root: of the repo; modules are looked for there.
        tmp_dir: ``.dvc/tmp`` of the repo.
        jobs: how many commands are to run at a time, where workers have to be started.

    Raises:
        InvalidArgumentError: Dask is not installed.
        RunnerError: it cannot be reached.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise InvalidArgumentError(
            f"runner '{runner}' needs dask.distributed: pip install '{EXTRA}'"
        ) from None
    from .dask.cluster import open_cluster
    from .dask.dask_runner import DaskRunner

    cluster = open_cluster(runner, root, jobs)
    try:
        return DaskRunner(cluster, OwnFolder(tmp_dir, "parallel"))
    except BaseException:
        cluster.close()
        raise
