"""The attempts of a stage at its commands: how long each may take, and whether there
is another one.

A stage is tried again by reproducing it once more, so DVC itself removes its outputs
first.  In between, it keeps its slots, unless its next attempt takes others: then it
gives back all of them, and queues again.  So who waits for more holds nothing that
others wait for.  One whose worker was lost is tried again on
another one, whether it asks for retries or not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Optional

from dvc.exceptions import DvcException
from dvc.stage.exceptions import StageCmdFailedError

from dvc_parallel.engine.job import QueueAgainError
from dvc_parallel.engine.signals import clock
from dvc_parallel.engine.usage import size

from .stage_options import Needs

if TYPE_CHECKING:
    from dvc.stage import Stage

    from dvc_parallel.engine.runner import CommandLostError


class StageTimeoutError(StageCmdFailedError):
    """The commands of a stage have taken too long, and were stopped."""

    def __init__(self, cmd: str, seconds: float):
        DvcException.__init__(
            self, f"failed to run: {cmd}, timed out after {seconds:g} s"
        )


class StageStoppedError(StageCmdFailedError):
    """What ran the commands of a stage has ended them."""

    def __init__(self, cmd: str, error: BaseException):
        DvcException.__init__(self, f"failed to run: {cmd}, {error}")


class StageLostError(StageStoppedError):
    """The worker that ran the commands of a stage was lost."""

    def __init__(self, cmd: str, error: "CommandLostError"):
        super().__init__(cmd, error)
        self.tries = error.tries


class StageOutOfMemoryError(StageCmdFailedError):
    """A command has failed, and the kernel has killed a process as memory ran out.

    Args:
        memory: bytes that the command had at its peak, if that is known.

    Attributes:
        why: that, for users. Another process may have been killed.
    """

    def __init__(self, cmd: str, status: int, memory: Optional[int]):
        had = f" ({size(memory)} at its peak)" if memory else ""
        self.why = (
            "memory ran out, and the kernel killed a process, probably of this "
            f"stage{had}"
        )
        DvcException.__init__(
            self, f"failed to run: {cmd}, exited with {status}; {self.why}"
        )


class Attempts:
    """The attempts of one stage.  Owned by the thread that runs it.

    Args:
        needs: how long they may take, and how many there are.
        is_stopping: whether nothing new may start any more.
        grows: whether the attempt after so many failed ones takes other slots.

    Attributes:
        number (int): which one it is, from 1 on.
    """

    def __init__(
        self,
        needs: Needs,
        is_stopping: Callable[[], bool],
        grows: Callable[[int], bool] = lambda _failed: False,
    ):
        self.number = 1
        self._grows = grows
        self._needs = needs
        self._is_stopping = is_stopping
        self._deadline: Optional[float] = None
        self._again = False
        self._lost = 0

    def run(
        self,
        reproduce: Callable[..., Optional["Stage"]],
        force: bool,
        on_retry: Callable[[BaseException], None],
    ) -> Optional["Stage"]:
        """Reproduce a stage, again if its commands fail.

        Args:
            reproduce: takes ``force``.
            on_retry: called with the error before another attempt.

        Raises:
            QueueAgainError: the next attempt takes other slots. It begins with the next
                call.
        """
        # NOTE: its dependencies look unchanged by then, as DVC has saved them
        force = force or self.number > 1
        while True:
            self._again = False
            try:
                return reproduce(force=force)
            except Exception as exc:
                if not self._again:
                    raise
                self.number += 1
                on_retry(exc)
                failed = self.number - 1 - self._lost
                if not isinstance(exc, StageLostError) and self._grows(failed):
                    raise QueueAgainError(failed) from exc
            force = True

    @contextmanager
    def commands(self, on_end: Callable[[bool], None]) -> Iterator[None]:
        """A context for the commands of an attempt.

        Args:
            on_end: called at the end of the last attempt, with whether it has failed.
        """
        if self._needs.timeout is not None:
            self._deadline = clock() + self._needs.timeout
        failed = True
        try:
            yield
            failed = False
        except StageCmdFailedError as exc:
            if isinstance(exc, StageLostError):
                self._lost += 1
                left = exc.tries + 1 - self._lost
            else:
                left = self._needs.retries + 1 - (self.number - self._lost)
            self._again = left > 0 and not self._is_stopping()
            raise
        finally:
            if not self._again:
                on_end(failed)

    def seconds_left(self) -> Optional[float]:
        """How long the next command may take, if that is limited."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - clock())

    def wait(self) -> Callable[[], None]:
        """Stop the clock of the next command; return a function that restarts it."""
        since = clock()

        def go_on() -> None:
            if self._deadline is not None:
                self._deadline += clock() - since

        return go_on

    def timeout(self, cmd: str) -> StageTimeoutError:
        assert self._needs.timeout is not None
        return StageTimeoutError(cmd, self._needs.timeout)
