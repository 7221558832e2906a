"""Where the commands of stages run.

A runner has three verbs::

    class MyRunner(Runner):
        def run(self, args, output, timeout, **kwargs) -> int: ...   # one command
        def signal(self, signum) -> None: ...                        # all of them
        def close(self) -> None: ...                                 # nothing survives

and nothing to do with stages, DVC or the order in which things run.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Callable, Optional, Union

# Called with "stdout" or "stderr" and with what was printed there: one or more whole
# lines, or a part of one, up to where it goes back to its start (a progress bar), as
# much as is kept of a line (pipes.LONGEST), or what there is at the end of a command.
Output = Callable[[str, bytes], None]


class RunnerClosedError(Exception):
    """No command is started any more: the run is being stopped."""


class TimeIsUpError(Exception):
    """A command has taken too long, and was stopped."""


class Runner(ABC):
    @abstractmethod
    def run(
        self,
        args: Union[str, Sequence[str]],
        output: Output,
        timeout: Optional[float] = None,
        **kwargs,
    ) -> int:
        """Run a command to its end; called by many threads at a time.

        Args:
            args: the command, as for :class:`subprocess.Popen`.
            output: called with what the command prints, as :data:`Output` has it;
                from any thread, one call at a time for each of the two streams.
            timeout: seconds after which all of its processes get SIGTERM, and
                SIGKILL if they are still there after a while.
            kwargs: ``cwd``, ``env``, ``shell``, ``close_fds`` and ``pass_fds`` for
                Popen.

        Returns:
            int: exit status; the negative signal number if killed by one.

        Raises:
            OSError: the command cannot be started.
            RunnerClosedError: ``signal`` was called before.
            TimeIsUpError: it did not end in time; nothing of it is left.
        """

    @abstractmethod
    def signal(self, signum: int) -> None:
        """Send a signal to all processes of all commands; start no more."""

    @abstractmethod
    def close(self) -> None:
        """Kill what commands have left behind, and return when it is gone."""
