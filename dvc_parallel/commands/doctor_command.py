"""``dvc-parallel doctor``: is everything in place, and what is in force?"""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dvc
from dvc.config import Config, ConfigError
from dvc.ui import ui

from dvc_parallel import __version__
from dvc_parallel.backport import hook, seams
from dvc_parallel.backport.config import OPTIONS, TEAMMATES
from dvc_parallel.engine import job_count
from dvc_parallel.engine.terminal import escaping_streams
from dvc_parallel.remote import choose_runner
from dvc_parallel.reporting.output_settings import NOTIFY_IGNORED, NOTIFY_OPTION
from dvc_parallel.scheduling import pools
from dvc_parallel.scheduling.auto_pools import machine_sizes

from .parsers import CommandParser, add_switch
from .shown import write

# Options of `dvc config` whose names differ from those of the levels.
FLAGS = {"repo": "project"}

# Seams by the runs that they are in.
GROUPS = (
    ("all", (*seams.IN_LOADING, *seams.IN_RUNS)),
    ("parallel", seams.IN_JOBS),
    ("planned", seams.IN_DRY_RUNS),
)

# Whether a plain `dvc` gets the hook, as a new interpreter sees it.
CHECK_PTH = f"""
import sys
found = [getattr(finder, '__name__', '') for finder in sys.meta_path]
sys.exit({hook.PTH!r} not in found)
"""


DESCRIPTION = """\
Check the installation and the settings in force. The exit status is 1 if something is
wrong.
"""


@dataclass
class Diagnosis:
    """What is wrong, what is in force, and details for whoever looks into it."""

    problems: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)


def main(argv: list[str]) -> int:
    """Print whether everything is in place, and what is in force."""
    args = make_parser().parse_args(argv)
    if not args.quiet:
        ui.enable()
    found = Diagnosis()
    with escaping_streams():
        _versions(found)
        _check_hook(found)
        _check_settings(found)
        if hook.own_jobs:
            verdict = f"dvc-parallel does nothing here: {hook.unsupported}"
        else:
            verdict = "Everything is in place."
        problems = [f"problem: {problem}" for problem in found.problems]
        write("\n".join(problems or [verdict]))
        write("\n".join(["", *found.facts]))
        if args.verbose:
            write("\n".join(["", *found.details]))
        else:
            write("\nUse --verbose for paths and for what is patched in DVC.")
    return 1 if problems else 0


def make_parser() -> CommandParser:
    parser = CommandParser("dvc-parallel doctor", description=DESCRIPTION)
    levels = parser.add_mutually_exclusive_group()
    add_switch(levels, "-q", "--quiet", text="Show nothing; see the exit status.")
    add_switch(levels, "-v", "--verbose", text="Show paths and patched functions.")
    return parser


def _versions(found: Diagnosis) -> None:
    python = sys.version.split()[0]
    found.facts.append(
        f"dvc-parallel {__version__}, DVC {dvc.__version__}, Python {python}"
    )
    found.details += [
        f"dvc-parallel: {Path(__file__).parents[1]}",
        f"DVC: {Path(dvc.__file__).parent}",
        f"Python: {sys.prefix}",
    ]


def _check_hook(found: Diagnosis) -> None:
    flags = ["-S"] if sys.flags.no_site else []
    command = [sys.executable, *flags, "-c", CHECK_PTH]
    plain = subprocess.run(command, check=False)  # noqa: S603
    found.details.append(f"hook in plain `dvc`: {'no' if plain.returncode else 'yes'}")
    if plain.returncode:
        found.problems.append(
            "`dvc` does not have the option, as this Python does not read "
            "dvc_parallel.pth; use `dvc-parallel repro -j` instead"
        )
    if hook.own_jobs:
        return
    found.problems += filter(None, (hook.unsupported, hook.problem))
    if hook.unsupported:
        return

    for seam in seams.present(seams.IN_DVC):
        found.details.append(f"patched: {seam}")
        misfit = seam.misfit()
        if misfit or not seam.installed:
            found.problems.append(misfit or f"{seam} is not patched")
    for when, group in GROUPS:
        for seam in seams.present(group):
            found.details.append(f"patched: {seam} (in {when} runs)")
        found.problems += seams.misfits(group)


def _check_settings(found: Diagnosis) -> None:
    try:
        config = Config.from_cwd(validate=False)
        levels = {
            config.files[level]: (level, config.load_one(level).get("core", {}))
            for level in config.LEVELS
            if level in config.files
        }
    except ConfigError as exc:
        found.problems.append(str(exc))
        return

    settings = _settings(levels, found)
    for name, option, env, flag, meaning in (
        ("jobs", job_count.CONFIG_OPTION, None, "-j", _jobs),
        ("pools", pools.CONFIG_OPTION, pools.ENV, None, _pools),
        ("runner", choose_runner.CONFIG_OPTION, choose_runner.ENV, "--runner", _runner),
    ):
        if env and env in os.environ:
            settings[option] = os.environ[env], env
        if option not in settings:
            continue
        value, source = settings[option]
        try:
            text = meaning(value)
        except ValueError as exc:
            found.problems.append(f"{name} from {source}: {exc}")
            continue
        overrides = f"; `dvc repro {flag}` overrides it" if flag else ""
        found.facts.append(f"{name}: {text} from {source}{overrides}")
    if job_count.CONFIG_OPTION not in settings:
        found.facts.append("jobs: 1 (default); `dvc repro -j` overrides it")


def _settings(
    levels: dict[str, tuple[str, dict]], found: Diagnosis
) -> dict[str, tuple[str, str]]:
    """Our options in config files, each with the file that has the last word.

    Args:
        levels: for each file, its level and its section "core".
    """
    settings = {}
    for option in OPTIONS:
        for path, (level, core) in levels.items():
            if option in core:
                settings[option] = core[option], path
                found.facts.append(
                    f"core.{option} is set in {path}; before you remove dvc-parallel: "
                    f"`dvc config --{FLAGS.get(level, level)} --unset core.{option}`"
                )
    by_level = dict(levels.values())
    if "repo" not in by_level:
        found.facts.append(
            "Not in a DVC repo: only global and system settings were checked."
        )
    elif shared := [f"'core.{name}'" for name in OPTIONS if name in by_level["repo"]]:
        found.facts.append(f"warning: {TEAMMATES.format(', '.join(shared))}")
        if NOTIFY_OPTION in by_level["repo"]:
            found.problems.append(NOTIFY_IGNORED.format(".dvc/config"))
    return settings


def _jobs(setting: Any) -> str:
    count = job_count.count_jobs(setting)
    return f"{count}" if str(count) == str(setting) else f"{count} ({setting})"


def _pools(text: str) -> str:
    return pools.format_pools(pools.parse_pools(text, machine_sizes)) or "none"


def _runner(name: str) -> str:
    choose_runner.parse_runner(name)
    if choose_runner.needs_dask(name) and find_spec("distributed") is None:
        raise ValueError(f"'{name}' {choose_runner.NEEDS_DASK}")
    return name
