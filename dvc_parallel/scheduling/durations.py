"""How long stages took in earlier runs, for the plan of the next one.

Kept in ``.dvc/tmp/parallel/durations.json``, a mapping of stages to seconds.  It is
never needed: where it is missing or damaged, all stages count the same.
"""

import json
import logging
from collections.abc import Mapping

from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.plain_reporter import log

NAME = "durations.json"
# No stage takes as many seconds, and no file has as many bytes: they are damaged.
MOST = 1e9
MOST_BYTES = 2**26


class Durations:
    """The known durations of the stages of a repo.

    Owned by whoever holds the repo lock.
    """

    def __init__(self, tmp_dir: str):
        self._folder = OwnFolder(tmp_dir, "parallel")

    def load(self) -> dict[str, float]:
        """Seconds by stage; nothing where nothing can be read."""
        try:
            with self._folder.read(NAME, MOST_BYTES) as fobj:
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
            self._folder.make()
            with self._folder.replace(NAME) as fobj:
                json.dump({**self.load(), **known}, fobj)
        except OSError as exc:
            log(logging.WARNING, "cannot save how long stages took: %s", exc)


def _is_duration(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= MOST
