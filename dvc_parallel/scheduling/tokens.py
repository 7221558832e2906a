"""Sharing the slots of a run with what its commands run, through a jobserver."""

import os
import select
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Callable

from dvc.exceptions import DvcException

from .jobserver import Jobserver, Server

if TYPE_CHECKING:
    from typing_extensions import Self

    from .ready_queue import Admission

# The slot that a program has besides those in the pipe.
OWN = b""


class SharedSlots:
    """The admission of a plan whose stages take slots from a jobserver.

    A server's run takes one token for each stage that runs: that is the slot which a
    program in the stage has of its own.  A run inside another one has such a slot
    itself, and takes tokens for all stages but one.

    Owned by the owner of the plan.  To be used as a context manager; when that ends,
    all slots are given back, however the run has ended.

    Args:
        connect: makes the jobserver where slots are from.
        behind: the admission to ask otherwise.
        on_token: called in another thread when a stage had to wait for a slot, and
            there may be one now.

    Raises:
        DvcException: there can be no jobserver, when it is entered.
    """

    def __init__(
        self,
        connect: Callable[[], Jobserver],
        behind: "Admission",
        on_token: Callable[[], None],
    ):
        self._connect = connect
        self._behind = behind
        self.queue, self.goes_first = behind.queue, behind.goes_first
        self._on_token = on_token
        self._taken: dict[Any, bytes] = {}
        self._own: list[bytes] = []
        self._jobserver: Jobserver
        self._watch: Watch

    def __enter__(self) -> "Self":
        try:
            with ExitStack() as undo:
                self._jobserver = self._connect()
                undo.callback(self._jobserver.close)
                self._watch = Watch(self._jobserver.fd, self._on_token)
                undo.pop_all()
        except (OSError, RuntimeError) as exc:
            raise DvcException("cannot share jobs with make") from exc
        if not isinstance(self._jobserver, Server):
            self._own = [OWN]
        return self

    def __exit__(self, *_exc: object) -> None:
        self._watch.end()
        self.give_all_back()
        self._jobserver.close()

    def environment(self) -> dict[str, str]:
        """Variables for the commands of stages."""
        return self._jobserver.environment()

    @property
    def inherited(self) -> Sequence[int]:
        """Descriptors that they have to inherit."""
        return self._jobserver.inherited

    def permits(self, stage: Any) -> bool:
        has_slot = bool(self._own) or self._jobserver.has_tokens()
        return has_slot and self._behind.permits(stage)

    def take(self, stage: Any) -> bool:
        if not self._behind.permits(stage):
            return False
        if isinstance(self._jobserver, Server) and not self._taken:
            # NOTE: what was killed in a stage has not given its tokens back
            self._jobserver.refill()
        token = self._own.pop() if self._own else self._jobserver.take()
        if token is None:
            self._watch.begin()
            return False
        if not self._behind.take(stage):
            self._put_back(token)
            return False
        self._taken[stage] = token
        return True

    def give_back(self, stage: Any) -> None:
        self._put_back(self._taken.pop(stage))
        self._behind.give_back(stage)

    def _put_back(self, token: bytes) -> None:
        if token is OWN:
            self._own.append(token)
        else:
            self._jobserver.give_back(token)

    def give_all_back(self) -> None:
        """Give back what is left: for others, this process is about to end."""
        while self._taken:
            _, token = self._taken.popitem()
            self._put_back(token)


class Watch:
    """Waits in a thread of its own until something can be read.

    Args:
        fd: where; nothing is read from it.
        on_ready: called in that thread, once after each ``begin``.

    Raises:
        OSError, RuntimeError: there can be no such thread.
    """

    def __init__(self, fd: int, on_ready: Callable[[], None]):
        self._fd = fd
        self._on_ready = on_ready
        self._begin = threading.Semaphore(0)
        self._waits = False
        self._ended = False
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._work, name="dvc-jobserver")
        # NOTE: now, as the run has not begun: there is nothing to lose if it fails
        try:
            self._thread.start()
        except RuntimeError:
            os.close(self._wake)
            os.close(self._waker)
            raise

    def begin(self) -> None:
        """Wait for it, if that is not being done already."""
        if not self._waits:
            self._waits = True
            self._begin.release()

    def end(self) -> None:
        """End the thread, and return when it has ended."""
        self._ended = True
        os.write(self._waker, b"x")
        self._begin.release()
        self._thread.join()
        os.close(self._wake)
        os.close(self._waker)

    def _work(self) -> None:
        while True:
            self._begin.acquire()
            poll = select.poll()  # type: ignore[attr-defined]
            poll.register(self._fd, select.POLLIN)  # type: ignore[attr-defined]
            poll.register(self._wake, select.POLLIN)  # type: ignore[attr-defined]
            poll.poll()
            if self._ended:
                return
            self._waits = False
            self._on_ready()
