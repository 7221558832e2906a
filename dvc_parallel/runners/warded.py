"""Commands as processes on this machine, none of which outlives DVC."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Optional

import psutil
from shortuuid import uuid

from . import Output, RunnerClosedError, left_behind, warden
from .local import GRACE
from .timed import TimedRunner

# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")


class WardedRunner(TimedRunner):
    """Kills whatever the run has started: at its end, and when DVC is killed.

    That includes what has made itself a session of its own.  A command that may only
    take so long has a mark besides that of the run, by which all that it has started
    is found when its time is up.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo, where there is one that the next run has.
    """

    def __init__(self, tmp_dir: Optional[str] = None) -> None:
        super().__init__()
        self._run_id = uuid()
        self._folder = left_behind.folder_of(tmp_dir) if tmp_dir else None
        self._file: Optional[left_behind.RunFile] = None
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
            if not self._has_started and self._folder:
                self._file = left_behind.announce(self._folder, self._run_id)
            # NOTE: another one for one that was killed, but not where there can be none
            if self._has_started and (
                self._warden is None or not self._warden.has_ended
            ):
                return
            self._has_started = True
            try:
                self._warden = warden.start(self._run_id)
            except OSError as exc:
                self._warden = None
                logger.warning(
                    "if DVC is killed, commands go on, as nothing can watch it: %s", exc
                )

    def close(self) -> None:
        is_over = False
        try:
            super().close()
            if not self._is_over:
                warden.kill_all(self._run_id, seconds=GRACE)
            is_over = self._is_over
        except OSError:
            # NOTE: it cannot be seen from here what is left, but it may be from there
            if not self._warden:
                raise
            self._warden.dismiss(kill=True)
            self._warden = None
            is_over = True
        finally:
            self._take_leave(is_over)

    def _take_leave(self, is_over: bool) -> None:
        # NOTE: if there is something that cannot be killed, the warden goes on trying
        # after the end of this process, and so does the next run
        if self._warden and is_over:
            self._warden.dismiss()
            self._warden = None
        if self._file:
            self._file.remove() if is_over else self._file.release()
            self._file = None

    def _survivors(self) -> Iterator[psutil.Process]:
        yield from super()._survivors()
        if self._warden:
            yield from _processes_of(self._run_id)

    @property
    def _is_over(self) -> bool:
        """Whether nothing is left of what the run has started, as far as is known."""
        return not self._warden or not any(warden.processes_of(self._run_id))


def _processes_of(mark: str) -> Iterator[psutil.Process]:
    for pid in warden.processes_of(mark):
        with suppress(psutil.Error):
            yield psutil.Process(pid)
