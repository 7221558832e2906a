"""Commands on the workers of a Dask cluster, as the executor knows it."""

import asyncio
import os
import threading
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

import dask.config
from dask.utils import parse_timedelta
from shortuuid import uuid

from dvc_parallel.engine import logger, remote_runner
from dvc_parallel.engine.lock_wait import Wait
from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.remote_runner import RemoteRunner
from dvc_parallel.engine.runner import (
    ANYWHERE,
    Command,
    Offer,
    OnStart,
    Output,
    Place,
    RunnerClosedError,
    RunnerError,
    ignore_start,
)
from dvc_parallel.engine.settings import checked
from dvc_parallel.engine.terminal import visible

from . import dask_worker
from .channel import Begun, Channel, Task
from .cluster import is_open
from .connection import Connection, refuse_pickles
from .fitness import examine, sight, versions
from .protocol import Announcement, Ended, Printed, Terms, result_of
from .session import Work
from .work import InFolder, OneCommand, portable

if TYPE_CHECKING:
    from concurrent.futures import Future as ThreadFuture

    from distributed import Future

    from .cluster import Scheduler


# Settings of Dask, which has them from its configuration files or the environment.  For
# how long commands go on where nothing is heard of DVC, and so to wait for them before
# they are tried again; and how long to wait for a scheduler or workers to come back.
LEASE = ("dvc-parallel.lease", "60s")
PATIENCE = ("dvc-parallel.patience", "5m")
# Seconds for which a worker may be silent.
HOLD = 10.0
# Bytes that a command may print ahead of those who read it.
WINDOW = 2**20
# Seconds from one look for a worker to the next, where there is none.
LOOK = 2.0
# Addresses that a warning names.
SHOWN = 3


def _seconds(setting: str, default: str) -> float:
    """A time among the settings of Dask.

    Raises:
        InvalidArgumentError: it is none.
    """

    def read(value: Any) -> float:
        with suppress(Exception):
            if (seconds := parse_timedelta(value)) >= 1:
                return float(seconds)
        raise ValueError(f"expected a time of 1 s or more, such as {default}: {value}")

    name = f"DASK_{setting.upper().replace('-', '_').replace('.', '__')}"
    return checked(name, read, dask.config.get(setting, default))


