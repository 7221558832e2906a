"""What has become of the stages of a run."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

from .plan import FINAL, Plan, State
from .reporter_events import Summary

if TYPE_CHECKING:
    from dvc.stage import Stage


@dataclass
class Outcome:
    """Owned by whoever owns the plan; stages go by their ranks.

    Attributes:
        results: those that were reproduced.
        failed: those that have failed by themselves, in this order.
        stopped: those that have failed after a signal.
        signal: the first signal that has arrived.
    """

    results: dict[int, "Stage"] = field(default_factory=dict)
    failed: dict[int, BaseException] = field(default_factory=dict)
    stopped: dict[int, BaseException] = field(default_factory=dict)
    signal: Optional[int] = None

    def is_cut_short(self, plan: Plan) -> bool:
        """Whether a signal has kept something from being done."""
        complete = sum(plan.count(state) for state in FINAL) == len(plan)
        return self.signal is not None and bool(self.stopped or not complete)

    def summary(self, plan: Plan, seconds: float, busy: Iterable[float]) -> Summary:
        """What to tell of a run at its end.

        Args:
            plan: the plan at the end.
            seconds: how long the run took.
            busy: how long its stages took.
        """
        end = "failed" if self.failed else "ok"
        done = plan.count(State.DONE)
        return Summary(
            "interrupted" if self.is_cut_short(plan) else end,
            seconds,
            busy=sum(busy),
            ran=len(self.results),
            skipped=done - len(self.results),
            failed=sorted(self.failed),
            stopped=len(self.stopped),
            not_run=len(plan) - done - len(self.failed) - len(self.stopped),
        )
