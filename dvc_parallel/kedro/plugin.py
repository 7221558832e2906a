"""The commands ``kedro dvc update`` and ``kedro dvc run``.

Kedro loads this module with each of its commands, so it imports nothing but what it has
imported itself.  ``dvc_parallel.pth`` loads it a little earlier: when Kedro is about to
configure its logging, which it does before it looks for plugins.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any, Callable, Optional

import click

from . import KedroError

if sys.argv[1:3] == ["dvc", "run"]:
    # NOTE: Kedro's telemetry would send something for each stage, and several at a time
    # would write its ID into pyproject.toml
    os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")


def _no_logging(kind: type, exc: BaseException, traceback: Any) -> None:
    if not isinstance(exc, Exception):  # such as Ctrl-C
        sys.__excepthook__(kind, exc, traceback)
        return
    from .project import in_one_line

    sys.stderr.write(
        "ERROR: Kedro cannot configure its logging (conf/logging.yml, or "
        f"KEDRO_LOGGING_CONFIG): {in_one_line(exc, Path.cwd())}\n"
    )


if sys.argv[1:2] == ["dvc"]:
    # NOTE: where the logging is configured; rich would wrap it at 80 columns
    logging.getLogger("kedro.framework.project").addFilter(
        lambda record: record.levelno > logging.INFO
    )
    sys.excepthook = _no_logging


def init() -> None:
    """Load the project, so that an error of its own code is one line.

    Kedro calls this when it starts. It would show a traceback.
    """
    if sys.excepthook is _no_logging:
        sys.excepthook = sys.__excepthook__
    if sys.argv[1:3] in (["dvc", "run"], ["dvc", "update"]):
        from .project import load

        _in_one_line(load)


@click.group(name="dvc commands")
def commands() -> None:
    """Commands of dvc-parallel."""


@commands.group(name="dvc")
def dvc() -> None:
    """Run the pipelines of this project as stages of DVC."""


@dvc.command(name="update")
@click.option(
    "--pipeline",
    "-p",
    "pipelines",
    multiple=True,
    metavar="NAME",
    help="A pipeline to have in DVC, and maybe more; default: __default__.",
)
@click.option("--env", "-e", metavar="ENV", help="Environment of the configuration.")
@click.option(
    "--group-by",
    type=click.Choice(["none", "memory", "namespace"]),
    help="What is one stage: a node, nodes that share memory, or a namespace.",
)
@click.option("--check", is_flag=True, help="Print what would change; exit with 1.")
@click.option("--add", is_flag=True, help="Have DVC track inputs that nothing tracks.")
def update_command(
    pipelines: tuple,
    env: Optional[str],
    group_by: Optional[str],
    check: bool,
    add: bool,
) -> None:
    """Write the nodes of pipelines into dvc.yaml, one stage each.

    Options hold for later updates, too.
    """
    from .update import update

    _in_one_line(update, pipelines, env, group_by, check, add)


@dvc.command(name="run")
@click.argument("stage")
@click.option("--env", "-e", metavar="ENV", help="Environment of the configuration.")
def run_command(stage: str, env: Optional[str]) -> None:
    """Run the nodes of a stage; this is what stages do."""
    from .node_run import run

    _in_one_line(run, stage, env)


def _in_one_line(function: Callable, *args: Any) -> None:
    try:
        function(*args)
    except KedroError as exc:
        sys.stdout.flush()
        sys.stderr.write(f"ERROR: {exc}\n")
        sys.exit(1)
