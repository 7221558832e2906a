"""What holds of any plan."""

from hypothesis import given
from hypothesis import strategies as st

from dvc_parallel.engine.plan import Begun, CommandEnded, Failed, Finished, Plan, State
from tests.support.simulation import Simulation, graphs, makespan, started


@given(
    graph=graphs(),
    jobs=st.integers(1, 5),
    on_error=st.sampled_from(["fail", "keep-going", "ignore"]),
    data=st.data(),
)
def test_invariants_hold_after_every_event(graph, jobs, on_error, data):
    stages, upstream, after = graph

    def found_late(freed):
        pairs = st.tuples(st.sampled_from(stages), st.sampled_from(freed))
        late = {}
        for pair in data.draw(st.lists(pairs, max_size=2)):
            first, then = sorted(pair)
            if first != then:
                late.setdefault(then, set()).add(first)
        return late

    plan = Plan(
        stages, upstream, after, jobs=jobs, on_error=on_error, found_late=found_late
    )
    running = set(started(plan.handle(Begun())))
    saving = set()
    plan.validate()
    while not plan.done:
        stage = data.draw(st.sampled_from(sorted(running | saving)))
        kinds = ["finished", "failed"] + ["ended"] * (stage in running)
        kind = data.draw(st.sampled_from(kinds))
        running.discard(stage)
        saving.discard(stage)
        if kind == "ended":
            saving.add(stage)
            instructions = plan.handle(CommandEnded(stage))
        elif kind == "failed":
            instructions = plan.handle(Failed(stage))
        else:
            instructions = plan.handle(Finished(stage, True))
        running.update(started(instructions))
        plan.validate()

    if on_error != "fail":
        assert all(
            plan.state(s) in (State.DONE, State.FAILED, State.SKIPPED) for s in stages
        )


@given(graph=graphs(), jobs=st.integers(1, 4), data=st.data())
def test_list_scheduling_bound(graph, jobs, data):
    """No slot idles while a stage is ready: Graham's bound holds.

    R. L. Graham, Bounds for certain multiprocessing anomalies, 1966.
    """
    stages, upstream, _ = graph
    times = {s: data.draw(st.integers(1, 9)) for s in stages}
    total = makespan(Simulation(stages, upstream, times, jobs))

    longest = {}
    for stage in stages:
        above = max((longest[up] for up in upstream.get(stage, ())), default=0)
        longest[stage] = above + times[stage]
    path, work = max(longest.values()), sum(times.values())
    assert max(path, work / jobs) <= total
    assert total <= work / jobs + (1 - 1 / jobs) * path
