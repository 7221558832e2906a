"""The stages of a run, as its plan and its reporters know them: by their ranks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

from .path_conflicts import PathOrder
from .plan import Plan
from .reporter_events import RunInfo, StageInfo

if TYPE_CHECKING:
    from dvc.stage import Stage
    from networkx import DiGraph


def describe(
    steps: Sequence["Stage"],
    graph: "DiGraph",
    order: PathOrder,
    seconds: Optional[Mapping[str, float]] = None,
) -> list[StageInfo]:
    """Tell what each stage waits for, and how long it is known to take.

    Args:
        steps: the stages of a run in the order of serial DVC.
        graph: the graph whose edges run from stages to their upstreams.
        order: that of their paths.
        seconds: how long stages took in earlier runs, as far as that is known.
    """
    # NOTE: stages go by their ranks, as it takes long to hash a `Stage`
    ranks = {stage: rank for rank, stage in enumerate(steps)}
    upstream = {
        rank: {ranks[other] for other in graph.successors(stage) if other in ranks}
        for rank, stage in enumerate(steps)
    }
    after = order.stages_to_come_after(upstream)
    return [
        StageInfo(
            name,
            tuple(sorted(upstream[rank])),
            tuple(sorted(after.get(rank, ()))),
            seconds.get(name) if seconds else None,
        )
        for rank, name in enumerate(stage.addressing for stage in steps)
    ]


def plan_of(info: RunInfo, **kwargs: Any) -> Plan:
    """The plan of a run; ``kwargs`` are further ones of :class:`Plan`."""
    stages = dict(enumerate(info.stages))
    return Plan(
        range(len(stages)),
        {rank: stage.upstream for rank, stage in stages.items()},
        after={rank: stage.after for rank, stage in stages.items()},
        seconds={
            rank: stage.seconds
            for rank, stage in stages.items()
            if stage.seconds is not None
        },
        jobs=info.jobs,
        on_error=info.on_error,
        **kwargs,
    )


def group_of(name: str) -> str:
    """What the stages of a foreach or a matrix are called together; or nothing."""
    stage, has_item, _ = name.partition("@")
    return f"{stage}@*" if has_item else ""
