"""How long stages took in earlier runs, for the plan of the next one.

Kept in ``.dvc/tmp/parallel/durations.json``, a mapping of stages to seconds.  It is
never needed: where it is missing or damaged, all stages count the same.
"""

import json
import logging
import os
from collections.abc import Mapping

from .atomic import atomic_write
from .regular import open_regular
from .reporters.plain import log

# No stage takes as many seconds, so they are damaged.
MOST = 1e9


class Durations:
    """The durations that are known of the stages of a repo.

    Owned by whoever holds the repo lock.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
    """

    def __init__(self, tmp_dir: str):
        self._folder = os.path.join(tmp_dir, "parallel")
        self._path = os.path.join(self._folder, "durations.json")

    def load(self) -> dict[str, float]:
        """Seconds by stage; nothing where nothing can be read."""
        try:
            with open_regular(self._path) as fobj:
                data = json.load(fobj)
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(data, dict):
            return {}
        return {name: data[name] for name in data if _is_duration(data[name])}

    def save(self, seconds: Mapping[str, float]) -> None:
        """Add what is known now; where that cannot be written, say so."""
        if not seconds:
            return
        known = {name: round(value, 3) for name, value in seconds.items()}
        try:
            os.makedirs(self._folder, exist_ok=True)
            with atomic_write(self._path, self._folder) as fobj:
                json.dump({**self.load(), **known}, fobj)
        except OSError as exc:
            log(logging.WARNING, "how long stages took cannot be kept: %s", exc)


def _is_duration(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= MOST
