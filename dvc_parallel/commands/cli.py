"""``dvc-parallel``, and ``python -m dvc_parallel``."""

import os
import sys
from typing import Optional

from dvc_parallel import __version__

USAGE = """\
usage: dvc-parallel repro ...   the same as `dvc repro ...`, with --jobs; so is
                                any other command of dvc
       dvc-parallel plan        what would run, why, and how long it takes
       dvc-parallel logs        what the stages of a run printed, and how they stand
       dvc-parallel report      a run as a page, or as a trace: what took so long
       dvc-parallel validate    which stages are not reproducible
       dvc-parallel doctor      tell whether everything is in place
       dvc-parallel --version

`dvc-parallel logs --help` tells more of it; so does that of any other command.
"""

# Commands of our own that go through DVC's command line.
OWN = frozenset({"logs", "plan", "report", "validate"})


def main(argv: Optional[list[str]] = None) -> int:
    """Run a command of our own, or one of DVC's with the hook in place.

    Returns:
        int: exit status; that of ``dvc`` for its commands.
    """
    argv = sys.argv[1:] if argv is None else argv
    command = argv[0] if argv else "--help"
    if command in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    if command == "--version":
        sys.stdout.write(f"{__version__}\n")
        return 0

    # NOTE: where .pth files are not read, this is what installs the hook
    from dvc_parallel.backport import hook

    if reason := hook.stranger():
        sys.stderr.write(f"ERROR: {reason}\n")
        return 1
    if command == "doctor":
        from .doctor_command import main as doctor

        return doctor(hook)

    from dvc.cli import main as dvc

    own = _command(argv) in OWN
    reason = hook.unsupported or hook.problem
    if reason is None:
        add_to_dvc()
    elif own:
        sys.stderr.write(f"ERROR: {reason}\n")
        return 1
    if own:
        # NOTE: DVC's authors have nothing to learn from them
        os.environ["DVC_NO_ANALYTICS"] = "true"
    return dvc(argv)


def _command(argv: list[str]) -> Optional[str]:
    """The command among arguments for DVC."""
    words = iter(argv)
    for word in words:
        if word == "--cd":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def add_to_dvc() -> None:
    """Let ``dvc.cli.main`` of this process have our commands, as ``dvc-parallel``."""
    from dvc.cli import parser as cli

    from . import logs_command, plan_command, report_command, validate_command

    cli.COMMANDS += [logs_command, plan_command, report_command, validate_command]
    parser = cli.get_main_parser()
    parser.prog = "dvc-parallel"
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for name, subparser in action.choices.items():
                subparser.prog = f"{parser.prog} {name}"
