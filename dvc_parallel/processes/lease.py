"""Commands as processes on this machine, none of which outlives a lease."""

import time

from dvc_parallel.engine.runner import RunnerClosedError

from .supervised_runner import SupervisedRunner

# Seconds from the end of the lease to when the watchdog kills: who is not stuck is the
# first then, and knows why the commands end.
PRECEDENCE = 0.5


class LeasedRunner(SupervisedRunner):
    """Kills whatever it has started when its lease is over, even if it is stuck itself.

    Args:
        end: when the lease is over, as :func:`time.monotonic` tells the time.
    """

    def __init__(self, end: float):
        super().__init__()
        self._end = end

    def run(self, args, output, **kwargs) -> int:
        """Run a command, as :meth:`SupervisedRunner.run` does.

        Raises:
            RunnerClosedError: also when the lease is over.
        """
        if time.monotonic() >= self._end:
            raise RunnerClosedError
        return super().run(args, output, **kwargs)

    def _start_watchdog(self) -> None:
        with self._guard:
            super()._start_watchdog()
            self._tell_watchdog()

    def renew(self, end: float) -> None:
        """Have the lease go on until then, if it is not over."""
        with self._guard:
            if time.monotonic() < self._end < end:
                self._end = end
                self._tell_watchdog()

    def _tell_watchdog(self) -> None:
        if self._watchdog:
            self._watchdog.kill_at(self._end + PRECEDENCE)
