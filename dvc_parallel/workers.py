"""The threads that jobs run in."""

import queue
import threading
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    from typing_extensions import Self


class Workers:
    """Threads that are started as they are needed, and joined at the end.

    Owned by the thread that makes them.

    Args:
        count: how many calls run at a time; more are queued.
        at_end: called in each of the threads before it ends.
    """

    def __init__(self, count: int, at_end: Callable[[], None]):
        self._count = count
        self._at_end = at_end
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)

    def submit(self, func: Callable, *args: Any) -> None:
        """Call a function that raises nothing, as soon as a thread is free.

        Raises:
            RuntimeError: the system does not even start one thread.
        """
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._count:
            self._start()
        self._calls.put((func, args))

    def _start(self) -> None:
        name = f"dvc-stage-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        call: Optional[tuple] = self._calls.get()
        while call is not None:
            func, args = call
            func(*args)
            self._idle.release()
            call = self._calls.get()
        self._at_end()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
