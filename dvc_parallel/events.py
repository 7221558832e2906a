"""What a plan is told, and what it says is to be done."""

from dataclasses import dataclass
from typing import Any, Union


@dataclass(frozen=True)
class Begun:
    """Event: the run has begun."""


@dataclass(frozen=True)
class CommandEnded:
    """Event: the stage's last command has ended, its outputs get saved now."""

    stage: Any


@dataclass(frozen=True)
class Finished:
    """Event: the stage is done; ``changed`` tells whether it was reproduced."""

    stage: Any
    changed: bool


@dataclass(frozen=True)
class Failed:
    """Event: the stage has failed."""

    stage: Any


@dataclass(frozen=True)
class Withdrawn:
    """Event: the stage was started, but the run has stopped before it did anything."""

    stage: Any


@dataclass(frozen=True)
class Interrupted:
    """Event: nothing new may start."""


@dataclass(frozen=True)
class LookAgain:
    """Event: by now, more may be admitted."""


@dataclass(frozen=True)
class Wait:
    """Instruction: take note that this stage could start, and waits for a slot."""

    stage: Any


@dataclass(frozen=True)
class Start:
    """Instruction: start this stage, with ``force`` even if unchanged."""

    stage: Any
    force: bool


@dataclass(frozen=True)
class Skip:
    """Instruction: this stage does not run, because ``failed`` did."""

    stage: Any
    failed: Any


Event = Union[Begun, CommandEnded, Finished, Failed, Withdrawn, Interrupted, LookAgain]
Instruction = Union[Wait, Start, Skip]
