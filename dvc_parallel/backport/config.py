"""The option ``core.parallel_jobs``."""

from typing import Union

from voluptuous import Invalid

from dvc_parallel.jobs import CONFIG_OPTION, parse_jobs


def add_option(schema: dict) -> None:
    """Add the option to ``dvc.config_schema.SCHEMA``, before it is compiled."""
    schema["core"].setdefault(CONFIG_OPTION, validate_jobs)


def validate_jobs(value: str) -> Union[int, str]:
    try:
        return parse_jobs(value)
    except ValueError as exc:
        raise Invalid(str(exc)) from None
