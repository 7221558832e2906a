"""Whether a run that its journal does not end still goes on."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psutil

# Seconds by which the clocks of the system and of the journal may differ.
SLACK = 5.0


def is_alive(header: Mapping[str, Any]) -> bool:
    """Whether the process that writes a journal is there."""
    try:
        process = psutil.Process(header["pid"])
        started = datetime.fromisoformat(header["started"]).timestamp()
        # NOTE: a younger process has got the same number
        return (
            process.create_time() <= started + SLACK
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.AccessDenied:
        return True
    except (psutil.Error, KeyError):
        return False
