"""The messages of coordinator and workers."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

# Name of the worker's handler for exchanges, and of the topic of announcements.
EXCHANGE = "dvc_parallel_exchange"
TOPIC = "dvc-parallel"


def topic_of(session: str) -> str:
    """The topic by which the scheduler knows of a session that is alive."""
    return f"{TOPIC}-{session}"


@dataclass(frozen=True)
class Terms:
    """What holds for all commands of a run.

    Attributes:
        run: ID of the run.
        lease: seconds for which commands go on without news of the coordinator.
        hold: seconds after which a request is answered without news.
        window: bytes that a command may print ahead.
        token: path and content of a file in the workspace, if workers have to see it.
        versions: of the packages that have to be the same, by name.
    """

    run: str
    lease: float
    hold: float
    window: int
    token: Optional[tuple[str, str]]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Announcement:
    """A task is about to run: may it?

    Attributes:
        task: its key in Dask.
        session: ID of what it would run in.
        address: of the worker.
        name: its name.
    """

    run: str
    task: str
    session: str
    address: str
    name: str


@dataclass(frozen=True)
class Request:
    """A message of the coordinator to a session.

    Attributes:
        session: ID of the session.
        heard: number of the last reply that it got.
        received: number of the last news that it got.
        permitted: tasks that may run.
        consumed: bytes of output dealt with, by task.
        signals: all that were sent, in their order.
        closing: whether the session has to end.
    """

    session: str
    heard: int
    received: int
    permitted: frozenset[str]
    consumed: Mapping[str, int]
    signals: tuple[int, ...]
    closing: bool


@dataclass(frozen=True)
class Printed:
    """A command has printed something."""

    task: str
    stream: str
    data: bytes


@dataclass(frozen=True)
class Ended:
    """A task has ended.

    Attributes:
        outcome: pickled; what it returned, or the exception that it raised.
    """

    task: str
    outcome: bytes


News = Union[Printed, Ended]


@dataclass(frozen=True)
class Reply:
    """The answer of a session.

    Attributes:
        number: of this reply.
        news: those that were not received yet, with their numbers.
        over: why nothing runs in the session any more, if so.
    """

    number: int
    news: tuple[tuple[int, News], ...]
    over: Optional[str] = None


def ended(task: str, result: Any = None, error: Optional[Exception] = None) -> Ended:
    """The end of a task, with what it returned or raised."""
    try:
        outcome = pickle.dumps((result, error))
        # NOTE: there are exceptions that can be pickled only
        pickle.loads(outcome)  # noqa: S301
    except Exception:  # noqa: BLE001
        outcome = pickle.dumps((None, RuntimeError(repr(error or result))))
    return Ended(task, outcome)


def result_of(news: Ended) -> Any:
    """What a task returned; raises what it raised."""
    result, error = pickle.loads(news.outcome)  # noqa: S301
    if error is not None:
        raise error
    return result
