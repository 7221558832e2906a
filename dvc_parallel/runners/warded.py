"""Commands as processes on this machine, none of which outlives DVC."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Optional

import psutil
from shortuuid import uuid

from . import Output, RunnerClosedError, warden
from .timed import TimedRunner

# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")


class WardedRunner(TimedRunner):
    """Kills whatever the run has started: at its end, and when DVC is killed.

    That includes what has made itself a session of its own.  A command that may only
    take so long has a mark besides that of the run, by which all that it has started
    is found when its time is up.
    """

    def __init__(self) -> None:
        super().__init__()
        self._run_id = uuid()
        self._warden: Optional[warden.Warden] = None
        self._has_started = False

    def run(self, args, output: Output, *, env=None, **kwargs) -> int:
        self._start_warden()
        env = warden.marked(os.environ if env is None else env, self._run_id)
        if self._warden and kwargs.get("timeout") is not None:
            mark = uuid()
            env = warden.marked(env, mark)
            kwargs["find"] = partial(_processes_of, mark)
        return super().run(args, output, env=env, **kwargs)

    def _start_warden(self) -> None:
        with self._guard:
            if self._closed:
                raise RunnerClosedError
            if self._has_started:
                return
            self._has_started = True
            try:
                self._warden = warden.start(self._run_id)
            except OSError as exc:
                logger.warning(
                    "if DVC is killed, commands go on, as nothing can watch it: %s", exc
                )

    def close(self) -> None:
        unseen = False
        try:
            super().close()
        except OSError:
            # NOTE: it cannot be seen from here what is left
            unseen = True
            if not self._warden:
                raise
        finally:
            if self._warden:
                self._warden.dismiss(kill=unseen)
                self._warden = None

    def _survivors(self) -> Iterator[psutil.Process]:
        yield from super()._survivors()
        if self._warden:
            yield from _processes_of(self._run_id)


def _processes_of(mark: str) -> Iterator[psutil.Process]:
    for pid in warden.processes_of(mark):
        with suppress(psutil.Error):
            yield psutil.Process(pid)
