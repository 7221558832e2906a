"""Commands as processes on this machine, none of which outlives DVC."""

import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import Optional

from shortuuid import uuid

from dvc_parallel.engine.local_runner import GRACE
from dvc_parallel.engine.runner import Output, RunnerClosedError
from dvc_parallel.engine.signals import SIGKILL
from dvc_parallel.engine.terminal import visible

from . import orphans, watchdog
from .time_limit import TimedRunner

# NOTE: DVC configures the loggers below "dvc"
logger = logging.getLogger("dvc.parallel")
LEFT = (
    "%s left processes in the background, which end with the run: %s; "
    "start what is to go on with `env -u DVC_PARALLEL_RUN setsid`"
)
STAYS = (
    "processes that the run has started were killed and do not end%s; the next run "
    "waits for that"
)

# Seconds in which what a command has left may end by itself, when the run has ended;
# seconds from one look at it to the next.
LINGER = 0.5
LOOK = 0.02


class SupervisedRunner(TimedRunner):
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
        self._folder = orphans.folder_of(tmp_dir) if tmp_dir else None
        self._file: Optional[orphans.RunFile] = None
        self._watchdog: Optional[watchdog.Watchdog] = None
        self._has_started = False
        self._is_stopped = False  # by a signal
        self._is_over = True  # whether nothing is left, as far as is known

    def run(self, args, output: Output, *, env=None, **kwargs) -> int:
        self._start_watchdog()
        env = watchdog.marked(os.environ if env is None else env, self._run_id)
        if watchdog.CAN_LOOK and kwargs.get("timeout") is not None:
            kwargs["mark"] = uuid()
            env = watchdog.marked(env, kwargs["mark"])
        return super().run(args, output, env=env, **kwargs)

    def _start_watchdog(self) -> None:
        with self._guard:
            if self._closed:
                raise RunnerClosedError
            if not self._has_started and self._folder:
                self._file = orphans.announce(self._folder, self._run_id)
            # NOTE: another one for one that was killed, but not where there can be none
            if self._has_started and (
                self._watchdog is None or not self._watchdog.has_ended
            ):
                return
            self._has_started = True
            try:
                self._watchdog = watchdog.start(self._run_id)
            except OSError as exc:
                self._watchdog = None
                logger.warning(
                    "if DVC is killed, commands go on, as nothing can watch it: %s", exc
                )

    def signal(self, signum: int) -> None:
        if signum == SIGKILL and self._has_started:
            # NOTE: none of them is to see another one die
            for pid in self._freeze():
                watchdog.send(pid, SIGKILL)
        super().signal(signum)
        self._is_stopped = True

    def close(self) -> None:
        is_over = False
        try:
            super().close()
            is_over = self._is_over
        except OSError:
            # NOTE: it cannot be seen from here what is left, but it may be from there
            if not self._watchdog:
                raise
            is_over = self._watchdog.kill(GRACE)
            if not is_over:
                logger.warning(STAYS, "")
            self._watchdog = None
        finally:
            self._take_leave(is_over)

    def _end_what_is_left(self) -> None:
        if not watchdog.CAN_LOOK:
            super()._end_what_is_left()
            return
        left = set(self._look())
        if left and not self._is_stopped:
            left = self._let_end(left)
            self._tell(left)
        if left:
            self._is_over = watchdog.kill_all(self._run_id, self._sessions(), GRACE)
            if not self._is_over:
                logger.warning(STAYS, ": " + ", ".join(map(str, sorted(left))))

    def _look(self, known: Collection[int] = ()) -> Iterator[int]:
        return watchdog.processes_of(self._run_id, self._sessions(), known)

    def _let_end(self, left: set[int]) -> set[int]:
        """Wait a little for what is about to end; return what does not."""
        end = time.monotonic() + LINGER
        while left and time.monotonic() < end:
            time.sleep(LOOK)
            left = set(self._look())
        return left

    def _tell(self, left: Iterable[int]) -> None:
        """Say which processes of which stages end with the run."""
        stages: dict[str, list[str]] = {}
        for pid in sorted(left):
            env = watchdog.environment_of(pid)
            with suppress(OSError):
                with open(f"/proc/{pid}/comm", errors="replace") as fobj:
                    name = fobj.read().rstrip("\n")
                stage = env.get(b"DVC_STAGE", b"").decode(errors="replace")
                stages.setdefault(stage, []).append(f"{pid} ({name})")
        for stage, processes in stages.items():
            name = f"stage '{visible(stage)}'" if stage else "a stage"
            logger.warning(LEFT, name, visible(", ".join(processes)))

    def _take_leave(self, is_over: bool) -> None:
        # NOTE: if there is something that cannot be killed, the watchdog goes on trying
        # after the end of this process, and so does the next run
        if self._watchdog and is_over:
            self._watchdog.dismiss()
            self._watchdog = None
        if self._file:
            self._file.remove() if is_over else self._file.release()
            self._file = None
