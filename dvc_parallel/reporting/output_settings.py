"""How what stages print is shown, how much of it is kept, and who is told of a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from dvc_parallel.engine.settings import checked, lookup

AUTO = "auto"  # grouped in GitHub Actions and GitLab CI, or else prefixed
PREFIXED = "prefixed"  # each line as it comes, with the name of its stage
GROUPED = "grouped"  # all lines of a stage when its commands have ended
FAILED = "failed"  # all lines of a stage that has failed
NONE = "none"

OUTPUT_MODES = (AUTO, PREFIXED, GROUPED, FAILED, NONE)
OUTPUT_OPTION = "parallel_output"

LOG_OPTION = "parallel_log_size"
LOG_ENV = "DVC_PARALLEL_LOG_SIZE"
RUNS_OPTION = "parallel_runs_size"
RUNS_ENV = "DVC_PARALLEL_RUNS_SIZE"

NOTIFY_OPTION = "parallel_notify"
NOTIFY_ENV = "DVC_PARALLEL_NOTIFY"
NOTIFY_IGNORED = (
    f"core.{NOTIFY_OPTION} in '{{}}' is ignored: it is a command, and a clone may have "
    "brought it along. Use `dvc config --global`, or `--local` for this clone"
)

UNLIMITED = "unlimited"
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Limits:
    """Bytes; None for as many as there are.

    Attributes:
        log: of the output of one stage.
        runs: of the records of all runs.
    """

    log: Optional[int] = 64 * 2**20
    runs: Optional[int] = 2**30


DEFAULTS = Limits()


def parse_output(value: str) -> str:
    """Check a mode as users write it.

    Raises:
        ValueError: there is no such mode; the message says which there are.
    """
    mode = str(value).strip().lower()
    if mode in OUTPUT_MODES:
        return mode
    modes = ", ".join(f"'{mode}'" for mode in OUTPUT_MODES)
    raise ValueError(f"expected one of {modes}, got '{value}'")


def parse_command(text: str) -> str:
    """Check that there is a command.

    Raises:
        ValueError: it is empty.
    """
    if not str(text).strip():
        raise ValueError("expected a command")
    return text


def parse_size(value: Any) -> Optional[int]:
    """Read a number of bytes, such as 500, "64M" or "1 GiB"; None for "unlimited".

    Raises:
        ValueError: it is none.
    """
    text = str(value).strip().lower()
    if text == UNLIMITED:
        return None
    if match := _SIZE.fullmatch(text):
        return int(match[1]) * _UNITS[match[2]]
    raise ValueError(f"expected a size such as '64M', or '{UNLIMITED}', got '{value}'")


def limits_of(config: Mapping[str, Any]) -> Limits:
    """The limits in force: the environment wins over ``core`` of the config.

    Raises:
        InvalidArgumentError: names what is wrong.
    """

    def limit(option: str, env: str, default: Optional[int]) -> Optional[int]:
        name, value = lookup(option, env, config)
        return default if value is None else checked(name, parse_size, value)

    return Limits(
        limit(LOG_OPTION, LOG_ENV, DEFAULTS.log),
        limit(RUNS_OPTION, RUNS_ENV, DEFAULTS.runs),
    )
