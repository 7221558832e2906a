"""A plan carried out by a fake runner, on a virtual clock."""

import heapq
from dataclasses import dataclass, field

from dvc_parallel.engine.plan import Begun, Finished, Plan, Start, Wait


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
