"""``dvc-parallel doctor``: is everything in place, and what is in force?"""

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import dvc
from dvc.config import Config, ConfigError
from dvc.ui import ui

from dvc_parallel import __version__
from dvc_parallel.backport import seams
from dvc_parallel.backport.config import OPTIONS
from dvc_parallel.backport.hook import PTH
from dvc_parallel.engine import job_count
from dvc_parallel.engine.terminal import escaping_streams, visible
from dvc_parallel.remote import choose_runner
from dvc_parallel.scheduling import pools

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
sys.exit({PTH!r} not in [getattr(finder, '__name__', '') for finder in sys.meta_path])
"""


def main(hook: Any) -> int:
    """Print what is installed and set, and what is wrong with it.

    Args:
        hook: the hook's module.

    Returns:
        int: exit status, 1 when something is wrong.
    """
    ui.enable()
    with escaping_streams():
        problems = list(_report(hook))
        for problem in problems:
            _write("problem:", problem)
        if not problems:
            _write("Everything is in place.")
    return 1 if problems else 0


def _write(*words: str) -> None:
    ui.write(*(visible(word, lines=True) for word in words))


def _report(hook: Any):
    _write("DVC:", dvc.__version__, "in", os.path.dirname(dvc.__file__))
    _write("dvc-parallel:", __version__)
    _write("Python:", sys.version.split()[0], "in", sys.prefix)
    yield from _hook_problems(hook)
    yield from _settings()


def _hook_problems(hook: Any):
    flags = ["-S"] if sys.flags.no_site else []
    command = [sys.executable, *flags, "-c", CHECK_PTH]
    plain = subprocess.run(command, check=False)  # noqa: S603
    _write("hook in plain `dvc`:", "no" if plain.returncode else "yes")
    if plain.returncode:
        yield (
            "`dvc` does not get the hook, as this Python does not read "
            "dvc_parallel.pth; use `dvc-parallel repro --jobs` instead"
        )
    if hook.own_jobs:
        _write(f"dvc-parallel does nothing here: {hook.unsupported}")
        return
    yield from filter(None, (hook.unsupported, hook.problem))
    if hook.unsupported:
        return

    for seam in seams.present(seams.IN_DVC):
        _write(f"seam: {seam}")
        misfit = seam.misfit()
        if misfit or not seam.installed:
            yield misfit or f"{seam} is not patched"
    for when, group in GROUPS:
        for seam in seams.present(group):
            _write(f"seam: {seam} (in {when} runs)")
        yield from seams.misfits(group)


def _settings():
    try:
        config = Config.from_cwd(validate=False)
        levels = {
            config.files[level]: (level, config.load_one(level).get("core", {}))
            for level in config.LEVELS
            if level in config.files
        }
    except ConfigError as exc:
        yield str(exc)
        return

    settings = {}
    for option in OPTIONS:
        for path, (level, core) in levels.items():
            if option in core:
                settings[option] = core[option], path
                _write(
                    f"core.{option} is set in {path}; before you remove dvc-parallel: "
                    f"`dvc config --{FLAGS.get(level, level)} --unset core.{option}`"
                )
    yield from _jobs(*settings.get(job_count.CONFIG_OPTION, (1, "the default")))
    if pools.ENV in os.environ:
        settings[pools.CONFIG_OPTION] = os.environ[pools.ENV], pools.ENV
    yield from _pools(*settings.get(pools.CONFIG_OPTION, ("", "the default")))
    if choose_runner.ENV in os.environ:
        settings[choose_runner.CONFIG_OPTION] = (
            os.environ[choose_runner.ENV],
            choose_runner.ENV,
        )
    if choose_runner.CONFIG_OPTION in settings:
        yield from _runner(*settings[choose_runner.CONFIG_OPTION])


def _jobs(setting: Any, source: str):
    try:
        count = job_count.count_jobs(setting)
    except ValueError as exc:
        yield f"core.{job_count.CONFIG_OPTION} in {source}: {exc}"
        return
    meaning = "" if str(count) == str(setting) else f" ({setting})"
    _write(f"jobs: {count}{meaning} from {source}; `dvc repro --jobs` wins over it")


def _runner(name: str, source: str):
    try:
        choose_runner.parse_runner(name)
    except ValueError as exc:
        yield f"runner from {source}: {exc}"
        return
    _write(f"runner: {name} from {source}; `dvc repro --runner` wins over it")
    if choose_runner.needs_dask(name) and find_spec("distributed") is None:
        needed = f"pip install '{choose_runner.EXTRA}'"
        yield f"runner '{name}' needs dask.distributed: {needed}"


def _pools(text: str, source: str):
    try:
        sizes = pools.parse_pools(text)
    except ValueError as exc:
        yield f"pools from {source}: {exc}"
        return
    if sizes:
        _write(f"pools: {pools.format_pools(sizes)} from {source}")
