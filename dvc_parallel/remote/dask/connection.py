"""The connection with a Dask scheduler, made anew when it is lost."""

import asyncio
import pickletools
import threading
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Callable, Optional

from distributed import Client
from distributed.protocol import pickle as dask_pickle

from dvc_parallel.engine.lock_wait import Wait
from dvc_parallel.engine.runner import Offer, RunnerError
from dvc_parallel.remote.typed import typed

from .protocol import (
    EXCHANGE,
    TOPIC,
    Announcement,
    Reply,
    Request,
    packed,
    topic_of,
    unpacked,
)

if TYPE_CHECKING:
    from .cluster import Scheduler

# Seconds for which a scheduler may be unreachable at the start.
AT_START = 10.0
# Seconds from one look at whether to say something to the next.
LOOK = 1.0
# Seconds that a worker has to answer where it is to be known whether it is there.
AT_ONCE = 5.0
# More than exchanges under way.
CONNECTIONS = 4096
# Characters of an exception of Dask's that are shown.
LONGEST = 500
WAITS_LONGER = "DASK_DVC_PARALLEL__PATIENCE=30m waits longer"


async def told(awaited: Awaitable[Any], what: str) -> Any:
    """Await something, and say so: at once, after 10 s, and then each minute."""
    wait, future = Wait(), asyncio.ensure_future(awaited)
    try:
        while not future.done():
            wait.tell(what)
            await asyncio.wait([future], timeout=LOOK)
        return future.result()
    finally:
        future.cancel()


_has = threading.local()
_unpickle = dask_pickle.loads


def _unpickle_unless_refused(data: Any, *, buffers: Any = ()) -> Any:
    """Stands in for what Dask unpickles with."""
    if getattr(_has, "strangers", False):
        raise UnpicklingError("DVC unpickles nothing that comes from a Dask cluster")
    return _unpickle(data, buffers=buffers)


def refuse_pickles() -> None:
    """Have Dask unpickle nothing in the calling thread, from now on."""
    _has.strangers = True
    dask_pickle.loads = _unpickle_unless_refused


def _have_it_unpickle_nothing(client: Client, on_event: Callable[..., None]) -> None:
    """Have a client, which has not begun yet, take what others send as it is.

    It would unpickle what tasks return and raise, the types of results, and warnings.
    """
    client.rpc.deserialize = False
    client.connection_args = {**client.connection_args, "deserialize": False}
    handlers: dict[str, Any] = client._stream_handlers
    in_memory, erred = handlers["key-in-memory"], handlers["task-erred"]
    handlers.update(
        {
            "key-in-memory": lambda key=None, **_: in_memory(key=key),
            "task-erred": lambda key=None, exception=None, **_: erred(
                key=key, exception=text_of(exception)
            ),
            "event": lambda topic=None, event=None: on_event(topic, event),
        }
    )


def text_of(pickled: Any) -> str:
    """The names and texts in an exception that Dask has sent, unread."""
    data = getattr(pickled, "data", None)
    if data is None:
        data = b"".join(map(bytes, getattr(pickled, "frames", ())))
    texts = []
    with suppress(Exception):
        for _, text, _ in pickletools.genops(data):
            if isinstance(text, str):
                texts.append(text)
    return " ".join(texts)[:LONGEST] or "unknown"


def _offer_of(worker: Mapping[str, Any]) -> dict[str, Any]:
    resources = worker["resources"]
    name, threads = str(worker["name"]), worker["nthreads"]
    return {"name": name, "threads": threads, "resources": resources}


