"""Commands as processes on this machine, for a limited time."""

import subprocess
from typing import Optional

from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.pipes import follow
from dvc_parallel.engine.runner import Output

from .stopping import Stopper


class TimeIsUpError(Exception):
    """A command has taken too long, and was stopped."""


class TimedRunner(LocalRunner):
    """Stops commands that take too long."""

    def run(
        self,
        args,
        output: Output,
        *,
        timeout: Optional[float] = None,
        mark: Optional[str] = None,
        **kwargs,
    ) -> int:
        """Run a command to its end, as :meth:`Runner.run` does.

        Args:
            timeout: seconds after which all of its processes get SIGTERM, and
                SIGKILL if they are still there after a while.
            mark: as for :class:`Stopper`.

        Raises:
            TimeIsUpError: it did not end in time; nothing of it is left.
        """
        if timeout is None:
            return super().run(args, output, **kwargs)

        fired = False

        def wait(process: subprocess.Popen) -> int:
            nonlocal fired
            with Stopper(process, timeout, mark) as stopper:
                returncode = follow(process, output)
            fired = stopper.fired
            return returncode

        returncode = self._run(args, wait, **kwargs)
        if fired:
            raise TimeIsUpError
        return returncode
