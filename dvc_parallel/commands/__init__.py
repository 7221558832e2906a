"""Commands of ``dvc-parallel`` that DVC does not have.

Each is a module with an ``add_parser`` like those of ``dvc.commands``, and goes through
``dvc.cli``: errors, ``-q``, ``-v``, ``--cd`` and completion are DVC's.
"""

from types import ModuleType

from . import logs_command, plan_command, report_command, validate_command

COMMANDS: tuple[ModuleType, ...] = (
    logs_command,
    plan_command,
    report_command,
    validate_command,
)


def add_to_dvc() -> None:
    """Let ``dvc.cli.main`` of this process have them, as ``dvc-parallel``."""
    from dvc.cli import parser as cli

    cli.COMMANDS.extend(COMMANDS)
    parser = cli.get_main_parser()
    parser.prog = "dvc-parallel"
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for name, subparser in action.choices.items():
                subparser.prog = f"{parser.prog} {name}"
