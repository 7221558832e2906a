"""Commands as processes on this machine, none of which outlives a lease."""

import time

from dvc_parallel.engine.runner import RunnerClosedError

from .supervised_runner import WardedRunner

# Seconds from the end of the lease to when the warden kills: who is not stuck is the
# first then, and knows why the commands end.
PRECEDENCE = 0.5


class LeasedRunner(WardedRunner):
    """Kills whatever it has started when its lease is over, even if it is stuck itself.

    Args:
        end: when the lease is over, as :func:`time.monotonic` tells the time.
    """

    def __init__(self, end: float):
        super().__init__()
        self._end = end

    def run(self, args, output, **kwargs) -> int:
        """Run a command, as :meth:`WardedRunner.run` does.

        Raises:
            RunnerClosedError: also when the lease is over.
        """
        if time.monotonic() >= self._end:
            raise RunnerClosedError
        return super().run(args, output, **kwargs)

    def _start_warden(self) -> None:
        with self._guard:
            super()._start_warden()
            self._tell_warden()

    def renew(self, end: float) -> None:
        """Have the lease go on until then, if it is not over."""
        with self._guard:
            if time.monotonic() < self._end < end:
                self._end = end
                self._tell_warden()

    def _tell_warden(self) -> None:
        if self._warden:
            self._warden.kill_at(self._end + PRECEDENCE)
