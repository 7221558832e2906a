"""Parallel runs of DVC before 3.6.0: what that does with each stage, and failures."""

from typing import TYPE_CHECKING, Any, Optional

from dvc.exceptions import ReproductionError
from dvc.repo.reproduce import _reproduce_stage

from dvc_parallel.run.parallel_run import ParallelRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dvc.stage import Stage
    from networkx import DiGraph


def run_before_3_6(
    steps: "Sequence[Stage]",
    graph: "DiGraph",
    jobs: int,
    /,
    *,
    knows_upstream: bool,
    **parts: Any,
) -> ParallelRun:
    """A run as in DVC before 3.6.0.

    Args:
        knows_upstream: whether DVC is told of the stages before, as from 3.0.0 on:
            there, all of them are upstream.
    """
    ranks = {stage: rank for rank, stage in enumerate(steps)}

    def reproduce(stage: "Stage", **kwargs: Any) -> Optional["Stage"]:
        del kwargs["upstream"]
        if knows_upstream:
            kwargs["upstream"] = steps[: ranks[stage]]
        # NOTE: before 3.4.0, the result is a list, with the stage if it ran
        result = _reproduce_stage(stage, **kwargs)
        return next(iter(result), None) if isinstance(result, list) else result

    parts = {"repro_fn": reproduce, "raise_error": _raise_error, **parts}
    return ParallelRun(steps, _active(graph, ranks), jobs, **parts)


def _active(graph: "DiGraph", ranks: "Mapping[Stage, int]") -> "DiGraph":
    """The graph in which stages wait only for what comes before them in serial DVC.

    Frozen stages do not wait for their dependencies.  With ``--downstream`` and several
    targets, DVC before 3.5.0 runs stages before those that they depend on.
    """
    active = graph.subgraph(ranks).copy()
    for stage in ranks:
        for upstream in list(active.successors(stage)):
            if stage.frozen or ranks[upstream] > ranks[stage]:
                active.remove_edge(stage, upstream)
    return active


def _raise_error(cause: Optional[BaseException], *failed: "Stage") -> None:
    names = "', '".join(stage.addressing for stage in failed)
    raise ReproductionError(names) from cause
