"""The coordinator's end of the exchanges with a session."""

import asyncio
import queue
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from dvc_parallel.engine.lock_wait import SAYS_AGAIN, say
from dvc_parallel.engine.runner import CommandLostError, Place, RunnerError

from .protocol import Announcement, Ended, Printed, Reply, Request, Terms
from .session import Work

# Seconds after the end of a lease until which all has been killed; from an exchange
# that has failed to the next; and for others to join a request, as what is new is often
# dealt with at once.
MARGIN = 2.0
PAUSE = 0.5
LINGER = 0.002
# Seconds for which the end of a run waits for a worker that cannot be reached.
GIVES_UP = 60.0


@dataclass(frozen=True)
class Begun:
    """A worker may start a task by now."""

    worker: str


@dataclass(eq=False)
class Task:
    """A task of Dask, and the thread that waits for it.

    Attributes:
        work: what it is for.
        place: where it may run.
        inbox: for the thread: what there is to deal with; an exception at the end, if
            it is not an :class:`Ended`.
        channel: to where it runs, since it may.
        consumed: bytes that the thread has dealt with; others may read it.
        told: how many of them the session has been told of.
    """

    work: Work
    place: Place
    inbox: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    channel: Optional["Channel"] = None
    consumed: int = 0
    told: int = 0


class Channel:
    """Exchanges with a session.  Owned by the event loop of the runner.

    Args:
        announcement: the first one of the session.
        terms: of the run.
        signals: all that were sent in the run; they grow.
        ask: makes an exchange.
        last_word: asks the scheduler for what it has last heard of a session, which
            is another value each time that somebody has vouched for it.

    Attributes:
        address, worker: of the worker, and its name.
        over: why nothing runs in the session any more, if so.
    """

    def __init__(
        self,
        announcement: Announcement,
        terms: Terms,
        signals: list[int],
        ask: Callable[[str, Request], Awaitable[Reply]],
        last_word: Callable[[str], Awaitable[Any]],
    ):
        self.address = announcement.address
        self.worker = announcement.name
        self.over: Optional[str] = None
        self._session = announcement.session
        self._terms = terms
        self._signals = signals
        self._ask = ask
        self._last_word = last_word
        self._word: Any = None
        self._tasks: dict[str, Task] = {}
        self._heard = 0
        self._heard_at = time.monotonic()
        self._received = 0
        self._closing = False
        self._has_to_tell = asyncio.Event()

    def permit(self, key: str, task: Task) -> None:
        """Permit the session to run a task."""
        if self.over is None and task.channel is None:
            task.channel = self
            self._tasks[key] = task
            task.inbox.put(Begun(self.worker))
        self.tell()

    def tell(self) -> None:
        """Tell the session what is new."""
        self._has_to_tell.set()

    def close(self) -> None:
        """End the session, with all that is left of it."""
        self._closing = True
        self.tell()

    async def talk(self) -> None:
        """Make exchanges until the session is over."""
        calls: set[asyncio.Task] = set()
        told_at = self._heard_at
        first_word = asyncio.ensure_future(self._doubt())
        while self.over is None:
            # NOTE: an older request is answered as a newer one comes
            if not calls or (self._has_to_tell.is_set() and len(calls) < 2):
                self._has_to_tell.clear()
                calls.add(asyncio.ensure_future(self._exchange()))
            news = asyncio.ensure_future(self._has_to_tell.wait())
            waits = {*calls, news} if len(calls) < 2 else calls
            await asyncio.wait(
                waits, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED
            )
            news.cancel()
            done = {call for call in calls if call.done()}
            calls -= done
            if self._left() <= 0 or not all(call.result() for call in done):
                await self._doubt()
                if self._closing and not self._tasks:
                    self.lose("it cannot be reached")
                if told_at < self._heard_at + SAYS_AGAIN <= time.monotonic():
                    told_at = time.monotonic()
                    say(
                        f"Worker '{self.worker}' does not answer; unless it does, its "
                        f"commands end in {self._left():.0f} s"
                    )
                await asyncio.sleep(PAUSE)
            else:
                await asyncio.sleep(LINGER)
        for call in {first_word, *calls}:
            call.cancel()

    def _left(self) -> float:
        """Seconds until nothing can run any more, unless somebody vouches for it."""
        lease = self._terms.lease
        if self._closing or self._signals:
            lease = min(lease, GIVES_UP)
        return max(0.0, self._heard_at + lease + MARGIN - time.monotonic())

    async def _doubt(self) -> None:
        """Lose a session of which the scheduler has not heard for too long, either.

        It does so only on the word of the scheduler, which the session may still reach
        where this process could not, as it was asleep or cut off itself.
        """
        try:
            awaited = self._last_word(self._session)
            word = await asyncio.wait_for(awaited, self._terms.hold + 5)
        except RunnerError as exc:
            self.lose(str(exc))
        except Exception:  # noqa: BLE001
            if (self._closing or self._signals) and self._left() <= 0:
                self.lose("it cannot be reached")
        else:
            if word != self._word:
                self._word, self._heard_at = word, time.monotonic()
            elif self._left() <= 0:
                self.lose("it has not answered for too long")

    async def _exchange(self) -> bool:
        """Make one; return whether there was a reply."""
        timeout = min(2 * self._terms.hold + 5, self._terms.lease)
        try:
            request = self._request()
            reply = await asyncio.wait_for(self._ask(self.address, request), timeout)
        except Exception:  # noqa: BLE001
            return False
        self._heard = max(self._heard, reply.number)
        self._heard_at = time.monotonic()
        for number, news in reply.news:
            if number == self._received + 1:
                self._received = number
                self._take(news)
        if reply.over:
            self.lose(reply.over)
        return True

    def _request(self) -> Request:
        for task in self._tasks.values():
            task.told = task.consumed
        return Request(
            self._session,
            self._heard,
            self._received,
            frozenset(self._tasks),
            {key: task.told for key, task in self._tasks.items()},
            tuple(self._signals),
            self._closing,
        )

    def _take(self, news: Any) -> None:
        task = self._tasks.get(news.task)
        if task is None:
            return
        task.inbox.put(news)
        if isinstance(news, Ended):
            del self._tasks[news.task]
            self.tell()

    def lose(self, why: str) -> None:
        """Take note that nothing runs in the session any more."""
        if self.over is None:
            self.over = why
            for task in self._tasks.values():
                task.inbox.put(CommandLostError(self.worker, why))
            self._tasks.clear()

    def consumed(self, task: Task, news: Printed) -> bool:
        """Called by the thread of a task; return whether that is to be told."""
        task.consumed += len(news.data)
        return task.consumed - task.told > self._terms.window // 4
