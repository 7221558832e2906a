"""What Dask runs on a worker."""

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

from distributed import get_worker

from .fitness import unfit
from .protocol import (
    EXCHANGE,
    TOPIC,
    Announcement,
    Request,
    Terms,
    packed,
    topic_of,
    unpacked,
)
from .session import Session, SessionOverError, Work

if TYPE_CHECKING:
    from distributed import Worker

_guard = threading.Lock()
_sessions: dict[str, Session] = {}  # by the ID of their run


class UnfitWorkerError(Exception):
    """This worker cannot run the commands of a run."""


def perform(task: str, terms: Terms, work: Work) -> None:
    """Do some work as a task of Dask.

    Raises:
        UnfitWorkerError: this is not the worker for it.
    """
    worker = get_worker()
    session = _session(worker, terms)
    announcement = Announcement(
        terms.run, task, session.id, worker.address, str(worker.name)
    )
    # NOTE: Dask adds something of its own to what is told
    message = {"announcement": packed(announcement)}
    # NOTE: what comes out of a task is a pickle, which nobody reads
    with suppress(SessionOverError):
        session.perform(task, work, lambda: worker.log_event(TOPIC, message))


def _session(worker: "Worker", terms: Terms) -> Session:
    with _guard:
        session = _sessions.get(terms.run)
        if session is None or session.is_over:
            if reason := unfit(terms):
                raise UnfitWorkerError(reason)
            worker.handlers.setdefault(EXCHANGE, exchange)
            for run in [run for run, other in _sessions.items() if other.is_over]:
                del _sessions[run]
            loop = worker.loop.asyncio_loop  # type: ignore[attr-defined]
            session = Session(
                terms, loop, partial(_is_wanted, worker), partial(_vouch, worker)
            )
            _sessions[terms.run] = session
        return session


def _is_wanted(worker: "Worker", task: str) -> bool:
    """Whether Dask still wants a task that runs here."""
    state = worker.state.tasks.get(task)
    return (
        state is not None
        and state.state == "executing"
        and worker.status.name in ("running", "paused", "closing_gracefully")
    )


async def _vouch(worker: "Worker", session: str) -> None:
    """Have the scheduler count how often it was told that a session can be reached."""
    scheduler: Any = worker.scheduler
    await scheduler.log_event(topic=topic_of(session), msg={})


async def exchange(request: bytes) -> Optional[bytes]:
    """The handler of a worker for exchanges; None where there is no such session."""
    asked = unpacked(Request, request)
    for session in list(_sessions.values()):
        if session.id == asked.session:
            return packed(await session.exchange(asked))
    return None
