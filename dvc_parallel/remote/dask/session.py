"""The commands of a run on a worker: what they print goes to the coordinator, and they
end when nothing has been heard of it for too long."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from shortuuid import uuid

from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.runner import (
    Command,
    OnStart,
    Runner,
    RunnerClosedError,
    ignore_start,
)
from dvc_parallel.engine.signals import SIGKILL
from dvc_parallel.processes.forks import ForkServers
from dvc_parallel.processes.supervisor import RunSupervisor, uptime

from .protocol import Ended, News, Printed, Reply, Request, Terms, ended

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from dvc_parallel.engine.runner import Output

# Called on a worker with what is printed, and with where to start commands.
Work = Callable[["Output", Runner], Any]

SILENCE = "DVC has not answered for too long"

# Seconds between two looks at whether the tasks are still wanted, and between two
# announcements of one that has no permission.
LOOK = 1.0
ANNOUNCE = 5.0
# How often in the time of a lease the scheduler is told of a session whose coordinator
# is silent.
VOUCHES = 4


class SessionOverError(Exception):
    """The lease is over, or the coordinator wants no more."""


class TaskRunner(Runner):
    """Runs the commands of one task with the runner of its session.

    Args:
        on_command: called before each of them; raises an error if it may not run.
    """

    def __init__(self, runner: Runner, on_command: Callable[[], None]):
        self._runner = runner
        self._on_command = on_command

    def run(
        self, command: Command, output: "Output", on_start: OnStart = ignore_start
    ) -> int:
        self._on_command()
        return self._runner.run(command, output, on_start)

    def signal(self, signum: int) -> None:
        self._runner.signal(signum)

    def close(self) -> None:
        self._runner.close()


class Session:
    """The commands of a run on a worker.

    Any thread may call any method; ``exchange`` is for the worker's event loop.

    Args:
        terms: of the run.
        loop: the event loop of the worker.
        is_wanted: tells whether Dask wants a task to run on.
        vouch: tells the scheduler that the session, of an ID, can be reached; returns
            when the scheduler knows.

    Attributes:
        id: no other session has it.
    """

    def __init__(
        self,
        terms: Terms,
        loop: "AbstractEventLoop",
        is_wanted: Callable[[str], bool],
        vouch: Callable[[str], Awaitable[None]],
    ):
        self.id = uuid()
        self._terms = terms
        self._loop = loop
        self._is_wanted = is_wanted
        self._vouch = vouch
        # NOTE: of all fields below; and its waiters are told of all changes
        self._changed = threading.Condition()
        self._tasks: set[str] = set()
        self._permitted: frozenset[str] = frozenset()
        self._begun: set[str] = set()  # tasks of which a command has begun
        self._ends: dict[str, int] = {}  # number of the news of a task's end
        self._consumed: dict[str, int] = {}
        self._printed: dict[str, int] = {}
        self._news: deque[tuple[int, News]] = deque()
        self._count = 0  # of all news
        self._received = 0
        self._signals = 0  # how many of them have been passed on
        self._ending: Optional[str] = None  # why, before all has been killed
        self._over: Optional[str] = None
        self._replies = 0
        self._turn = 0  # of requests: an older one is answered when a newer one comes
        # NOTE: what is heard of first is the announcement
        self._heard_at = self._vouched_at = uptime()
        self._said: dict[int, float] = {0: self._heard_at}
        self._lease_end = self._heard_at + terms.lease
        self._vouching: Optional[asyncio.Future] = None
        self._kept: set[str] = set()  # tasks that Dask has given up, but not the lease
        self._supervisor = RunSupervisor(lease_end=self._lease_end)
        self._runner = LocalRunner(self._supervisor, ForkServers())
        self._wake: Optional[asyncio.Event] = None
        threading.Thread(target=self._watch, name="dvc-lease", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether nothing starts in it any more."""
        return self._ending is not None or uptime() >= self._lease_end

    def perform(self, task: str, work: Work, announce: Callable[[], None]) -> None:
        """Do what a task is for, and return when the coordinator knows of its end.

        Args:
            task: its key.
            work: what it is for.
            announce: asks the coordinator for permission.

        Raises:
            SessionOverError: it may not, or its end may be unknown.
        """
        with self._changed:
            self._tasks.add(task)
        try:
            self._await_permission(task, announce)
            runner = TaskRunner(self._runner, partial(self._begin, task))
            try:
                news = ended(task, work(partial(self._print, task), runner))
            except Exception as exc:  # noqa: BLE001
                news = ended(task, error=exc)
            with self._changed:
                # NOTE: then, it may have been killed for that
                self._check()
                self._end_task(news)
                while self._received < self._ends[task]:
                    self._check()
                    self._changed.wait()
        finally:
            with self._changed:
                self._tasks.remove(task)
                self._begun.discard(task)
                self._ends.pop(task, None)
                self._printed.pop(task, None)
                self._kept.discard(task)

    def _begin(self, task: str) -> None:
        """Take note that a command of a task begins.

        Raises:
            RunnerClosedError: its end has been told.
        """
        with self._changed:
            if task in self._ends:
                raise RunnerClosedError
            self._begun.add(task)

    def _call_off(self) -> None:
        """Tell the end of tasks which will run no command, whatever they do yet.

        They may be getting data, for hours; nobody can end that, or has to wait for it.
        """
        for task in (self._tasks & self._permitted) - self._begun:
            self._end_task(ended(task, error=RunnerClosedError()))

    def _end_task(self, news: Ended) -> None:
        """Tell the end of a task, if it has not been told."""
        if news.task not in self._ends:
            self._ends[news.task] = self._tell(news)

    def _await_permission(self, task: str, announce: Callable[[], None]) -> None:
        with self._changed:
            announced = -ANNOUNCE
            while task not in self._permitted:
                self._check()
                if not self._is_wanted(task):
                    raise SessionOverError("no longer wanted")
                if time.monotonic() >= announced + ANNOUNCE:
                    announced = time.monotonic()
                    announce()
                self._changed.wait(LOOK)

    def _check(self) -> None:
        if self.is_over:
            raise SessionOverError(self._ending or SILENCE)

    def _print(self, task: str, stream: str, data: bytes) -> None:
        with self._changed:
            sent = self._printed.get(task, 0)
            while sent - self._consumed.get(task, 0) > self._terms.window:
                if self._ending is not None or not self._is_under_way(task):
                    return
                self._changed.wait()
            # NOTE: what is printed after the end of its command is dropped
            if self._is_under_way(task):
                self._printed[task] = sent + len(data)
                self._tell(Printed(task, stream, data))

    def _is_under_way(self, task: str) -> bool:
        return task in self._tasks and task not in self._ends

    def _tell(self, news: News) -> int:
        self._count += 1
        self._news.append((self._count, news))
        self._notify()
        return self._count

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            # NOTE: a worker that has closed its loop still has to end its commands
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake.set)

    async def exchange(self, request: Request) -> Reply:
        """Take a request, and answer when there is something to say."""
        end = time.monotonic() + self._terms.hold
        with self._changed:
            self._take(request)
            self._turn += 1
            turn = self._turn
            if self._wake is not None:
                self._wake.set()
            self._wake = wake = asyncio.Event()
        while True:
            with self._changed:
                left = end - time.monotonic()
                told = any(number > request.received for number, _ in self._news)
                if told or self._over or turn != self._turn or left <= 0:
                    return self._reply(request)
                wake.clear()
            try:
                await asyncio.wait_for(wake.wait(), left)
            except asyncio.TimeoutError:
                continue

    def _take(self, request: Request) -> None:
        self._heard_at = uptime()
        said = self._said.get(request.heard)
        if said is not None:
            self._renew(said)
            self._said = {n: t for n, t in self._said.items() if n >= request.heard}
        self._received = max(self._received, request.received)
        while self._news and self._news[0][0] <= self._received:
            self._news.popleft()
        self._permitted |= request.permitted & self._tasks
        for task, count in request.consumed.items():
            self._consumed[task] = max(self._consumed.get(task, 0), count)
        for signum in request.signals[self._signals :]:
            self._signals += 1
            self._runner.signal(signum)
            self._call_off()
        if request.closing and self._ending is None:
            threading.Thread(target=self._end, args=("closed",), daemon=True).start()
        self._changed.notify_all()

    def _renew(self, since: float) -> None:
        """Have the lease begin at a time, if it is not over."""
        if uptime() < self._lease_end:
            self._lease_end = max(self._lease_end, since + self._terms.lease)
            self._supervisor.renew(self._lease_end)

    def _start_vouching(self) -> None:
        self._vouching = asyncio.ensure_future(self._renew_by_scheduler())

    async def _renew_by_scheduler(self) -> None:
        """Renew the lease, as a coordinator that sleeps could reach the session.

        It gives up a session only after the scheduler has told it that nobody has
        vouched for it for a whole lease.
        """
        since = uptime()
        try:
            await asyncio.wait_for(self._vouch(self.id), self._terms.lease)
        except Exception:  # noqa: BLE001
            return
        with self._changed:
            self._renew(since)

    def _reply(self, request: Request) -> Reply:
        self._replies += 1
        self._said[self._replies] = uptime()
        news = tuple(news for news in self._news if news[0] > request.received)
        return Reply(self._replies, news, self._over)

    def _watch(self) -> None:
        """End the session when nobody wants it any more."""
        unwanted: set[str] = set()
        while self._ending is None:
            with self._changed:
                left = self._lease_end - uptime()
                if left > 0:
                    self._changed.wait_for(lambda: self._ending, min(left, LOOK))
                tasks = set(self._tasks)
                silence = uptime() - self._heard_at
            if left <= 0:
                self._end(SILENCE)
            now = {task for task in tasks if not self._is_wanted(task)}
            if silence > 1.5 * self._terms.hold + 2 * LOOK:
                # NOTE: Dask gives up a client that is asleep, too, after a while; of
                # one that has ended, something was heard just before
                self._kept |= now
            # NOTE: twice, as Dask may know of the end of a task a little earlier
            elif tasks and tasks <= (now & unwanted) - self._kept:
                self._end("Dask has lost DVC")
            unwanted = now
            since = uptime() - max(self._heard_at, self._vouched_at)
            if tasks - now and since > self._terms.lease / VOUCHES:
                self._vouched_at = uptime()
                self._loop.call_soon_threadsafe(self._start_vouching)

    def _end(self, why: str) -> None:
        """Kill what runs, and have it known that it is gone."""
        with self._changed:
            if self._ending is not None:
                return
            self._ending = why
            self._notify()
        self._runner.signal(SIGKILL)
        self._runner.close()
        with self._changed:
            self._over = self._ending
            self._notify()
