"""The options ``core.parallel_*``."""

from typing import Any, Callable

from voluptuous import Invalid

from dvc_parallel.engine import job_count
from dvc_parallel.engine.settings import PUSH_OPTION, parse_switch
from dvc_parallel.remote import choose_runner
from dvc_parallel.reporting import output_settings
from dvc_parallel.scheduling import pools, slurm_options

# What raises a ValueError for a value that an option cannot have.
OPTIONS: dict[str, Callable[[str], Any]] = {
    job_count.CONFIG_OPTION: job_count.parse_jobs,
    output_settings.OUTPUT_OPTION: output_settings.parse_output,
    pools.CONFIG_OPTION: pools.parse_pools,
    choose_runner.CONFIG_OPTION: choose_runner.check_runner,
    slurm_options.CONFIG_OPTION: slurm_options.parse_slurm,
    PUSH_OPTION: parse_switch,
    output_settings.LOG_OPTION: output_settings.parse_size,
    output_settings.RUNS_OPTION: output_settings.parse_size,
    output_settings.NOTIFY_OPTION: output_settings.parse_command,
}

# What options do that are set for the project.
TEAMMATES = (
    "teammates who get {} with .dvc/config but do not have dvc-parallel will see a "
    "config error on every dvc command. Use `dvc config --local` to set it for this "
    "clone only, or `dvc config --global` for all your projects."
)


def add_options(schema: dict) -> None:
    """Add the options to ``dvc.config_schema.SCHEMA``, before it is compiled."""
    for option, parse in OPTIONS.items():
        schema["core"].setdefault(option, _validator(parse))


def _validator(parse: Callable[[str], Any]) -> Callable[[str], str]:
    def validate(value: str) -> str:
        try:
            parse(value)
        except ValueError as exc:
            raise Invalid(str(exc)) from None
        return value

    return validate
