"""Which runner a run has: ``core.parallel_runner`` and what wins over it.

- ``local``: commands are processes on this machine.
- ``dask``: a Dask cluster on this machine, for the time of the run.
- ``dask://host:port``, ``tls://host:port``: a Dask scheduler.
- ``dask:module.function``: what the function returns, a Dask cluster or client.
- ``slurm``: each command is a Slurm job, in the workspace, which nodes share.
- ``name`` or ``name:address``: what a package has registered under the name, as an
  entry point of the group :data:`GROUP` that is an
  :data:`~dvc_parallel.engine.runner.OpenRunner`.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional

from dvc.exceptions import DvcException, InvalidArgumentError

from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.runner import Runner, RunnerError, RunnerOptions
from dvc_parallel.engine.settings import lookup

from . import DASK, LOCAL, SLURM

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from dvc_parallel.engine.runner import OpenRunner

ENV = "DVC_PARALLEL_RUNNER"
CONFIG_OPTION = "parallel_runner"
GROUP = "dvc_parallel.runners"

TLS = "tls"
NEEDS_DASK = "needs dask.distributed: pip install 'distributed>=2023.5'"

_DASK_ADDRESS = re.compile(r"(?:dask|tls)://(?:[^\s:/\[\]]+|\[[0-9a-fA-F:.%]+\]):(\d+)")
_DASK_FUNCTION = re.compile(r"dask:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_REGISTERED = re.compile(r"[A-Za-z][\w.-]*(?::\S.*)?")


def check_runner(text: str) -> str:
    """Check the form of a runner's name, and return it.

    Nobody is asked whether there is such a runner: what is in the config may be for
    another environment, and DVC reads it for each of its commands.

    Raises:
        ValueError: says what would be right.
    """
    if text in (LOCAL, DASK, SLURM) or _DASK_FUNCTION.fullmatch(text):
        return text
    match = _DASK_ADDRESS.fullmatch(text)
    if match and 0 < int(match[1]) < 2**16:
        return text
    if _name_of(text) not in (LOCAL, DASK, SLURM, TLS) and _REGISTERED.fullmatch(text):
        return text
    raise ValueError(_expected(text, "'name:address' of a registered runner"))


def parse_runner(text: str) -> str:
    """Check the name of a runner that is to be used, and return it.

    Raises:
        ValueError: says what would be right, and which runners are registered.
    """
    name = _name_of(check_runner(text))
    if name in (LOCAL, DASK, SLURM, TLS):
        return text
    if name not in (registered := _registered()):
        names = ", ".join(f"'{name}'" for name in sorted(registered))
        there = f"a registered runner ({names or 'no package has registered any'})"
        raise ValueError(_expected(text, there))
    return text


def _name_of(runner: str) -> str:
    return runner.partition(":")[0]


def _expected(text: str, others: str) -> str:
    return (
        "expected 'local', 'dask', 'slurm', 'dask://host:port', 'tls://host:port', "
        f"'dask:module.function' or {others}, got '{text}'"
    )


def _registered() -> "dict[str, EntryPoint]":
    """The registered runners, by name; the first in ``sys.path`` wins."""
    from importlib.metadata import entry_points

    found: Any = entry_points()
    # NOTE: Python 3.9 has a dict of them
    is_new = hasattr(found, "select")
    points = found.select(group=GROUP) if is_new else found.get(GROUP, ())
    return {point.name: point for point in reversed(list(points))}


def needs_dask(runner: str) -> bool:
    return _name_of(runner) in (DASK, TLS)


def setting(option: Optional[str], config: Mapping[str, Any]) -> tuple[str, str]:
    """The name of the setting of the runner, and its value, which may be malformed.

    Args:
        option: of the command; None: none was given.
        config: the section ``core`` of the config.
    """
    if option is not None:
        return "runner", option
    name, value = lookup(CONFIG_OPTION, ENV, config)
    return name, LOCAL if value is None else value


def connect(
    runner: str, root: str, tmp_dir: str, jobs: int, detach: bool = False
) -> Runner:
    """Open a runner that is not the local one.

    Args:
        runner: as :func:`parse_runner` has it.
        root, tmp_dir, jobs, detach: as for :class:`RunnerOptions`.

    Raises:
        InvalidArgumentError: Dask is not installed.
        RunnerError: it cannot be reached.
    """
    name, _, address = runner.partition(":")
    options = RunnerOptions(runner, address, root, tmp_dir, jobs, detach)
    if runner == SLURM:
        from .slurm.slurm_runner import open_slurm

        return open_slurm(options)
    if needs_dask(runner):
        return connect_dask(options)
    try:
        open_runner: OpenRunner = _registered()[name].load()
        opened = open_runner(options)
    except DvcException:
        raise
    except Exception as exc:
        raise RunnerError(f"runner '{runner}': {type(exc).__name__}: {exc}") from exc
    if not isinstance(opened, Runner):
        raise RunnerError(f"runner '{runner}': expected a Runner, got {opened!r}")
    return opened


def check_jobs_left(runner: str, tmp_dir: str, stages: Iterable[Any]) -> None:
    """Make sure that nobody writes to the outputs of stages that are to be run.

    Raises:
        DvcException: names jobs of Slurm that may do so.
    """
    if not os.path.isdir(os.path.join(tmp_dir, "parallel", SLURM)):
        return
    from .slurm.records import check_left

    check_left(tmp_dir, stages, takes_up=runner == SLURM)


def connect_dask(options: RunnerOptions) -> Runner:
    """Connect with the workers of a Dask cluster; an :data:`OpenRunner`."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise InvalidArgumentError(f"runner '{options.name}' {NEEDS_DASK}") from None
    from .dask.cluster import open_cluster
    from .dask.dask_runner import DaskRunner

    cluster = open_cluster(options.name, options.root, options.jobs)
    try:
        return DaskRunner(cluster, OwnFolder(options.tmp_dir, "parallel"))
    except BaseException:
        cluster.close()
        raise
