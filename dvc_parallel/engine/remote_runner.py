"""Runners whose commands run on other machines.

Beside the verbs of every runner, such a one has::

    class MyRunner(RemoteRunner):
        def offers(self) -> Sequence[Offer]: ...      # which workers there are
        def check(self, places) -> bool: ...          # before the first command
        def run(self, args, output, place, on_start, **kwargs) -> int: ...
        def perform(self, work, output, place, on_start) -> Any: ...

The workers are another engine's: it decides which of those that a :class:`Place` admits
gets a command, and when.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Callable, Union

from dvc.exceptions import DvcException

from .runner import Output, Runner

# Called on a worker with a folder of its own, which stays there for the next one, with
# what is printed, and with where to run commands.
Work = Callable[[str, Output, Runner], Any]


class RunnerError(DvcException):
    """Commands cannot be run where they should."""


class CommandLostError(Exception):
    """Nothing is known of a command any more, but that it has ended.

    Args:
        worker: name of the worker that ran it.
        reason: what is known of why.
    """

    def __init__(self, worker: str, reason: str):
        super().__init__(f"worker '{worker}' was lost: {reason}")
        self.worker = worker


@dataclass(frozen=True)
class Offer:
    """What a worker has.

    Attributes:
        name: its name, as users gave it.
        threads: how many commands it runs at a time.
        resources: how much of what it has, by name.
    """

    name: str
    threads: int
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a command may run.

    Attributes:
        workers: patterns of names, as for :mod:`fnmatch`; none: anywhere.
        resources: how much it takes of what workers offer, by name.
    """

    workers: tuple[str, ...] = ()
    resources: Mapping[str, float] = field(default_factory=dict)

    def admits(self, worker: str) -> bool:
        """Whether the name of a worker matches."""
        return not self.workers or any(fnmatchcase(worker, p) for p in self.workers)

    def __str__(self) -> str:
        names = f" named {' or '.join(self.workers)}" if self.workers else ""
        amounts = ", ".join(f"{name}={n:g}" for name, n in self.resources.items())
        return f"a worker{names}{f' with {amounts}' if amounts else ''}"

    def is_on(self, offer: Offer) -> bool:
        """Whether a worker could ever run the command."""
        return self.admits(offer.name) and all(
            offer.resources.get(name, 0) >= amount
            for name, amount in self.resources.items()
        )


ANYWHERE = Place()


class RemoteRunner(Runner):
    """Runs commands on the workers of another engine."""

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
    def run(
        self,
        args: Union[str, Sequence[str]],
        output: Output,
        *,
        place: Place = ANYWHERE,
        on_start: Callable[[str], None] = lambda _: None,
        **kwargs,
    ) -> int:
        """Run a command to its end, as :meth:`Runner.run` does.

        Args:
            place: where it may run.
            on_start: called with the name of the worker when it starts.

        Raises:
            CommandLostError: its worker was lost. Nothing of it runs any more.
            RunnerError: there is no worker for it.
        """

    @abstractmethod
    def perform(
        self,
        work: Work,
        output: Output,
        place: Place = ANYWHERE,
        on_start: Callable[[str], None] = lambda _: None,
    ) -> Any:
        """Have a worker do something that runs commands.

        Args:
            work: can be pickled, as can what it returns.
            output, place, on_start: as for :meth:`run`.

        Returns:
            what ``work`` returned.

        Raises:
            Exception: whatever it raised, and as for :meth:`run`.
        """
