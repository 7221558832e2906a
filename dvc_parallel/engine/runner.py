"""Where the commands of stages run.

A runner has three verbs::

    class MyRunner(Runner):
        def run(self, args, output, **kwargs) -> int: ...   # one command
        def signal(self, signum) -> None: ...               # all of them
        def close(self) -> None: ...                        # nothing survives

and nothing to do with stages, DVC or the order in which things run.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Callable, Union

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

# Called with "stdout" or "stderr" and with what was printed there: one or more whole
# lines, or a part of one, up to where it goes back to its start (a progress bar), as
# much as is kept of a line (pipes.LONGEST), or what there is at the end of a command.
Output = Callable[[str, bytes], None]


class RunnerClosedError(Exception):
    """No command is started any more: the run is being stopped."""


class Runner(ABC):
    @abstractmethod
    def run(self, args: Union[str, Sequence[str]], output: Output, **kwargs) -> int:
        """Run a command to its end; called by many threads at a time.

        Args:
            args: the command, as for :class:`subprocess.Popen`.
            output: called with what the command prints, as :data:`Output` has it;
                from any thread, one call at a time for each of the two streams.
            kwargs: ``cwd``, ``env``, ``shell`` and ``close_fds`` for Popen.

        Returns:
            int: exit status; the negative signal number if killed by one.

        Raises:
            OSError: the command cannot be started.
            RunnerClosedError: ``signal`` was called before.
        """

    @abstractmethod
    def signal(self, signum: int) -> None:
        """Send a signal to all processes of all commands; start no more."""

    def stopped(self) -> "AbstractContextManager[None]":
        """Have all processes of all commands stop for a while, and no other one start.

        Where that cannot be done, they go on.
        """
        return nullcontext()

    @abstractmethod
    def close(self) -> None:
        """Kill what commands have left behind, and return when it is gone."""
