"""Where the commands of stages run.

A runner has three verbs::

    class MyRunner(Runner):
        def run(self, command, output, on_start) -> int: ...   # one command
        def signal(self, signum) -> None: ...                  # all of them
        def close(self) -> None: ...                           # nothing survives

and nothing to do with stages, DVC or the order in which things run.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Callable, Optional, Union

from dvc.exceptions import DvcException

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

# Called with "stdout" or "stderr" and with what was printed there: one or more whole
# lines, or a part of one, up to where it goes back to its start (a progress bar), as
# much as is kept of a line (pipes.LONGEST), or what there is at the end of a command.
# At that end, a runner that knows may tell with "usage" what the command has used
# (usage.Usage.to_bytes).
Output = Callable[[str, bytes], None]

# How many times a command is run again because a worker was lost.
TRIES_ELSEWHERE = 3

# Called with the name of a worker.
OnStart = Callable[[str], None]


class RunnerError(DvcException):
    """Commands cannot be run where they should."""


class RunnerClosedError(Exception):
    """No command is started any more: the run is being stopped."""


class TimeIsUpError(Exception):
    """A command has taken too long, and was stopped."""


class CommandStoppedError(Exception):
    """An engine has ended a command by itself; the message says which, and why."""


class CommandLostError(Exception):
    """Nothing is known of a command any more, but that it has ended.

    Args:
        worker: name of the worker that ran it.
        reason: what is known of why.
        tries: how many times it is run again.
    """

    def __init__(self, worker: str, reason: str, tries: int = TRIES_ELSEWHERE):
        super().__init__(f"worker '{worker}' was lost: {reason}")
        self.worker = worker
        self.tries = tries


@dataclass(frozen=True)
class Offer:
    """A worker, and what it has.

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


@dataclass(frozen=True)
class Command:
    """A command, and all that a runner is told of it.

    Attributes:
        args: the command, as for :class:`subprocess.Popen`.
        env: its environment; None: that of this process.
        cwd: the folder that it runs in; None: that of this process.
        shell: whether ``args`` is a line for the system's shell.
        timeout: seconds after which all of its processes get SIGTERM, and SIGKILL if
            they are still there after a while; None: it may take as long as it takes.
        inherited: descriptors that it inherits, on this machine.
        place: where it may run, for runners with workers.
        stage: the one whose command it is, where that is known.
        requests: what it asks a batch system for.
    """

    args: Union[str, Sequence[str]]
    env: Optional[Mapping[str, str]] = None
    cwd: Optional[str] = None
    shell: bool = False
    timeout: Optional[float] = None
    inherited: tuple[int, ...] = ()
    place: Place = ANYWHERE
    stage: str = ""
    requests: Mapping[str, str] = field(default_factory=dict)


def ignore_start(worker: str) -> None:
    """An :data:`OnStart` for those who need not know."""


class Runner(ABC):
    """Runs commands.

    Attributes:
        has_queue: whether a command may have to wait, and ``on_start`` is called.
    """

    has_queue = False

    @abstractmethod
    def run(
        self, command: Command, output: Output, on_start: OnStart = ignore_start
    ) -> int:
        """Run a command to its end; called by many threads at a time.

        Args:
            output: called with what the command prints, as :data:`Output` has it;
                from any thread, one call at a time for each of the two streams.
            on_start: called when it starts on a worker, by runners that have workers.

        Returns:
            int: exit status; the negative signal number if killed by one.

        Raises:
            OSError: the command cannot be started.
            RunnerClosedError: ``signal`` was called before.
            TimeIsUpError: it did not end in time; nothing of it is left.
            CommandLostError: its worker was lost. Nothing of it runs any more.
            CommandStoppedError: it was ended by what runs it.
            RunnerError: there is no worker for it.
        """

    @abstractmethod
    def signal(self, signum: int) -> None:
        """Send a signal to all processes of all commands; start no more."""

    def stopped(self) -> "AbstractContextManager[None]":
        """Stop all processes of all commands for a while, and start no other.

        Where that cannot be done, they go on.
        """
        return nullcontext()

    @abstractmethod
    def close(self) -> None:
        """Kill what commands have left behind, and return when it is gone."""


class LastingRunner(Runner):
    """Runs commands that go on when DVC ends; the next run takes them up.

    All but ``clear`` are called by the owner of the repo.
    """

    @abstractmethod
    def has_left(self, stage: str) -> bool:
        """Whether an earlier run may have left commands of a stage."""

    @abstractmethod
    def take_up(
        self, stage: str, inputs: str, outs: Mapping[str, Callable[[], str]]
    ) -> bool:
        """Have the commands of an earlier run, if that has left some of a stage.

        Those that have come to a good end are not run again, what runs is waited for.

        Args:
            inputs: as for :meth:`begin`; commands for others are not taken up.
            outs: paths of outputs, with what tells their hashes; if one was changed
                after the end of the commands, they are not taken up either.

        Returns:
            bool: whether that is so. If not, :meth:`clear` has to be called.

        Raises:
            RunnerError: another run has them.
        """

    @abstractmethod
    def clear(self, stage: str) -> None:
        """Stop what an earlier run has left of a stage, and forget it."""

    @abstractmethod
    def begin(self, stage: str, inputs: str, outs: Iterable[str]) -> None:
        """The commands of a stage come next, from the first one on.

        Args:
            outs: paths that they write to.
            inputs: what tells whether they are for what the stage is later, too.
        """

    @abstractmethod
    def keep_outputs(self, stage: str, hashes: Mapping[str, str]) -> None:
        """The commands have ended well, and DVC is about to put outputs into the cache.

        Args:
            hashes: of the outputs, by their paths.
        """

    @abstractmethod
    def forget(self, stage: str) -> None:
        """The stage is recorded: its commands need not be taken up."""


@dataclass(frozen=True)
class RunnerOptions:
    """What a runner is opened with.

    Attributes:
        name: the runner, as the user has named it; for messages.
        address: what comes after the first colon in that, or nothing.
        root: of the repo.
        tmp_dir: ``.dvc/tmp`` of the repo.
        jobs: how many commands are to run at a time, where workers have to be started.
        detach: whether Ctrl-C leaves commands that can go on without DVC.
    """

    name: str
    address: str
    root: str
    tmp_dir: str
    jobs: int
    detach: bool = False


# Opens a runner, which is closed at the end of the run; raises a RunnerError that names
# it if that cannot be done.
OpenRunner = Callable[[RunnerOptions], Runner]
