"""The messages of coordinator and workers, of which none is a pickle."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, TypeVar, Union

import msgpack
from dvc.exceptions import DvcException

from dvc_parallel.engine.runner import RunnerClosedError, RunnerError, TimeIsUpError
from dvc_parallel.remote.typed import MalformedError, plain, typed

T = TypeVar("T")

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
class Failure:
    """An error that a task has raised.

    Attributes:
        kind: one of :data:`ERRORS`, or "" for all others, whose text is ``args``.
        args: what it is made of.
    """

    kind: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Ended:
    """A task has ended.

    Attributes:
        result: what it returned.
        failure: what it raised, if so.
    """

    task: str
    result: Any
    failure: Optional[Failure]


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


# Errors that are the same on both sides.
ERRORS = {
    error.__name__: error
    for error in (OSError, RunnerClosedError, RunnerError, TimeIsUpError)
}


def ended(task: str, result: Any = None, error: Optional[Exception] = None) -> Ended:
    """The end of a task, with what it returned or raised."""
    if error is None:
        try:
            return Ended(task, plain(result), None)
        except TypeError as exc:
            error = exc
    if isinstance(error, OSError):
        failure = Failure("OSError", (error.errno, error.strerror, error.filename))
    elif isinstance(error, DvcException):
        failure = Failure("RunnerError", (str(error),))
    elif type(error).__name__ in ERRORS:
        failure = Failure(type(error).__name__, error.args)
    else:
        failure = Failure("", (repr(error),))
    return Ended(task, None, failure)


def result_of(news: Ended) -> Any:
    """What a task returned; raises what it raised."""
    if news.failure is None:
        return news.result
    raise ERRORS.get(news.failure.kind, RuntimeError)(*news.failure.args)


def packed(message: Any) -> bytes:
    """A message as bytes, which are told apart from those of Dask's own."""
    # NOTE: names of files may have anything in them
    return msgpack.packb(plain(message), unicode_errors="surrogatepass")


def unpacked(kind: type[T], data: Any) -> T:
    """A message from somebody else.

    Raises:
        MalformedError: it is none.
    """
    try:
        content = msgpack.unpackb(data, unicode_errors="surrogatepass")
    except Exception as exc:  # noqa: BLE001
        raise MalformedError(f"{type(exc).__name__}: {exc}") from None
    return typed(kind, content)
