"""The threads that jobs run in."""

import queue
import threading
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.exceptions import DvcException

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
        self._guard = threading.Lock()  # of the fields below
        self._idle = 0  # threads with no call before them
        self._late = 0  # calls that wait for a thread to be through with another one

    def submit(
        self, func: Callable, *args: Any, if_free: Callable[[], None] = lambda: None
    ) -> None:
        """Call a function that raises nothing, as soon as a thread is free.

        Args:
            if_free: called before, and only if a thread is free for it now.

        Raises:
            DvcException: the system does not even start one thread.
        """
        if self._claim():
            if_free()
        self._calls.put((func, args))

    def _claim(self) -> bool:
        """Have a thread for the next call, or take note that it has to wait for one."""
        with self._guard:
            if self._idle:
                self._idle -= 1
                return True
        if len(self._threads) < self._count and self._start():
            return True
        with self._guard:
            # NOTE: one may have become idle meanwhile
            free = bool(self._idle)
            self._idle -= free
            self._late += not free
        return free

    def _start(self) -> bool:
        name = f"dvc-stage-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name)
        try:
            thread.start()
        except RuntimeError as exc:
            if not self._threads:
                raise DvcException("no stage can be run") from exc
            return False
        self._threads.append(thread)
        return True

    def _work(self) -> None:
        call: Optional[tuple] = self._calls.get()
        while call is not None:
            func, args = call
            func(*args)
            with self._guard:
                if self._late:
                    self._late -= 1
                else:
                    self._idle += 1
            call = self._calls.get()
        self._at_end()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
