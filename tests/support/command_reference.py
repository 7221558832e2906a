"""``docs/commands.md``, made from the parsers.

python -m tests.support.command_reference [FILE]
"""

import re
import sys
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path

from dvc_parallel.backport.config import OPTIONS
from dvc_parallel.commands import cli, doctor_command, merge_driver, parsers
from dvc_parallel.engine import job_count
from dvc_parallel.engine.settings import PUSH_OPTION
from dvc_parallel.remote import choose_runner
from dvc_parallel.reporting import output_settings
from dvc_parallel.scheduling import pools, resources, slurm_options
from tests.support.docs import ROOT

HEAD = """\
# Command reference

What dvc-parallel adds to `dvc repro`, its own commands, and its settings. All
commands also take `-h`, `-q` and `-v`, as those of DVC do. This page is made by
`python -m tests.support.command_reference` from the command line itself.
"""

# What each setting is: environment variable or "", default, meaning.
SETTINGS = {
    job_count.CONFIG_OPTION: (
        "",
        "`1`",
        "number of jobs, or `auto`; also for `dvc exp run`",
    ),
    output_settings.OUTPUT_OPTION: (
        "",
        "`auto`",
        "how to show the output of stages ([runs.md](runs.md#the-output-of-stages))",
    ),
    pools.CONFIG_OPTION: (
        pools.ENV,
        "every pool has size 1",
        "sizes of pools, such as `gpu=0,1 mem=64`, or `auto` ([pools.md](pools.md))",
    ),
    choose_runner.CONFIG_OPTION: (
        choose_runner.ENV,
        f"`{choose_runner.LOCAL}`",
        "where commands run ([cluster.md](cluster.md))",
    ),
    slurm_options.CONFIG_OPTION: (
        slurm_options.ENV,
        "nothing",
        "what to ask Slurm for, for all stages ([cluster.md](cluster.md#slurm-jobs))",
    ),
    PUSH_OPTION: (
        "",
        "`false`",
        "upload what stages make ([teams.md](teams.md#push-while-stages-run))",
    ),
    output_settings.LOG_OPTION: (
        output_settings.LOG_ENV,
        "`64M`",
        "how much of the output of one stage to keep "
        "([runs.md](runs.md#how-much-is-kept))",
    ),
    output_settings.RUNS_OPTION: (
        output_settings.RUNS_ENV,
        "`1G`",
        "how much of all runs to keep",
    ),
    output_settings.NOTIFY_OPTION: (
        output_settings.NOTIFY_ENV,
        "none",
        "a command that is told how each run ended ([notify.md](notify.md))",
    ),
}


def text() -> str:
    """The page."""
    parsers = cli.commands(cli.main_parser())
    repro = parsers["repro"]
    ours = [
        a
        for a in repro._actions
        if a.dest in ("load_average", "output", "runner", "push")
    ]
    jobs = [a for a in repro._actions if a.dest == "jobs"]
    lines = [HEAD, "## `dvc repro`", "", *_table([*jobs, *ours]), ""]
    known = {action.dest for action in repro._actions}
    for name in sorted(cli.OWN):
        lines += _command(parsers[name], known if name == "plan" else set())
    lines += _command(doctor_command.make_parser(), set())
    lines += _command(merge_driver.make_parser(), set())
    lines += [
        "## `dvc-parallel COMMAND`",
        "",
        "All other commands are those of `dvc`, with the same arguments: "
        "`dvc-parallel repro -j 4`. `dvc-parallel repro --watch` runs again whenever "
        "something has changed ([guide.md](guide.md#run-again-on-each-change)).",
        "",
        "## Settings",
        "",
        "The environment variable overrides the config, and an option overrides both.",
        "",
        "| `dvc config` | environment | default | |",
        "|---|---|---|---|",
    ]
    for option in OPTIONS:
        env, default, meaning = SETTINGS[option]
        lines.append(f"| `core.{option}` | {_code(env)} | {default} | {meaning} |")
    jobserver = "`1`: share jobs with make, ninja and cargo"
    lines.append(
        f"| | `{resources.JOBSERVER_ENV}` | `0` | {jobserver} "
        "([pools.md](pools.md#stages-that-run-make-ninja-or-cargo)) |"
    )
    return "\n".join(lines) + "\n"


def _command(parser: ArgumentParser, known: Iterable[str]) -> Iterator[str]:
    """A section on a command; options that ``dvc repro`` has too are only named."""
    actions = [
        action
        for action in parser._actions
        if action.help != SUPPRESS and action.dest not in ("help", "quiet", "verbose")
    ]
    positional = [action for action in actions if not action.option_strings]
    marks = {"*": "[{} ...]", "?": "[{}]"}
    places = [marks.get(str(a.nargs), "{}").format(a.dest) for a in positional]
    own = [action for action in actions if action.dest not in known]
    yield from (f"## `{' '.join([parser.prog, '[options]', *places])}`", "")
    yield from (_sentences(parser.description or ""), "")
    yield from _table(own)
    if own:
        yield ""
    shared = [a for a in actions if a not in own and a.option_strings]
    used = [a.option_strings[0] for a in shared if a.help != parsers.NO_EFFECT]
    rest = [a.option_strings[0] for a in shared if a.help == parsers.NO_EFFECT]
    if used:
        yield f"And, as for `dvc repro`: {', '.join(map(_code, used))}."
    if rest:
        yield f"Accepted, but without an effect: {', '.join(map(_code, rest))}."
    if shared:
        yield ""


def _table(actions: Iterable[Action]) -> Iterator[str]:
    rows = [
        f"| {_names(action)} | {_sentences(action.help or '')} |" for action in actions
    ]
    if rows:
        yield from ("| option | |", "|---|---|", *rows)


def _names(action: Action) -> str:
    value = ""
    if action.choices:
        value = f" {'/'.join(map(str, action.choices))}"
    elif action.nargs != 0 and action.option_strings:
        value = f" {action.metavar or action.dest}"
    names = action.option_strings or [action.metavar or action.dest]
    return ", ".join(_code(f"{name}{value}") for name in names)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _sentences(text: str) -> str:
    """A help text in one line of markdown: what is in quotes there is code here."""
    text = re.sub(r"\s+", " ", text.replace("%%", "%")).strip()
    return re.sub(r"'([^' ]+)'", r"`\1`", text).replace("|", "\\|")


if __name__ == "__main__":
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/commands.md"
    page.write_text(text())