class DaskRunner(RemoteRunner):
    """Runs commands on the workers of a Dask cluster.

    Any thread may call any method.  All that belongs to Dask, and the channels, are
    owned by a thread of its own, which runs an event loop.

    Args:
        scheduler: closed with the runner.
        folder: in the workspace, for a file by which workers know it.

    Raises:
        RunnerError: the scheduler cannot be reached.
        InvalidArgumentError: a setting makes no sense.
    """

    def __init__(self, scheduler: "Scheduler", folder: OwnFolder):
        self._scheduler = scheduler
        self._connection = Connection(scheduler, _seconds(*PATIENCE), self._announced)
        run = uuid()
        name = f"workspace-{run}"
        self._token = folder.path_of(name)
        folder.make()
        with folder.replace(name) as fobj:
            fobj.write(run)
        lease = _seconds(*LEASE)
        hold = min(HOLD, lease / 4)
        self._terms = Terms(run, lease, hold, WINDOW, (self._token, run), versions())
        self._closed = False
        self._signals: list[int] = []
        self._channels: dict[str, Channel] = {}  # by session
        self._under_way: set[asyncio.Task] = set()
        self._talks: list[asyncio.Task] = []
        self._pending: set[Task] = set()  # all that do not run yet
        self._waiting: dict[str, Task] = {}  # all tasks that Dask has, by their keys
        self._futures: dict[str, Future] = {}
        self._unfit: set[str] = set()  # addresses of workers that cannot run commands
        self._lost: set[str] = set()  # and of those of which nothing is heard
        self._loop = asyncio.new_event_loop()
        self._thread: Optional[threading.Thread] = threading.Thread(
            target=self._loop.run_forever, name="dvc-dask", daemon=True
        )
        self._thread.start()
        self._loop.call_soon_threadsafe(refuse_pickles)
        connected = self._in_loop(self._connection.await_workers())
        try:
            connected.result()
        except BaseException:
            connected.cancel()
            self.close()
            raise
        self._loop.call_soon_threadsafe(self._start, self._watch())

    def _in_loop(self, coroutine: Any) -> "ThreadFuture[Any]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    # What threads call

    def offers(self) -> Sequence[Offer]:
        return list(self._in_loop(self._offers()).result().values())

    def check(self, places: Iterable[Place]) -> bool:
        return self._in_loop(self._check(list(places))).result()

    def run(
        self, command: Command, output: Output, on_start: OnStart = ignore_start
    ) -> int:
        env = portable(os.environ if command.env is None else command.env)
        work = OneCommand(replace(command, env=env))
        status = self._perform(work, output, command.place, on_start)
        if type(status) is not int:
            raise RunnerError(f"a worker has sent {status!r}, which is no exit status")
        return status

    def perform(
        self,
        work: remote_runner.Work,
        output: Output,
        place: Place = ANYWHERE,
        on_start: OnStart = ignore_start,
    ) -> Any:
        return self._perform(InFolder(work), output, place, on_start)

    def _perform(
        self,
        work: Work,
        output: Output,
        place: Place,
        on_start: OnStart,
    ) -> Any:
        task = Task(work, place)
        self._loop.call_soon_threadsafe(self._start, self._see_through(task))
        while True:
            news = task.inbox.get()
            if isinstance(news, Printed):
                output(news.stream, news.data)
                assert task.channel
                if task.channel.consumed(task, news):
                    self._loop.call_soon_threadsafe(task.channel.tell)
            elif isinstance(news, Begun):
                on_start(news.worker)
            elif isinstance(news, Ended):
                return result_of(news)
            else:
                raise news

    def signal(self, signum: int) -> None:
        self._closed = True
        # NOTE: it may be closed already
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._signal, signum)

    def close(self) -> None:
        self._closed = True
        if self._thread is None:
            return
        with suppress(Exception):
            self._in_loop(self._close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None
        self._loop.close()
        self._scheduler.close()
        with suppress(OSError):
            os.remove(self._token)

    # What the event loop does

    async def _offers(self) -> dict[str, Offer]:
        """The workers that there are; some, if that is possible."""
        while not (offers := await self._connection.offers()):
            # NOTE: those that come with tasks have gone without one
            await self._connection.await_workers()
        return offers

    async def _check(self, places: Collection[Place]) -> bool:
        client = await self._connection.client()
        while True:
            used = {
                address: offer
                for address, offer in (await self._offers()).items()
                if any(place.is_on(offer) for place in places)
            }
            found = await sight(client, used, self._terms)
            if found or not used:
                break
        if found and all(found.values()):
            self._terms = replace(self._terms, token=None)
        self._warn_of_listeners(used)
        reasons = await self._examine(used)
        if reasons:
            listed = "".join(
                f"\n  worker '{visible(used[address].name)}' {reason}"
                for address, reason in sorted(reasons.items())
            )
            raise RunnerError(f"runner '{self._scheduler.runner}':{listed}")
        return self._terms.token is not None

    def _warn_of_listeners(self, addresses: Iterable[str]) -> None:
        """Warn of what everybody on the way can read, and change."""
        others = {a for a in (self._scheduler.address, *addresses) if is_open(a)}
        if not others:
            return
        sent = (
            f"the whole environment of this process ({len(os.environ)} variables)"
            if self._terms.token is not None
            else "all settings of DVC remotes, with passwords,"
        )
        logger.warning(
            "runner '%s': %s, commands and data go to %s without encryption, and "
            "whoever is on the way can run commands as you; use TLS (docs/cluster.md)",
            self._scheduler.runner,
            sent,
            visible(", ".join(sorted(others)[:SHOWN])),
        )

    async def _examine(self, offers: dict[str, Offer]) -> dict[str, str]:
        client = await self._connection.client()
        reasons, warnings = await examine(client, offers, self._terms)
        for address, warning in warnings.items():
            name = visible(offers[address].name)
            logger.warning("worker '%s' %s", name, visible(warning, lines=True))
        return reasons

    async def _see_through(self, task: Task) -> None:
        """Submit a task to Dask until it has been permitted to run, and has ended."""
        self._pending.add(task)
        try:
            while task.channel is None and not self._closed:
                await self._have_run(task)
            if task.channel is None:
                task.inbox.put(RunnerClosedError())
        except Exception as exc:  # noqa: BLE001
            if task.channel is None:
                task.inbox.put(exc)
        finally:
            self._pending.discard(task)

    async def _watch(self) -> None:
        """End what waits for workers, if all of them have gone and none comes."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                if self._is_stuck() and not await self._connection.offers():
                    await self._connection.await_workers_again()
            except RunnerError:
                # NOTE: each is submitted again, and finds that it cannot be
                self._withdraw()
                return
            except OSError:
                continue

    def _is_stuck(self) -> bool:
        """Whether something waits, and nothing runs."""
        return bool(self._waiting) and not any(
            task.channel and task.channel.over is None
            for task in self._waiting.values()
        )

    async def _have_run(self, task: Task) -> None:
        """Submit a task to Dask, and return when it has ended for Dask.

        Raises:
            RunnerError: it cannot be run.
        """
        client = await self._connection.client()
        workers = await self._workers_for(task.place)
        key = f"dvc-command-{uuid()}"
        self._waiting[key] = task
        future = self._futures[key] = client.submit(
            dask_worker.perform,
            key,
            self._terms,
            task.work,
            key=key,
            pure=False,
            retries=0,
            resources=dict(task.place.resources) or None,
            workers=workers,
            allow_other_workers=False,
        )
        try:
            # NOTE: that is a text of ours; its result would have to be unpickled
            error = await future.exception()
            if error is None or isinstance(error, CancelledError):
                # NOTE: by Dask, where it has lost the scheduler, or by us; or the
                # worker has not heard of us
                await asyncio.sleep(0)
            elif task.channel is None and not self._closed:
                await self._exclude_unfit(error)
        finally:
            del self._waiting[key], self._futures[key]
            future.release()

    async def _workers_for(self, place: Place) -> Optional[list[str]]:
        """Addresses of those that a task may run on; None for all."""
        wait = Wait()
        while place.workers or self._unfit or self._lost:
            offers = await self._connection.offers()
            self._unfit &= set(offers)
            self._lost &= set(offers)
            fit = {
                address
                for address in set(offers) - self._unfit
                if place.is_on(offers[address])
            }
            if fit - self._lost:
                return list(fit - self._lost)
            if found := await self._connection.reachable(fit):
                self._lost -= found
                continue
            wait.tell(f"{place} that can run the next command")
            if self._closed:
                raise RunnerClosedError
            await asyncio.sleep(LOOK)
        return None

    async def _exclude_unfit(self, exc: BaseException) -> None:
        """Find workers that cannot run commands; raise the error if there are none."""
        offers = {
            address: offer
            for address, offer in (await self._connection.offers()).items()
            if address not in self._unfit
        }
        reasons = await self._examine(offers)
        if not reasons:
            raise RunnerError(f"Dask cannot run a command: {exc}") from exc
        for address, reason in reasons.items():
            name = visible(offers[address].name)
            reason = visible(reason, lines=True)
            logger.warning("worker '%s' is not used: it %s", name, reason)
        self._unfit.update(reasons)

    def _announced(self, announcement: Announcement) -> None:
        task = self._waiting.get(announcement.task)
        if announcement.run != self._terms.run or task is None or self._closed:
            return
        if task.channel is not None and task.channel is not self._channels.get(
            announcement.session
        ):
            return
        channel = self._channels.get(announcement.session)
        if channel is None:
            channel = self._channels[announcement.session] = Channel(
                announcement,
                self._terms,
                self._signals,
                self._connection.ask,
                self._connection.last_word,
            )
            self._talks.append(self._start(self._talk(channel)))
        self._lost.discard(announcement.address)
        channel.permit(announcement.task, task)

    def _start(self, coroutine: Any) -> asyncio.Task:
        started = asyncio.ensure_future(coroutine)
        self._under_way.add(started)
        started.add_done_callback(self._under_way.discard)
        return started

    async def _talk(self, channel: Channel) -> None:
        await channel.talk()
        if self._closed:
            return
        # NOTE: Dask may have given it tasks that it does not start
        self._lost.add(channel.address)
        self._withdraw()

    def _withdraw(self) -> None:
        """Cancel tasks that do not run yet; each is submitted again, unless closed."""
        for key, task in list(self._waiting.items()):
            if task.channel is None or task.channel.over is not None:
                self._start(self._futures[key].cancel(force=True))

    def _signal(self, signum: int) -> None:
        self._signals.append(signum)
        for task in self._pending:
            if task.channel is None:
                task.inbox.put(RunnerClosedError())
        self._withdraw()
        for channel in self._channels.values():
            channel.tell()

    async def _close(self) -> None:
        self._withdraw()
        for channel in self._channels.values():
            channel.close()
        if self._talks:
            await asyncio.wait(self._talks)
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._connection.close()
