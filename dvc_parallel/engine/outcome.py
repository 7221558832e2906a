"""What has become of the stages of a run."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from dvc.exceptions import DvcException

from . import logger, signals
from .plan import FINAL, Plan, State
from .reporter_events import Phase, Summary


@dataclass
class Outcome:
    """Owned by whoever owns the plan; stages go by their ranks.

    Attributes:
        results: what is kept of those that were reproduced.
        restored: those of them whose outputs came from the run cache.
        failed: those that have failed by themselves, in this order.
        interrupted: those that have failed after a signal.
        signal: the first signal that has arrived.
        is_cut_short: whether that has kept something from being done; known at the end.
    """

    results: dict[int, Any] = field(default_factory=dict)
    restored: set[int] = field(default_factory=set)
    failed: dict[int, BaseException] = field(default_factory=dict)
    interrupted: dict[int, BaseException] = field(default_factory=dict)
    signal: Optional[int] = None
    is_cut_short: bool = False

    def end(self, plan: Plan) -> None:
        """Take note that nothing runs any more, and nothing will be started."""
        complete = sum(plan.count(state) for state in FINAL) == len(plan)
        self.is_cut_short = self.signal is not None and (
            bool(self.interrupted) or not complete
        )

    def summary(self, plan: Plan, seconds: float, busy: Iterable[float]) -> Summary:
        """The summary of a run at its end.

        Args:
            seconds: how long the run took.
            busy: how long its stages took.
        """
        end = "failed" if self.failed else "ok"
        done = plan.count(State.DONE)
        outcomes: dict[str, int] = {
            Phase.RAN: len(self.results) - len(self.restored),
            Phase.RESTORED: len(self.restored),
            Phase.UNCHANGED: done - len(self.results),
            Phase.FAILED: len(self.failed),
            Phase.INTERRUPTED: len(self.interrupted),
        }
        outcomes[Phase.NOT_RUN] = len(plan) - sum(outcomes.values())
        return Summary(
            "interrupted" if self.is_cut_short else end,
            seconds,
            busy=sum(busy),
            outcomes=outcomes,
            failed=sorted(self.failed),
        )

    def conclude(
        self,
        stages: Sequence[Any],
        on_error: str,
        raise_error: Callable[..., Any],
    ) -> list[Any]:
        """End a run as serial DVC does.

        Args:
            stages: all of them, by rank.
            on_error: as for ``Repo.reproduce``.
            raise_error: raises DVC's error for a cause, or None, and failed stages.

        Returns:
            the results, in the order of serial DVC.

        Raises:
            ReproductionError: names all stages that failed.
            KeyboardInterrupt: for Ctrl-C.  Other signals end the process.
        """
        if self.is_cut_short:
            assert self.signal
            signals.die_of(self.signal)
        for exc in self.failed.values():
            if not isinstance(exc, Exception):
                raise exc
        if self.failed and on_error != "ignore":
            failed = [(self.failed[rank], stages[rank]) for rank in sorted(self.failed)]
            if on_error == "fail" and len(failed) > 1:
                for exc, stage in failed:
                    _show_error(raise_error, exc, stage)
            cause = failed[0][0] if on_error == "fail" else None
            raise_error(cause, *(stage for _, stage in failed))
        return [self.results[rank] for rank in sorted(self.results)]


def _show_error(
    raise_error: Callable[..., Any], cause: BaseException, stage: Any
) -> None:
    """Show an error as DVC does where it is the only one."""
    try:
        raise_error(cause, stage)
    except DvcException as exc:
        with suppress(Exception):
            logger.error("", exc_info=exc)
