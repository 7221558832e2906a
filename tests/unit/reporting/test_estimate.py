import pytest

from dvc_parallel.engine.reporter_events import Phase, RunInfo, StageInfo
from dvc_parallel.reporting.progress import Progress, time_left


def stages(*seconds, upstream=(), after=()):
    upstream, after = dict(upstream), dict(after)
    return [
        StageInfo(str(rank), upstream.get(rank, ()), after.get(rank, ()), value)
        for rank, value in enumerate(seconds)
    ]


FAN = stages(1, 2, 3, 4)
CHAIN = stages(1, 2, 3, upstream={1: (0,), 2: (1,)})


@pytest.mark.parametrize(
    "known, over, elapsed, jobs, left",
    [
        (FAN, (), {}, 1, 10),
        (FAN, (), {}, 2, 5),
        (FAN, (), {}, 8, 4),
        (FAN, {3}, {}, 8, 3),
        (FAN, {0, 1}, {2: 1.0, 3: 2.5}, 1, 3.5),
        (FAN, {0, 1}, {2: 100.0, 3: 100.0}, 1, 0),
        (FAN, {0, 1, 2, 3}, {}, 2, 0),
        (CHAIN, (), {}, 8, 6),
        (CHAIN, {0}, {1: 1.5}, 8, 3.5),
        (stages(1, 2, after={1: (0,)}), (), {}, 8, 3),
        (stages(1, None, 9, 2), (), {}, 1, 14),
        (stages(None, None), (), {}, 2, None),
        ([], (), {}, 2, None),
    ],
)
def test_time_left(known, over, elapsed, jobs, left):
    assert time_left(known, over, elapsed, jobs) == (
        None if left is None else pytest.approx(left)
    )


def test_what_dvc_does_for_one_stage_at_a_time_is_part_of_the_time_left():
    """However many jobs there are: of many short stages, it is most of the time."""
    progress = Progress(lambda: 0.0)
    progress.begun(RunInfo(stages(*[0.1] * 100), 50, "fail"))
    progress.phase(0, Phase.RAN, seconds=0.1, owned=0.5)
    progress.phase(1, Phase.RAN, seconds=0.1, owned=0.7)
    assert progress.left() == "about 59 s left"
