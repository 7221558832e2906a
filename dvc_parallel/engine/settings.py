"""Settings: where they come from, and what is said of one that makes no sense."""

import os
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable, TypeVar

from dvc.exceptions import InvalidArgumentError

T = TypeVar("T")

# In the section ``core`` of the config: upload what stages make.
PUSH_OPTION = "parallel_push"


def lookup(option: str, env: str, config: Mapping[str, Any]) -> tuple[str, Any]:
    """The name and the value of a setting: the environment wins over the config.

    Args:
        option: in the section ``core`` of the config, which is ``config``.
        env: environment variable.

    Returns:
        tuple: what has the value, and that; None if it is not set.
    """
    if env in os.environ:
        return env, os.environ[env]
    return f"core.{option}", config.get(option)


def checked(name: str, check: Callable[[Any], T], value: Any) -> T:
    """The value of a setting, as ``check`` returns it.

    Raises:
        InvalidArgumentError: ``check`` has raised a ValueError; names the setting.
    """
    try:
        return check(value)
    except ValueError as exc:
        raise InvalidArgumentError(f"{name}: {exc}") from None


def parse_switch(value: Any) -> bool:
    """What an option says that is on or off.

    Raises:
        ValueError: it says something else.
    """
    word = str(value).lower()
    if word not in ("true", "false"):
        raise ValueError(f"expected true or false, got '{value}'")
    return word == "true"


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    outer = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in outer.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def argument_type(check: Callable[[str], T]) -> Callable[[str], T]:
    """A ``type`` for argparse, whose errors are those of ``check``."""

    def read(value: str) -> T:
        try:
            return check(value)
        except ValueError as exc:
            raise ArgumentTypeError(str(exc)) from None

    return read
