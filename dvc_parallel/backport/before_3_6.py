"""Stand-ins for DVC before 3.6.0, which goes through stages in a way of its own.

Before that release, ``_reproduce_stages`` has no graph and no ``on_error``, and with
``--force-downstream`` a stage that runs forces all that come later.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.exceptions import ReproductionError

from dvc_parallel.run import overrides, saving

from .repro import Options, run_stages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dvc.stage import Stage
    from networkx import DiGraph

    from dvc_parallel.run.parallel_run import ParallelRun


class Steps(list):
    """Stages in the order in which serial DVC reproduces them.

    Attributes:
        graph: the graph that the order has been derived from.
    """

    graph: "DiGraph"


def plan_repro(original: Callable, graph: "DiGraph", *args, **kwargs) -> Steps:
    """``plan_repro`` of 3.4 and 3.5: which stages, in which order."""
    steps = Steps(original(graph, *args, **kwargs))
    steps.graph = graph
    return steps


def reproduce_steps(
    original: Callable,
    stages: list["Stage"],
    force_downstream: bool = False,
    **kwargs,
) -> list["Stage"]:
    """``_reproduce_stages`` of 3.4 and 3.5: reproduce these, in this order."""
    # NOTE: there is no graph of single items
    graph = getattr(stages, "graph", None)
    serially = partial(original, stages)
    return _reproduce(
        serially, stages, graph, lambda: stages, force_downstream, True, kwargs
    )


def reproduce_targets(
    original: Callable,
    graph: "DiGraph",
    stages: list["Stage"],
    downstream: bool = False,
    single_item: bool = False,
    force_downstream: bool = False,
    knows_upstream: bool = True,
    **kwargs,
) -> list["Stage"]:
    """``_reproduce_stages`` of 3.0 to 3.3: reproduce targets and what it takes."""
    # NOTE: here, DVC has them from a set: in any order, another one each time. So that
    # a plan is that of the run, and a run does not depend on jobs, they get one
    declared = stages[0].repo.index.stages if stages else ()
    known = {stage: place for place, stage in enumerate(declared)}
    targets = sorted(stages, key=lambda stage: known.get(stage, len(known)))

    def steps() -> list["Stage"]:
        from dvc.repo.reproduce import _get_steps

        return _get_steps(graph, targets, downstream, single_item)

    return _reproduce(
        partial(original, graph, targets, downstream, single_item),
        targets,
        None if single_item else graph,
        steps,
        force_downstream,
        knows_upstream,
        kwargs,
    )


# ``_reproduce_stages`` before 3.0.0, which has checkpoints.
reproduce_targets_in_2 = partial(reproduce_targets, knows_upstream=False)


def _reproduce(
    original: Callable,
    stages: list["Stage"],
    graph: Optional["DiGraph"],
    steps: Callable[[], list["Stage"]],
    force_downstream: bool,
    knows_upstream: bool,
    kwargs: dict[str, Any],
) -> list["Stage"]:
    """Reproduce stages as DVC does, or side by side where there is a graph.

    Args:
        steps: finds out which stages are reproduced, in the order of serial DVC.
    """
    options = Options.taken_from(kwargs)

    def make(count: int, **parts) -> Optional["ParallelRun"]:
        # NOTE: which stages are forced is known only when all before them have ended
        if graph is None or (force_downstream and not kwargs.get("force")):
            return None
        found = steps()
        # NOTE: checkpoints are commits, one after the other
        if any(getattr(step, "is_checkpoint", False) for step in found):
            return None
        from dvc_parallel.run.parallel_run import ParallelRun

        ranks = {stage: rank for rank, stage in enumerate(found)}
        repro_fn = partial(_reproduce_stage, ranks, knows_upstream)
        ours = {"repro_fn": repro_fn, "raise_error": _raise_error}
        parts = {**ours, **parts, **kwargs}
        return ParallelRun(found, _active(graph, ranks), count, **parts)

    serially = partial(original, force_downstream=force_downstream, **kwargs)
    dry, no_commit = (bool(kwargs.get(name)) for name in ("dry", "no_commit"))
    return run_stages(options, stages, serially, make, dry=dry, no_commit=no_commit)


def _reproduce_stage(
    ranks: "Mapping[Stage, int]",
    knows_upstream: bool,
    stage: "Stage",
    **kwargs: Any,
) -> Optional["Stage"]:
    from dvc.repo.reproduce import _reproduce_stage as reproduce

    del kwargs["upstream"]
    if knows_upstream:
        # NOTE: from 3.0.0 on, all stages before are upstream
        kwargs["upstream"] = [*ranks][: ranks[stage]]
    # NOTE: before 3.4.0, the result is a list, with the stage if it ran
    result = reproduce(stage, **kwargs)
    return next(iter(result), None) if isinstance(result, list) else result


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


def run(
    original: Callable, stage: "Stage", executable, cmd, checkpoint_func, **kwargs
) -> None:
    """``dvc.stage.run._run`` before 3.0.0: run one command of a stage."""

    def run_in_dvc(executable, cmd, **kwargs) -> None:
        original(stage, executable, cmd, checkpoint_func, **kwargs)

    overrides.run(run_in_dvc, executable, cmd, **kwargs)


def build(original: Callable, *args, **kwargs):
    """``build`` in ``dvc.output`` before 3.5.0, where there is no ``Output._build``."""

    def build_in_dvc(_out, *args, **kwargs):
        return original(*args, **kwargs)

    return saving.build(build_in_dvc, None, *args, **kwargs)
