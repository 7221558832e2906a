"""Stand-ins for DVC before 3.6.0, which goes through stages in a way of its own.

Before that release, ``_reproduce_stages`` has no graph and no ``on_error``, and with
``--force-downstream`` a stage that runs forces all that come later.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_parallel.run import overrides, saving

from .repro import Options, run_stages

if TYPE_CHECKING:
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
    options = Options.taken_from(kwargs)

    def make(count: int, **parts) -> Optional["ParallelRun"]:
        # NOTE: there is no graph of single items
        if not isinstance(stages, Steps) or _is_serial(force_downstream, kwargs):
            return None
        from .runs_before_3_6 import run_from_3_0

        return run_from_3_0(stages, stages.graph, count, **parts, **kwargs)

    serially = partial(original, stages, force_downstream=force_downstream, **kwargs)
    return run_stages(options, stages, serially, make, dry=kwargs.get("dry", False))


def reproduce_targets(
    original: Callable,
    graph: "DiGraph",
    stages: list["Stage"],
    downstream: bool = False,
    single_item: bool = False,
    **kwargs,
) -> list["Stage"]:
    """``_reproduce_stages`` of 3.0 to 3.3: reproduce targets and what it takes."""
    options = Options.taken_from(kwargs)

    def make(count: int, **parts) -> Optional["ParallelRun"]:
        steps, others = _parallel_steps(graph, stages, downstream, single_item, kwargs)
        if steps is None:
            return None
        from .runs_before_3_6 import run_from_3_0

        return run_from_3_0(steps, graph, count, **parts, **others)

    serially = partial(original, graph, stages, downstream, single_item, **kwargs)
    return run_stages(options, stages, serially, make, dry=kwargs.get("dry", False))


def reproduce_targets_in_2(
    original: Callable,
    graph: "DiGraph",
    stages: list["Stage"],
    downstream: bool = False,
    single_item: bool = False,
    on_unchanged: Optional[Callable[[list["Stage"]], None]] = None,
    **kwargs,
) -> list["Stage"]:
    """``_reproduce_stages`` before 3.0.0, which has checkpoints."""
    options = Options.taken_from(kwargs)

    def make(count: int, **parts) -> Optional["ParallelRun"]:
        steps, others = _parallel_steps(graph, stages, downstream, single_item, kwargs)
        # NOTE: checkpoints are commits, one after the other
        if steps is None or any(step.is_checkpoint for step in steps):
            return None
        from .runs_before_3_6 import run_before_3_0

        others["on_unchanged"] = on_unchanged
        return run_before_3_0(steps, graph, count, **parts, **others)

    args = (graph, stages, downstream, single_item, on_unchanged)
    serially = partial(original, *args, **kwargs)
    return run_stages(options, stages, serially, make, dry=kwargs.get("dry", False))


def _parallel_steps(
    graph: "DiGraph",
    stages: list["Stage"],
    downstream: bool,
    single_item: bool,
    kwargs: dict[str, Any],
) -> tuple[Optional[list["Stage"]], dict[str, Any]]:
    """Stages in the order of serial DVC, and what is left to say of each of them.

    None instead of stages that have to be reproduced one after the other.
    """
    options = {**kwargs}
    if single_item or _is_serial(options.pop("force_downstream", False), options):
        return None, options
    from dvc.repo.reproduce import _get_steps

    return _get_steps(graph, stages, downstream, single_item), options


def _is_serial(force_downstream: bool, kwargs: dict[str, Any]) -> bool:
    # NOTE: which stages are forced is known only when all before them have ended
    return force_downstream and not kwargs.get("force")


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
