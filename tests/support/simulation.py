"""A plan carried out by a fake runner, on a virtual clock."""

import heapq
from dataclasses import dataclass, field

from hypothesis import strategies as st

from dvc_parallel.engine.plan import (
    Begun,
    Finished,
    Plan,
    Start,
    Wait,
)


@dataclass
class Simulation:
    """Stages that each take some virtual seconds."""

    steps: list
    upstream: dict
    seconds: dict
    jobs: int
    known: dict = field(default_factory=dict)
    now: float = 0.0
    ends: list = field(default_factory=list)

    def start(self, instructions) -> None:
        for instruction in instructions:
            if isinstance(instruction, Wait):
                continue
            assert isinstance(instruction, Start)
            stage = instruction.stage
            heapq.heappush(self.ends, (self.now + self.seconds[stage], stage))


def makespan(simulation: Simulation) -> float:
    """Virtual seconds until all stages are done."""
    plan = Plan(
        simulation.steps,
        simulation.upstream,
        seconds=simulation.known,
        jobs=simulation.jobs,
    )
    simulation.start(plan.handle(Begun()))
    while simulation.ends:
        simulation.now, stage = heapq.heappop(simulation.ends)
        simulation.start(plan.handle(Finished(stage, True)))
    assert plan.done
    return simulation.now


def started(instructions):
    return [i.stage for i in instructions if isinstance(i, Start)]


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 12))
    stages = list(range(count))

    def edges():
        return {
            stage: draw(st.sets(st.sampled_from(stages[:stage])))
            for stage in stages[1:]
        }

    return stages, edges(), edges()