class Connection:
    """Owned by the event loop of the runner.

    Args:
        scheduler: where it is.
        patience: seconds for which it may be unreachable later on, when it may be
            started anew.
        on_announcement: called with what workers announce.
    """

    def __init__(
        self,
        scheduler: "Scheduler",
        patience: float,
        on_announcement: Callable[[Announcement], None],
    ):
        self._scheduler = scheduler
        self._patience = patience
        self._on_announcement = on_announcement
        self._client: Optional[Client] = None
        self._connecting: Optional[asyncio.Future[Client]] = None
        self._count = 0  # of all connections that there were
        self._error: Optional[RunnerError] = None

    async def client(self) -> Client:
        """A client that is connected.

        Raises:
            RunnerError: the scheduler cannot be reached, now and from now on.
        """
        if self._error is not None:
            raise self._error
        if self._client is not None and self._client.status == "running":
            return self._client
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.ensure_future(self._connect_anew())
        # NOTE: whoever waits no longer does not end it for others
        return await asyncio.shield(self._connecting)

    async def _connect_anew(self) -> Client:
        await self._close_client()
        address, runner = self._scheduler.address, self._scheduler.runner
        if not self._count:
            self._client = await self._connect(AT_START)
            return self._client
        patience = f"{self._patience:g} s"
        what = f"the scheduler of runner '{runner}' at {address} to come back"
        try:
            self._client = await told(
                self._connect(self._patience), f"{what}, for at most {patience}"
            )
        except RunnerError as exc:
            self._error = RunnerError(
                f"{exc}; start it again at this address, and its workers, and repeat "
                f"the command: what has ended is recorded. {WAITS_LONGER}"
            )
            raise self._error from exc
        return self._client

    async def _connect(self, timeout: float) -> Client:
        try:
            client = Client(
                self._scheduler.address,
                security=self._scheduler.security,
                timeout=timeout,
                asynchronous=True,
                set_as_default=False,
                connection_limit=CONNECTIONS,
            )
            _have_it_unpickle_nothing(client, self._take)
            await client
        except (OSError, ValueError, TypeError, ImportError) as exc:
            raise RunnerError(
                f"runner '{self._scheduler.runner}': cannot reach the Dask scheduler "
                f"at {self._scheduler.address} within {timeout:g} s: {exc}"
            ) from exc
        self._count += 1
        client.subscribe_topic(TOPIC, None)
        return client

    def _take(self, topic: str, event: tuple[float, Any]) -> None:
        """Take what anybody has told about a topic."""
        if topic == TOPIC:
            self._on_announcement(unpacked(Announcement, event[1]["announcement"]))

    async def offers(self) -> dict[str, Offer]:
        """The workers that there are, by their addresses."""
        client = await self.client()
        identity = await client.scheduler.identity()  # type: ignore[union-attr]
        return {
            address: typed(Offer, _offer_of(w))
            for address, w in identity["workers"].items()
        }

    async def await_workers(self) -> None:
        """Return when there is a worker.

        Raises:
            RunnerError: there are none, and none is to be expected.
        """
        client = await self.client()
        made = self._scheduler.is_made
        is_there = bool(await self.offers())
        # NOTE: a cluster that adapts itself has workers only while it has tasks
        task: Any = client.submit(int, pure=False)
        runs = asyncio.wait_for(task.exception(), None if made else AT_START)
        try:
            await (runs if is_there else told(runs, "the first worker of the cluster"))
        except asyncio.TimeoutError:
            raise RunnerError(
                f"runner '{self._scheduler.runner}': no worker of the Dask scheduler "
                f"at {self._scheduler.address} ran anything within {AT_START:g} s"
            ) from None
        finally:
            task.release()

    async def await_workers_again(self) -> None:
        """Return when there is a worker, where all of them have gone.

        Raises:
            RunnerError: none has come for too long; so is nothing else from now on.
        """

        async def there_is_one() -> None:
            while True:
                if await self.offers():
                    return
                await asyncio.sleep(LOOK)

        address, runner = self._scheduler.address, self._scheduler.runner
        made = self._scheduler.is_made
        limit = "" if made else f", for at most {self._patience:g} s"
        what = f"a worker, as the scheduler of runner '{runner}' at {address} has none"
        try:
            awaited = told(there_is_one(), what + limit)
            await asyncio.wait_for(awaited, None if made else self._patience)
        except asyncio.TimeoutError:
            self._error = RunnerError(
                f"runner '{runner}': the Dask scheduler at {address} has had no "
                f"worker for {self._patience:g} s; start workers (`dask worker "
                f"{address}`) and repeat the command: what has ended is recorded. "
                f"{WAITS_LONGER}"
            )
            raise self._error from None

    async def last_word(self, session: str) -> Any:
        """What the scheduler has last heard of a session, or that it is another one.

        Raises:
            OSError: it cannot be reached.
            RunnerError: nor will it be.
        """
        client = await self.client()
        events = await client.scheduler.events(topic=topic_of(session))  # type: ignore[union-attr]
        return self._count, len(events), events and events[-1][0]

    async def ask(self, address: str, request: Request) -> Reply:
        """Make an exchange with a worker.

        Raises:
            OSError: it cannot be reached, or knows nothing of the session.
            MalformedError: what it says makes no sense.
        """
        client = await self.client()
        asked = packed(request)
        if address.startswith("inproc://"):
            reply = await getattr(client.rpc(address), EXCHANGE)(request=asked)
        else:
            message = {"op": EXCHANGE, "request": asked}
            reply = await client.scheduler.proxy(worker=address, msg=message)  # type: ignore[union-attr]
        if reply is None:
            raise OSError("no such session")
        return unpacked(Reply, reply)

    async def reachable(self, addresses: Iterable[str]) -> set[str]:
        """The workers that answer at once, of some."""
        client = await self.client()
        message = {"op": "identity"}

        async def answers(address: str) -> bool:
            proxy = client.scheduler.proxy(worker=address, msg=message)  # type: ignore[union-attr]
            with suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(proxy, AT_ONCE)
                return True
            return False

        asked = list(addresses)
        found = await asyncio.gather(*map(answers, asked))
        return {address for address, there in zip(asked, found) if there}

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        await self._close_client()

    async def _close_client(self) -> None:
        if self._client is not None:
            with suppress(Exception):
                await asyncio.wait_for(self._client.close(), AT_START)
            self._client = None
