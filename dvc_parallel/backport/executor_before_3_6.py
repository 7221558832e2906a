"""The executor, for DVC before 3.6.0."""

from typing import TYPE_CHECKING, Callable, Optional

from dvc.exceptions import ReproductionError
from dvc.repo.reproduce import _reproduce_stage

from dvc_parallel.run.parallel_run import FastExecutor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dvc.stage import Stage
    from networkx import DiGraph


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


class Executor(FastExecutor):
    """What serial DVC from 3.0 to 3.5 does with each stage, and with failures.

    Args:
        on_unchanged: to be called at the end, with the stages that have not changed.
            Experiments have that up to 3.2.
    """

    def __init__(
        self,
        steps: "Sequence[Stage]",
        graph: "DiGraph",
        jobs: int,
        *,
        on_unchanged: Optional[Callable[[list["Stage"]], None]] = None,
        **kwargs,
    ):
        self._ranks = {stage: rank for rank, stage in enumerate(steps)}
        self._on_unchanged = on_unchanged
        graph = _active(graph, self._ranks)
        super().__init__(steps, graph, jobs, repro_fn=self._reproduce_stage, **kwargs)

    def _reproduce_stage(
        self,
        stage: "Stage",
        upstream: "Sequence[Stage]",  # noqa: ARG002
        **kwargs,
    ) -> Optional["Stage"]:
        # NOTE: here, DVC means all stages that come before by it
        before = self.steps[: self._ranks[stage]]
        return _one(_reproduce_stage(stage, upstream=before, **kwargs))

    def run(self) -> list["Stage"]:
        result = super().run()
        if self._on_unchanged is not None:
            self._on_unchanged([step for step in self.steps if step not in result])
        return result

    def _raise_error(self, cause: Optional[BaseException], *failed: "Stage") -> None:
        names = "', '".join(stage.addressing for stage in failed)
        raise ReproductionError(names) from cause


class ExecutorIn2(Executor):
    """What serial DVC before 3.0.0 does."""

    def _reproduce_stage(
        self,
        stage: "Stage",
        upstream: "Sequence[Stage]",  # noqa: ARG002
        **kwargs,
    ) -> Optional["Stage"]:
        return _one(_reproduce_stage(stage, **kwargs))


def _one(result) -> Optional["Stage"]:
    """What DVC returns for a stage: before 3.4.0 a list, with the stage if it ran."""
    return next(iter(result), None) if isinstance(result, list) else result
