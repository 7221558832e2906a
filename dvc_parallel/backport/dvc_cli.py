"""The command line of DVC: options of ``repro``, and a word on ``config``."""

from argparse import SUPPRESS
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from dvc_parallel.engine import logger
from dvc_parallel.engine.job_count import CONFIG_OPTION, add_argument, count_jobs
from dvc_parallel.engine.settings import argument_type
from dvc_parallel.remote import choose_runner
from dvc_parallel.reporting.output_settings import (
    NOTIFY_IGNORED,
    NOTIFY_OPTION,
    OUTPUT_MODES,
)
from dvc_parallel.scheduling.load import parse_load

from .config import OPTIONS, TEAMMATES

if TYPE_CHECKING:
    from dvc.commands.config import CmdConfig
    from dvc.commands.repro import CmdRepro


def add_parser(original: Callable, subparsers, parent_parser) -> None:
    """``dvc.commands.repro.add_parser``: the parser of ``dvc repro``.

    ``dvc exp run`` shares the other options but has a ``--jobs`` of its own.
    """
    original(subparsers, parent_parser)
    parser = subparsers.choices["repro"]
    add_argument(parser)
    parser.add_argument(
        "-l",
        "--load-average",
        type=argument_type(parse_load),
        help=(
            "Start no stage while others are running and the load average is at least "
            "this number."
        ),
        metavar="<number>",
    )
    parser.add_argument(
        "--output",
        choices=OUTPUT_MODES,
        help=(
            "How to show the output of stages that run simultaneously: each line as "
            "it comes, after the name of its stage ('prefixed'), all lines of a stage "
            "when it ends ('grouped'), only those of failed stages ('failed'), or "
            "nothing ('none'). 'auto' is 'grouped' in GitHub Actions and GitLab CI, "
            "and 'prefixed' elsewhere. The default value is 'core.parallel_output' of "
            "the config, or 'auto'."
        ),
    )
    parser.add_argument(
        "--runner",
        type=argument_type(choose_runner.parse_runner),
        help=(
            "Where to run commands: 'local', 'slurm' for Slurm jobs, 'dask' for a Dask "
            "cluster on this machine, 'dask://host:port' or 'tls://host:port' for a "
            "Dask scheduler, 'dask:module.function' for a function that returns a Dask "
            "cluster, or 'name:address' for a runner from another package. The "
            "default value is 'core.parallel_runner' of the config, or 'local'."
        ),
        metavar="<runner>",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        default=None,
        help=(
            "With the runner 'slurm': Ctrl-C ends DVC alone, and jobs go on. The next "
            "'dvc repro --runner slurm' takes them up."
        ),
    )
    parser.add_argument(
        "--push",
        action="store_true",
        default=None,
        help=(
            "Upload what stages make to the remote, as 'dvc push' does, each as soon "
            "as it is recorded. The default value is "
            "'core.parallel_push' of the config, or false."
        ),
    )


def install_refusal(module: Any, reason: str) -> None:
    """Let ``dvc repro --jobs`` say why there is none."""
    original = module.add_parser

    def refuse(_value: str) -> None:
        raise ValueError(reason)

    def add_parser(subparsers, parent_parser) -> None:
        original(subparsers, parent_parser)
        parser = subparsers.choices["repro"]
        parser.add_argument("-j", "--jobs", type=argument_type(refuse), help=SUPPRESS)

    module.add_parser = add_parser


def repro_kwargs(original: Callable, cmd: "CmdRepro") -> dict[str, Any]:
    """``CmdRepro._repro_kwargs``: arguments for ``Repo.reproduce``."""
    kwargs = original(cmd)
    # NOTE: commands that share the options of DVC's may not have all of ours
    names = ("jobs", "load_average", "output", "runner", "detach", "push")
    ours = {name: getattr(cmd.args, name, None) for name in names}
    kwargs.update((name, value) for name, value in ours.items() if value is not None)
    _be_patient(cmd, kwargs.get("jobs"), kwargs.get("runner"))
    return kwargs


def _be_patient(
    cmd: "CmdRepro", jobs: Union[int, str, None], runner: Optional[str]
) -> None:
    """Let a parallel run wait for the repo lock for as long as it takes."""
    from dvc_parallel.engine.lock_wait import PatientLock

    config = cmd.repo.config["core"]
    if jobs is None:
        jobs = config.get(CONFIG_OPTION, 1)
    with suppress(ValueError):  # the run says what is wrong
        if (
            choose_runner.setting(runner, config)[1] != choose_runner.LOCAL
            or count_jobs(jobs) > 1
        ):
            cmd.repo.lock = PatientLock(cmd.repo)


def run_config(original: Callable, cmd: "CmdConfig") -> int:
    """``CmdConfig.run``: warn of what a committed option does to teammates."""
    ret = original(cmd)
    args = cmd.args
    wrote = ret == 0 and args.value is not None and not args.unset
    if (
        wrote
        and args.level in (None, "repo")
        and args.name[1] == "core"
        and args.name[2] in OPTIONS
    ):
        logger.warning(TEAMMATES.format(f"'core.{args.name[2]}'"))
        if args.name[2] == NOTIFY_OPTION:
            logger.warning(NOTIFY_IGNORED.format(".dvc/config"))
    return ret
