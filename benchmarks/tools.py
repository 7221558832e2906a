"""The tools: how to install, start and judge each of them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from patches import BASE, apply

from . import formats, orchestrators
from .dask_cluster import dask_cluster
from .model import Workload
from .process import Place

ROOT = Path(__file__).parent.parent
SERIAL = "serial-dvc"
OURS = "dvc-parallel"
OURS_ON_DASK = "dvc-parallel-dask"
SERIES = "dvc-with-series"
# Those that have `dvc repro -j`.
PARALLEL = (OURS, SERIES, OURS_ON_DASK)

# `dvc repro` without and with the plugin, and other tools that run a graph.
DVC = (SERIAL, OURS)
PEERS = (
    "dvx",
    "pivot",
    "stepup",
    "snakemake",
    "luigi",
    "pytask",
    "doit",
    "ninja",
    "make",
)
ORCHESTRATORS = ("airflow", "prefect", "dagster")

Commands = list[list[str]]
# Gives more variables for the commands.
Servers = Callable[[Place], AbstractContextManager[Mapping[str, str]]]


@dataclass(frozen=True)
class Tool:
    """Something that runs a workload.

    Attributes:
        executable: its first word on the command line.
        requirements: for pip; none: it comes with the system.
        python: the version that it needs, such as 3.13; None: ours will do.
        source: returns the folder that one more package is installed from; the one
            that it gets, which does not exist, or another.
        distributions: whose versions to tell.
        files: what it reads, for a workload.
        commands: for a number of jobs; all of them are measured together.
        servers: what has to run before, and is not measured.
        note: what it does less than DVC, or otherwise.
        is_dvc: it leaves a dvc.lock and fills the cache.
        has_params: a stage can depend on single values of params.yaml.
        has_memory: it does not run again what it has run.
    """

    name: str
    executable: str
    requirements: Sequence[str]
    distributions: Sequence[str]
    files: Callable[[Workload], Mapping[str, str]]
    commands: Callable[[int], Commands]
    python: Optional[str] = None
    source: Optional[Callable[[Path], Path]] = None
    servers: Optional[Servers] = None
    note: str = ""
    is_dvc: bool = False
    has_params: bool = False
    has_memory: bool = True

    def cannot(self, workload: Workload) -> Optional[str]:
        """Why it cannot run a workload, if so."""
        if not self.has_params and any(stage.params for stage in workload.stages):
            return "a stage cannot depend on single values of a params file"
        if workload.again and not self.has_memory:
            return "runs all of it each time"
        return None


def tools(dvc_version: str) -> dict[str, Tool]:
    """All of them by name, in the order of the table.

    Args:
        dvc_version: of the DVC for serial DVC, ours, and paraffin.
    """
    dvc = f"dvc=={dvc_version}"

    def with_series(folder: Path) -> Path:
        apply(folder)
        return folder

    known = [
        Tool(
            SERIAL,
            "dvc",
            [dvc],
            ["dvc"],
            formats.dvc,
            lambda _: [["dvc", "repro"]],
            is_dvc=True,
            has_params=True,
        ),
        Tool(
            OURS,
            "dvc",
            [dvc],
            ["dvc", "dvc-parallel"],
            formats.dvc,
            lambda jobs: [["dvc", "repro", "-j", str(jobs)]],
            source=lambda _: ROOT,
            is_dvc=True,
            has_params=True,
        ),
        Tool(
            SERIES,
            "dvc",
            [f"dvc=={BASE}"],
            ["dvc"],
            formats.dvc,
            lambda jobs: [["dvc", "repro", "-j", str(jobs)]],
            source=with_series,
            note="released DVC with what patches/ proposes to it",
            is_dvc=True,
            has_params=True,
        ),
        Tool(
            OURS_ON_DASK,
            "dvc",
            [dvc, "distributed"],
            ["dvc", "dvc-parallel", "distributed"],
            formats.dvc,
            lambda jobs: [["dvc", "repro", "-j", str(jobs)]],
            source=lambda _: ROOT,
            servers=dask_cluster,
            note="on a Dask worker for each job, on the same machine",
            is_dvc=True,
            has_params=True,
        ),
        Tool(
            "paraffin",
            "paraffin",
            # Its datetimes without a time zone are refused by later ones.
            [dvc, "paraffin", "sqlmodel<0.0.32"],
            ["paraffin", "dvc"],
            formats.dvc,
            lambda jobs: [
                ["paraffin", "submit"],
                ["paraffin", "worker", "--jobs", str(jobs)],
            ],
            note="a `dvc repro --single-item` process a stage, tried again when the "
            "repo is locked; a worker that finds nothing to do ends for good",
            is_dvc=True,
            has_params=True,
        ),
        Tool(
            "dask4dvc",
            "dask4dvc",
            # It wants old releases, which do not go with the newest of what they need.
            [
                "dask4dvc",
                "celery<5.4",
                "click<8.2",
                "dulwich<1",
                "numpy<2",
                "pandas<2.2",
                "pathspec<1",
                "pygit2<1.15",
            ],
            ["dask4dvc", "dvc", "distributed"],
            formats.dvc,
            # Its last step is for a worker whose folder is that of the repo.
            lambda _: [["dask4dvc", "repro"]],
            note="starts a Dask cluster with a worker for each core; an experiment for "
            "each stage, and then all stages once more, one after the other",
            has_params=True,
        ),
        Tool(
            "dvx",
            "dvx",
            ["dvx"],
            ["dvx", "dvc"],
            formats.dvx,
            # Without that, what is upstream of a fresh output is not looked at.
            lambda jobs: [["dvx", "run", "--no-prune-fresh", "-j", str(jobs)]],
            note="hashes outputs and puts them into DVC's cache, but runs a "
            "command again whose output was removed, and does not notice a "
            "changed command; a .dvc file for each output, no dvc.yaml or "
            "dvc.lock; level by level",
        ),
        Tool(
            "snakemake",
            "snakemake",
            ["snakemake"],
            ["snakemake"],
            formats.snakemake,
            lambda jobs: [["snakemake", "--cores", str(jobs)]],
            note="no cache to restore from; does not notice an edited output; "
            "small files by checksum, large ones by time; after a kill it has "
            "to be unlocked by hand",
        ),
        Tool(
            "doit",
            "doit",
            ["doit"],
            ["doit"],
            formats.doit,
            lambda jobs: [["doit", "run", "-n", str(jobs)]],
            note="no cache to restore from; does not notice a changed command or "
            "an edited output; what it ran is lost when it is killed, and "
            "runs again",
        ),
        Tool(
            "ninja",
            "ninja",
            ["ninja"],
            ["ninja"],
            formats.ninja,
            lambda jobs: [["ninja", f"-j{jobs}"]],
            note="no cache to restore from; compares times, so that an edited "
            "output passes for new and a touched input runs all again",
        ),
        Tool(
            "pytask",
            "pytask",
            ["pytask-parallel"],
            ["pytask", "pytask-parallel"],
            formats.pytask,
            lambda jobs: [["pytask", "-n", str(jobs)]],
            note="no cache to restore from; hashes are kept in a database",
        ),
        Tool(
            "pivot",
            "pivot",
            ["pivot>=0.5"],
            ["pivot"],
            formats.pivot,
            lambda jobs: [["pivot", "repro", "--resources", f"cpu={jobs}"]],
            python="3.13",
            note="stages are Python functions (here each starts a shell), whose "
            "return values it keeps in a cache and restores; files that "
            "commands write are not its business; a lock file for each stage, "
            "not DVC's; Python 3.13 only",
        ),
        Tool(
            "luigi",
            "python",
            ["luigi"],
            ["luigi"],
            formats.luigi,
            lambda jobs: [
                [
                    *("python", "-m", "luigi", "--module", "luigi_workload", "All"),
                    *("--local-scheduler", "--log-level", "WARNING"),
                    *("--workers", str(jobs)),
                ]
            ],
            note="stale by design: a task is done when its output exists, whatever "
            "has changed; no hashes, no cache to restore from",
        ),
        Tool(
            "stepup",
            "stepup",
            ["stepup>=4"],
            ["stepup"],
            formats.stepup,
            lambda jobs: [["stepup", "build", "--jobs", str(jobs)]],
            note="no cache to restore from: a command runs again whose output was "
            "removed or edited; hashes are kept in a database",
        ),
        Tool(
            "make",
            "make",
            [],
            [],
            formats.make,
            lambda jobs: [["make", f"-j{jobs}"]],
            note="no cache to restore from; compares times as ninja does, and does "
            "not notice a changed command either",
        ),
        Tool(
            "airflow",
            "python",
            ["apache-airflow>=3.3"],
            ["apache-airflow"],
            formats.airflow,
            lambda _: [["python", "trigger.py"]],
            servers=orchestrators.airflow,
            note="runs all of it each time; LocalExecutor and SQLite; from the trigger "
            "to the end of the DAG run, with a scheduler and an API server that are "
            "there already, whose CPU time is not counted",
            has_memory=False,
        ),
        Tool(
            "prefect",
            "python",
            ["prefect>=3.9"],
            ["prefect"],
            formats.prefect,
            lambda jobs: [["python", "prefect_workload.py", str(jobs)]],
            servers=orchestrators.prefect,
            note="runs all of it each time by default; ThreadPoolTaskRunner, with a "
            "server that is there already, whose CPU time is not counted",
            has_memory=False,
        ),
        Tool(
            "dagster",
            "dagster",
            ["dagster>=1.13"],
            ["dagster"],
            formats.dagster,
            lambda _: [["dagster", "job", "execute", "-m", "dagster_workload"]],
            servers=orchestrators.dagster,
            note="runs all of it each time; multiprocess executor with a fork server, "
            "whose CPU time is not counted; no server",
            has_memory=False,
        ),
    ]
    return {tool.name: tool for tool in known}
