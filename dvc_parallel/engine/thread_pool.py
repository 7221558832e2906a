"""The threads that jobs run in."""

import queue
import threading
from collections import deque
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.exceptions import DvcException

if TYPE_CHECKING:
    from typing_extensions import Self

Call = tuple[Callable, tuple]


class Workers:
    """Threads that are started as they are needed, and joined at the end.

    A thread is set aside for a call first, so that whoever queues for something on its
    behalf knows that it will come.  Any thread may call any method, but those that
    start threads: one at a time.

    Args:
        count: how many calls run at a time; more are queued.
        in_thread: makes what each of the threads is in.
    """

    def __init__(self, count: int, in_thread: Callable[[], AbstractContextManager]):
        self._count = count
        self._in_thread = in_thread
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._guard = threading.Lock()  # of the fields below
        self._idle = 0  # threads with no call before them, and not set aside
        self._late: deque[Call] = deque()  # that wait for the end of another one

    def set_aside(self) -> bool:
        """Have a thread wait for a call, if one is free.

        Raises:
            DvcException: the system does not even start one thread.
        """
        with self._guard:
            if self._idle:
                self._idle -= 1
                return True
        return len(self._threads) < self._count and self._start()

    def call(self, func: Callable, *args: Any) -> None:
        """Have the thread that is set aside call a function that raises nothing."""
        self._calls.put((func, args))

    def let_go(self) -> None:
        """Release the thread that is set aside."""
        if late := self._next():
            self._calls.put(late)

    def call_later(self, func: Callable, *args: Any) -> None:
        """Call a function that raises nothing, as soon as a thread is free."""
        with self._guard:
            # NOTE: one may have become so meanwhile
            if not self._idle:
                self._late.append((func, args))
                return
            self._idle -= 1
        self.call(func, *args)

    def _next(self) -> Optional[Call]:
        """A call for a thread that has become free, if one waits for that."""
        with self._guard:
            if self._late:
                return self._late.popleft()
            self._idle += 1
            return None

    def _start(self) -> bool:
        name = f"dvc-stage-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name)
        try:
            thread.start()
        except RuntimeError as exc:
            if not self._threads:
                raise DvcException("no stage can run") from exc
            return False
        self._threads.append(thread)
        return True

    def _work(self) -> None:
        with self._in_thread():
            call: Optional[Call] = self._calls.get()
            while call is not None:
                func, args = call
                func(*args)
                call = self._next() or self._calls.get()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
