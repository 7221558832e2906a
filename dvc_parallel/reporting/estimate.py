"""How long a run will still take; pure."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Optional

from dvc_parallel.engine.reporter import StageInfo


def time_left(
    stages: Sequence[StageInfo],
    over: Collection[int],
    elapsed: Mapping[int, float],
    jobs: int,
) -> Optional[float]:
    """Seconds that a run will take at least, if stages take what they took before.

    That is the longest path of what is left, or all of it divided by the jobs (Graham,
    SIAM Journal on Applied Mathematics 17(2), 1969: list scheduling takes less than
    twice as long).  A stage of which nothing is known counts as the median.

    Args:
        stages: all stages of the run.
        over: those that have ended.
        elapsed: for how many seconds others have been running.
        jobs: how many stages may run a command at a time.

    Returns:
        float: seconds, or None if nothing is known of any stage.
    """
    known = [stage.seconds for stage in stages if stage.seconds is not None]
    if not known:
        return None
    usual = statistics.median(known)
    path = [0.0] * len(stages)  # that ends with the stage
    total = 0.0
    for rank, stage in enumerate(stages):
        left = 0.0
        if rank not in over:
            left = usual if stage.seconds is None else stage.seconds
            left = max(0.0, left - elapsed.get(rank, 0.0))
        total += left
        before = (path[other] for other in (*stage.upstream, *stage.after))
        path[rank] = left + max(before, default=0.0)
    return max(total / jobs, max(path, default=0.0))
