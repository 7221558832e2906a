"""What jobs and signal handlers tell the loop of a parallel run."""

from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, Callable, Optional

from .job import Job

if TYPE_CHECKING:
    from dvc.stage import Stage


class WithdrawnError(Exception):
    """The run has stopped before a stage that was started did anything."""


@dataclass
class Over:
    """The job is over, and still owns the repo; told by its thread."""

    job: Job
    result: Optional["Stage"] = None
    exc: Optional[BaseException] = None


@dataclass
class Signal:
    signum: int


@dataclass
class Question:
    """To be asked on the main thread, where Ctrl-C can interrupt it."""

    ask: Callable[[], Any]
    answered: Event
    answer: Any = None
