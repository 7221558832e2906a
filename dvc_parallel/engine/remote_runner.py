"""Runners whose commands run on other machines.

Beside the verbs of every runner, such a one has::

    class MyRunner(RemoteRunner):
        def offers(self) -> Sequence[Offer]: ...      # which workers there are
        def check(self, places) -> bool: ...          # before the first command
        def perform(self, work, output, place, on_start) -> Any: ...

The workers are another engine's: it decides which of those that a :class:`Place` admits
gets a command, and when.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Callable

from .runner import ANYWHERE, Offer, OnStart, Output, Place, Runner, ignore_start

# Called on a worker with a folder of its own, which stays there for the next one, with
# what is printed, and with where to run commands.
Work = Callable[[str, Output, Runner], Any]


class RemoteRunner(Runner):
    """Runs commands on the workers of another engine."""

    has_queue = True

    @abstractmethod
    def offers(self) -> Sequence[Offer]:
        """The workers that there are now."""

    @abstractmethod
    def check(self, places: Iterable[Place]) -> bool:
        """Make sure that commands can run; called before the first one.

        Args:
            places: where they may run.

        Returns:
            bool: whether workers share the workspace. If not, none of them does, and
            commands can only run as a part of what they :meth:`perform`.

        Raises:
            RunnerError: names the workers that cannot run them, and why.
        """

    @abstractmethod
    def perform(
        self,
        work: Work,
        output: Output,
        place: Place = ANYWHERE,
        on_start: OnStart = ignore_start,
    ) -> Any:
        """Let a worker do something that runs commands.

        Args:
            work: can be pickled; what it returns is dicts, lists, strings, bytes,
                numbers, booleans and None.
            place: where it may be done.
            output, on_start: as for :meth:`run`.

        Returns:
            what ``work`` returned, or whatever else a worker has sent of that.

        Raises:
            Exception: what it raised, or its text, and as for :meth:`run`.
        """
