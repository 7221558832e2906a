import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvc_parallel.scheduling.simulation import NO_TIMES, Forecast, RepoTimes
from tests.support.simulation import Simulation, makespan


def forecast(upstream, seconds, running=None, known=None, after=None, repo=NO_TIMES):
    steps = list(upstream)
    return Forecast(
        steps,
        upstream,
        after or {},
        seconds if known is None else known,
        set(steps) if running is None else running,
        repo=repo,
    )


FAN = {"root": set(), **{f"leaf{n}": {"root"} for n in range(8)}}


def test_one_root_and_eight_leaves():
    seen = forecast(FAN, dict.fromkeys(FAN, 10.0))
    assert seen.total == 90
    assert seen.critical == 20
    assert [s.jobs for s in seen.speeds(3)] == [1, 2, 3, 4, 8]
    assert [s.seconds for s in seen.speeds(3)] == [90, 50, 40, 30, 20]
    assert [s.bound for s in seen.speeds(3)] == [1, 2, 3, 4, 4.5]
    assert seen.speeds(1)[-1].speedup == 4.5
    assert seen.width == 8


def test_the_critical_path_is_the_longest_one():
    upstream = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}, "e": set()}
    seen = forecast(upstream, {"a": 1, "b": 2, "c": 3, "d": 1, "e": 4})
    assert seen.critical_path == ["a", "c", "d"]
    assert seen.critical == 5


def test_stages_that_come_after_others_wait_for_them():
    upstream = {"a": set(), "b": set()}
    seen = forecast(upstream, {"a": 2, "b": 3}, after={"b": {"a"}})
    assert seen.critical_path == ["a", "b"]
    assert seen.course(2).starts == {"a": 0, "b": 2}
    assert seen.width == 1


def test_what_is_up_to_date_takes_no_time_and_is_in_no_path():
    upstream = {"a": set(), "b": {"a"}, "c": {"b"}}
    seen = forecast(upstream, {"a": 5, "b": 50, "c": 5}, running={"a", "c"})
    assert seen.critical_path == ["a", "c"]
    assert seen.course(1).seconds == 10
    assert seen.course(1).starts == {"a": 0, "c": 5}


def test_what_is_not_known_counts_as_the_median():
    seen = forecast(FAN, {}, known={"root": 1.0, "leaf0": 3.0, "leaf1": 5.0})
    assert seen.seconds["leaf7"] == 3
    assert seen.guesses == 6


def test_nothing_known():
    seen = forecast(FAN, {})
    assert set(seen.seconds.values()) == {1.0}
    assert seen.guesses == len(FAN)


@pytest.mark.parametrize("upstream", [{}, {"a": set()}])
def test_nothing_to_run(upstream):
    seen = forecast(upstream, {}, running=set())
    assert seen.critical_path == []
    assert seen.width == 0
    assert [(s.jobs, s.seconds) for s in seen.speeds(1)] == [(1, 0.0)]


def test_stages_that_take_no_time():
    seen = forecast(FAN, dict.fromkeys(FAN, 0.0))
    assert [s.speedup for s in seen.speeds(2)] == [1.0, 1.0]


def test_one_stage_at_a_time_has_the_repo():
    """Before its command, and after it; in turn, those that save first."""
    seen = forecast(
        {"a": set(), "b": set(), "c": {"a"}},
        {"a": 6, "b": 7, "c": 6},
        repo=RepoTimes({"a": (1, 2), "b": (1, 2), "c": (1, 2)}, 0),
    )
    # a: 0 to 1 and 4 to 6; b: 1 to 2 and 6 to 8; c: 8 to 9 and 12 to 14
    assert seen.course(2).starts == {"a": 0, "b": 0, "c": 6}
    assert seen.course(2).seconds == 14
    assert seen.course(1).seconds == 19
    assert seen.owned == 9


def test_what_is_unchanged_takes_the_repo_as_well():
    upstream = {number: set() for number in range(100)}
    repo = RepoTimes({}, 0.5)
    seen = forecast(upstream, {}, running=set(), repo=repo)
    assert [seen.course(jobs).seconds for jobs in (1, 2, 16)] == [50, 50, 50]


@pytest.mark.parametrize("jobs, real", [(2, 13.9), (4, 13.1), (16, 16.8)])
def test_many_short_stages(jobs, real):
    """500 stages that only echo, by the times of a run with two jobs."""
    steps: dict[int, set] = {number: set() for number in range(500)}
    repo = RepoTimes(dict.fromkeys(steps, (0.009, 0.0165)), 0)
    seen = forecast(steps, dict.fromkeys(steps, 0.036), repo=repo)
    assert seen.course(jobs).seconds == pytest.approx(real, rel=0.25)
    assert seen.speeds(16)[-1].bound < 1.5


@st.composite
def graphs(draw):
    upstream = {}
    for stage in range(draw(st.integers(1, 12))):
        chosen = draw(st.sets(st.integers(0, 11), max_size=3))
        upstream[stage] = {other for other in chosen if other < stage}
    return upstream


@given(
    upstream=graphs(),
    times=st.lists(st.integers(1, 9), min_size=12, max_size=12),
    jobs=st.integers(1, 13),
)
def test_is_what_the_plan_does(upstream, times, jobs):
    # NOTE: no two stages end at the same time, so their order does not matter
    seconds = {stage: times[stage] + 2.0 ** -(stage + 1) for stage in upstream}
    seen = forecast(upstream, seconds)
    course = seen.course(jobs)
    steps = list(upstream)
    run = Simulation(steps, upstream, seconds, jobs, known=seconds)
    assert course.seconds == makespan(run)
    assert sorted(course.starts) == steps
    assert list(course.starts.values()) == sorted(course.starts.values())
    assert max(seen.critical, seen.total / jobs) <= course.seconds <= seen.total
    assert course.width <= min(jobs, seen.width)
    assert seen.course(len(steps)).seconds == seen.critical
    for stage, ups in upstream.items():
        for up in ups:
            assert course.starts[stage] >= course.starts[up] + seconds[up]
    path = seen.critical_path
    assert all(one in upstream[other] for one, other in zip(path, path[1:]))


@given(
    upstream=graphs(),
    times=st.lists(st.integers(1, 9), min_size=12, max_size=12),
    owned=st.lists(st.tuples(*[st.integers(0, 3)] * 2), min_size=12, max_size=12),
    jobs=st.integers(1, 13),
)
def test_no_course_is_shorter_than_what_is_done_one_at_a_time(
    upstream, times, owned, jobs
):
    repo = RepoTimes({stage: owned[stage] for stage in upstream}, 0)
    seconds = {stage: times[stage] + sum(owned[stage]) for stage in upstream}
    seen = forecast(upstream, seconds, repo=repo)
    course = seen.course(jobs)
    least = max(seen.owned, seen.critical, seen.total / jobs if jobs == 1 else 0)
    assert least <= course.seconds <= seen.total
    assert seen.width == forecast(upstream, seconds).width
    for stage, ups in upstream.items():
        assert all(
            course.starts[stage] >= course.starts[up] + seconds[up] for up in ups
        )


@given(upstream=graphs(), data=st.data())
def test_guesses_are_those_of_the_plan(upstream, data):
    known = data.draw(
        st.dictionaries(st.sampled_from(list(upstream)), st.floats(0, 100), max_size=5)
    )
    seen = forecast(upstream, {}, known=known)
    usual = statistics.median(known.values()) if known else 1.0
    assert seen.seconds == {stage: known.get(stage, usual) for stage in upstream}
