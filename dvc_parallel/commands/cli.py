"""``dvc-parallel``, and ``python -m dvc_parallel``."""

import os
import sys
from argparse import ArgumentParser
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from typing import Callable, Optional

from dvc_parallel import __version__

USAGE = """\
usage: dvc-parallel COMMAND ...

commands:
  deps          find what stages import, or read and write, but do not declare
  plan          show what would run, why, and how long it would take
  pools         show the pools, and which stages take them
  logs          show the outcome and the output of the stages of a run
  watch         show a run of another terminal as it goes on
  report        show a run as a page: what ran when, and what took so long
  validate      find stages that are not reproducible
  doctor        check the installation and the settings in force
  merge-driver  have git merge dvc.lock by its entries
  completion    print what completes commands in a shell, as `dvc completion` does
  repro         the same as `dvc repro`, with -j; so is any other command of `dvc`;
                --watch runs it again whenever something has changed

options:
  -h, --help     show this help message and exit
  -V, --version  show the version of dvc-parallel and exit

Run `dvc-parallel COMMAND --help` for details.
"""

# What is shown for options that stand for a command.
_ANSWERS = {
    **dict.fromkeys(["-h", "--help"], USAGE),
    **dict.fromkeys(["-V", "--version"], f"{__version__}\n"),
}

# Commands of our own that go through DVC's command line, as in parsers.py.
OWN = ("deps", "logs", "plan", "pools", "report", "validate", "watch")

# Those that do without it, and their modules.
ALONE = {"doctor": "doctor_command", "merge-driver": "merge_driver"}


def main(argv: Optional[list[str]] = None) -> int:
    """Run a command of our own, or one of DVC's with the hook in place.

    Returns:
        int: exit status; that of ``dvc`` for its commands.
    """
    argv = sys.argv[1:] if argv is None else argv
    first = argv[0] if argv else "--help"
    if first in _ANSWERS:
        sys.stdout.write(_ANSWERS[first])
        return 0
    command = _command(argv)
    if not command:
        # NOTE: of an unknown option, DVC would say that there is no command
        return _fail(f"expected a command, got '{' '.join(argv)}'\n{USAGE}", 254)

    # NOTE: where .pth files are not read, this is what installs the hook
    from dvc_parallel.backport import hook

    if reason := hook.stranger():
        return _fail(reason)
    if command in ALONE:
        place = argv.index(command)
        module = import_module(f".{ALONE[command]}", __package__)
        return module.main([*argv[:place], *argv[place + 1 :]])

    from dvc.cli import main as dvc

    own = command in OWN
    problem, status = hook.unsupported or hook.problem, 1
    if problem is None:
        problem, status = _unknown(command), 254
    elif not own:
        problem = None
    if problem:
        return _fail(problem, status)
    if own:
        # NOTE: DVC's authors have nothing to learn from them
        os.environ["DVC_NO_ANALYTICS"] = "true"
    return _repro(argv, dvc) if command == "repro" else dvc(argv)


def _repro(argv: list[str], dvc: Callable[[list[str]], int]) -> int:
    from dvc.cli import DvcParserError
    from dvc.exceptions import DvcException, NotDvcRepoError

    from . import repro_watch

    rest, watches = repro_watch.split_option(argv)
    if not watches:
        return dvc(argv)
    try:
        return repro_watch.main(rest, main_parser().parse_args(argv))
    except DvcParserError:
        return 254
    except DvcException as exc:
        return _fail(str(exc), 253 if isinstance(exc, NotDvcRepoError) else 255)


def _fail(text: str, status: int = 1) -> int:
    sys.stderr.write(f"ERROR: {text.rstrip()}\n")
    return status


def _unknown(command: str) -> Optional[str]:
    """What is wrong with a command that neither we nor DVC have."""
    from dvc_parallel.engine.terminal import visible

    known = commands(main_parser())
    if command in known:
        return None
    similar = get_close_matches(command, known, n=1)
    hint = f"; did you mean '{similar[0]}'?" if similar else "."
    return f"unknown command '{visible(command)}'{hint} See `dvc-parallel --help`"


def commands(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    """The parsers of the commands of a parser."""
    (choices,) = [
        action.choices for action in parser._actions if isinstance(action.choices, dict)
    ]
    return choices


def _command(argv: list[str]) -> str:
    """The command among arguments for DVC; empty if there is none."""
    words = iter(argv)
    for word in words:
        if word == "--cd":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


@lru_cache(maxsize=1)
def main_parser() -> ArgumentParser:
    """The parser of ``dvc.cli.main`` in this process, with our commands from now on."""
    from dvc.cli import parser as cli

    from . import parsers, repro_watch

    cli.COMMANDS.append(parsers)
    parser = cli.get_main_parser()
    parser.prog = "dvc-parallel"
    repro = commands(parser)["repro"]
    parsers.add_switch(repro, repro_watch.OPTION, text=repro_watch.HELP)
    for name, subparser in commands(parser).items():
        subparser.prog = f"{parser.prog} {name}"
    return parser
