"""Plans under pools: what starts, in what order, and that nobody starves."""

import heapq
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvc_parallel.engine.plan import (
    Begun,
    CommandEnded,
    Failed,
    Finished,
    Interrupted,
    Plan,
    PlanError,
    Postponed,
    Resumed,
    Start,
    State,
    Withdrawn,
)
from dvc_parallel.scheduling.admission import ROUNDS, PoolAdmission
from dvc_parallel.scheduling.pools import Size, parse_pools
from dvc_parallel.scheduling.ready_queue import AdmissionQueue
from dvc_parallel.scheduling.stage_options import Needs
from tests.support.simulation import graphs


def started(instructions):
    return [i.stage for i in instructions if isinstance(i, Start)]


def make(steps, needs, pools="", upstream=None, jobs=100, **kwargs):
    needs = {stage: Needs(**declared) for stage, declared in needs.items()}
    ready = queue_of(PoolAdmission(parse_pools(pools), needs), needs)
    return Plan(steps, upstream or {}, ready=ready, jobs=jobs, **kwargs)


def queue_of(admission, needs):
    priority = {stage: need.priority for stage, need in needs.items()}
    return AdmissionQueue(admission, priority)


def admission_of(plan):
    return plan._ready._admission


def takes(**pools):
    return {"pools": pools}


def test_who_waits_for_slots_does_not_hold_up_others():
    needs = {"a": takes(db=1), "b": takes(db=1)}
    plan = make(["a", "b", "c"], needs)
    assert started(plan.handle(Begun())) == ["a", "c"]
    assert started(plan.handle(Finished("a", True))) == ["b"]


def test_who_is_postponed_has_nothing_until_it_is_resumed():
    needs = {"a": takes(db=1), "b": takes(db=1)}
    plan = make(["a", "b", "c"], needs, jobs=1)
    assert started(plan.handle(Begun())) == ["a"]
    assert started(plan.handle(Postponed("a"))) == ["b"]
    plan.validate()
    assert started(plan.handle(Resumed("a"))) == []
    plan.validate()
    assert started(plan.handle(Finished("b", True))) == ["a"]
    assert started(plan.handle(Postponed("a"))) == ["c"]
    assert started(plan.handle(Finished("c", True))) == []
    plan.validate()
    assert not plan.done
    assert started(plan.handle(Resumed("a"))) == ["a"]
    plan.handle(Finished("a", True))
    assert plan.done


def test_only_what_runs_is_postponed():
    plan = make(["a"], {})
    plan.handle(Begun())
    plan.handle(CommandEnded("a"))
    with pytest.raises(PlanError, match="'a' cannot become ready"):
        plan.handle(Postponed("a"))


def test_slots_come_back_when_the_command_has_ended_whichever_way():
    steps = ["a", "b", "c", "d"]
    plan = make(steps, dict.fromkeys(steps, takes(db=1)), on_error="ignore")
    assert started(plan.handle(Begun())) == ["a"]
    assert started(plan.handle(CommandEnded("a"))) == ["b"]
    assert started(plan.handle(Finished("a", True))) == []
    assert started(plan.handle(Failed("b"))) == ["c"]
    plan.handle(Interrupted())
    plan.handle(Withdrawn("c"))
    assert not admission_of(plan).held("c")
    admission_of(plan).validate()


def test_all_or_nothing():
    needs = {"both": takes(a=1, b=1), "one": takes(a=1), "other": takes(b=1)}
    plan = make(["one", "both", "other"], needs)
    assert started(plan.handle(Begun())) == ["one", "other"]
    assert started(plan.handle(Finished("other", True))) == []
    assert started(plan.handle(Finished("one", True))) == ["both"]


def test_named_slots():
    steps = ["a", "b", "c"]
    plan = make(steps, dict.fromkeys(steps, takes(gpu=1)), "gpu=4,7")
    plan.handle(Begun())
    admission = admission_of(plan)
    assert [str(admission.held(s).get("gpu")) for s in steps] == ["4", "7", "None"]
    plan.handle(Finished("a", True))
    assert str(admission.held("c")["gpu"]) == "4"


def test_higher_priority_goes_before_longer_paths():
    needs = {"urgent": {"priority": 1}, "later": {"priority": -1}}
    steps = ["later", "long", "urgent", "end"]
    plan = make(steps, needs, upstream={"end": ["long"]}, jobs=1)
    assert started(plan.handle(Begun())) == ["urgent"]
    assert started(plan.handle(Finished("urgent", True))) == ["long"]
    assert started(plan.handle(Finished("long", True))) == ["end"]
    assert started(plan.handle(Finished("end", True))) == ["later"]


def test_lower_priority_does_not_delay_higher():
    needs = {
        "running": takes(gpu=1),
        "big": {**takes(gpu=2), "priority": 1},
        "small": takes(gpu=1),
        "next": takes(gpu=1),
    }
    steps = ["running", "go", "big", "small", "next"]
    plan = make(steps, needs, "gpu=2", {"big": ["go"]})
    assert started(plan.handle(Begun())) == ["go", "running", "small"]
    plan.handle(Finished("go", True))
    assert started(plan.handle(Finished("small", True))) == []
    assert started(plan.handle(Finished("running", True))) == ["big"]
    assert started(plan.handle(Finished("big", True))) == ["next"]


def test_a_claim_leaves_in_use_what_it_does_not_need():
    needs = {
        "holder": takes(mem=30),
        "big": {**takes(mem=36), "priority": 1},
        "small": takes(mem=28),
        "other": takes(mem=6),
    }
    # NOTE: when the holder has ended, there is enough for big and one of the others
    upstream = {"big": ["go"], "small": ["then"], "other": ["then"]}
    steps = ["holder", "go", "then", "big", "small", "other"]
    plan = make(steps, needs, "mem=64", upstream)
    assert set(started(plan.handle(Begun()))) == {"holder", "go", "then"}
    plan.handle(Finished("go", True))
    assert started(plan.handle(Finished("then", True))) == ["small"]
    assert started(plan.handle(Finished("holder", True))) == ["big"]
    assert started(plan.handle(Finished("small", True))) == ["other"]


class Stream:
    """Stages on a virtual clock, each of which takes some seconds."""

    def __init__(self, steps, needs, pools, duration, upstream=None, **kwargs):
        self.plan = make(steps, needs, pools, upstream, **kwargs)
        self.duration = duration
        self.order = []
        self.began = {}
        self.ends = []
        self.now = 0

    def start(self, instructions):
        for stage in started(instructions):
            self.order.append(stage)
            self.began[stage] = self.now
            heapq.heappush(self.ends, (self.now + self.duration(stage), stage))
        self.plan.validate()
        admission_of(self.plan).validate()

    def run(self):
        self.start(self.plan.handle(Begun()))
        while self.ends:
            self.now, stage = heapq.heappop(self.ends)
            self.start(self.plan.handle(Finished(stage, True)))
        assert self.plan.done
        return self


@pytest.mark.parametrize("jobs", [2, 100])
def test_a_big_request_is_not_starved_by_small_ones(jobs):
    """Two lines of stages with one GPU each, out of step, and one that needs both."""
    lines = {name: [f"{name}{n:02}" for n in range(30)] for name in "ab"}
    steps = [*lines["a"], *lines["b"], "big"]
    upstream = {
        stage: [before]
        for line in lines.values()
        for before, stage in zip(line, line[1:])
    }
    needs = {**dict.fromkeys(steps, takes(gpu=1)), "big": takes(gpu=2)}

    def seconds(stage):
        return 3 if stage == "a00" else 2

    stream = Stream(steps, needs, "gpu=2", seconds, upstream, jobs=jobs).run()
    # NOTE: it is the last by its path and its place, but waits for two rounds only
    assert stream.order.index("big") == 2 * ROUNDS
    assert stream.now <= 30 * 2 + 2 + 2


def test_each_of_several_big_requests_waits_for_its_own_rounds():
    smalls, bigs = [f"small{n:02}" for n in range(30)], ["big0", "big1"]
    needs = {**dict.fromkeys(smalls, takes(gpu=1)), **dict.fromkeys(bigs, takes(gpu=2))}
    times = {stage: 2 + (stage == smalls[0]) for stage in smalls}
    seconds = {**dict.fromkeys(smalls, 9), **dict.fromkeys(bigs, 1)}
    stream = Stream(
        [*smalls, *bigs], needs, "gpu=2", lambda s: times.get(s, 2), seconds=seconds
    ).run()
    places = [stream.order.index(big) for big in bigs]
    assert places == [2 * ROUNDS, 2 * ROUNDS + 1 + 2 * ROUNDS]


def test_what_was_taken_before_a_claim_does_not_count_against_others():
    smalls = [f"small{n}" for n in range(9)]
    needs = {**dict.fromkeys(["long", *smalls], takes(mem=4)), "big": takes(mem=6)}
    needs["holder"] = takes(mem=1)
    plan = make(["holder", "long", "big", *smalls], needs, "mem=10")
    assert started(plan.handle(Begun())) == ["holder", "long", "small0"]
    for n in range(4):
        assert started(plan.handle(Finished(smalls[n], True))) == [smalls[n + 1]]
    # NOTE: the last one was the first since the claim
    assert admission_of(plan).goes_first("big")
    assert started(plan.handle(Finished("long", True))) == []
    assert started(plan.handle(Finished("holder", True))) == ["big"]


def test_who_is_passed_by_those_of_higher_priority_only_does_not_age():
    urgent = [f"urgent{n}" for n in range(6)]
    needs = {stage: {**takes(gpu=1), "priority": 1} for stage in urgent}
    needs.update(big=takes(gpu=2), small=takes(gpu=1))
    upstream = {later: [before] for before, later in zip(urgent, urgent[1:])}
    plan = make([*needs], needs, "gpu=2", {**upstream, "small": ["urgent4"]})
    assert started(plan.handle(Begun())) == ["urgent0"]
    for n in range(4):
        assert started(plan.handle(Finished(urgent[n], True))) == [urgent[n + 1]]
    assert started(plan.handle(Finished("urgent4", True))) == ["urgent5", "small"]


def test_who_waits_for_another_pool_does_not_age():
    smalls = [f"small{n}" for n in range(20)]
    needs = {**dict.fromkeys(smalls, takes(b=1)), "both": takes(a=1, b=1)}
    needs["holder"] = takes(a=1)
    upstream = {later: [before] for before, later in zip(smalls, smalls[1:])}
    plan = make(["holder", "both", *smalls], needs, "b=9", upstream)
    assert set(started(plan.handle(Begun()))) == {"holder", "small0"}
    for small in smalls:
        plan.handle(Finished(small, True))
    assert not admission_of(plan).goes_first("both")


def test_two_of_different_pools_do_not_starve_who_needs_both():
    lines = {name: [f"{name}{n:02}" for n in range(30)] for name in "ab"}
    steps = [*lines["a"], *lines["b"], "both"]
    upstream = {
        stage: [before]
        for line in lines.values()
        for before, stage in zip(line, line[1:])
    }
    needs = {stage: takes(**{stage[0]: 1}) for stage in steps}
    needs["both"] = takes(a=1, b=1)
    seconds = {"a00": 3}
    stream = Stream(steps, needs, "", lambda s: seconds.get(s, 2), upstream).run()
    assert stream.order.index("both") <= 2 * ROUNDS + 1


def test_who_has_a_claim_gets_the_next_job():
    """Its slots do not idle while stages that take none have all jobs."""
    smalls, others = [[f"{name}{n}" for n in range(9)] for name in ("small", "other")]
    needs = {**dict.fromkeys(smalls, takes(gpu=1)), "big": takes(gpu=2)}
    plan = make(
        [*smalls, "big", *others],
        needs,
        "gpu=2",
        upstream={other: ["small2"] for other in others},
        seconds={**dict.fromkeys(needs, 1), **dict.fromkeys(others, 100)},
        jobs=2,
    )
    assert started(plan.handle(Begun())) == ["small2", "small0"]
    assert started(plan.handle(Finished("small0", True))) == ["small1"]
    assert started(plan.handle(Finished("small1", True))) == ["small3"]
    assert started(plan.handle(Finished("small2", True))) == ["other0"]
    assert started(plan.handle(Finished("small3", True))) == ["big"]
    assert started(plan.handle(Finished("other0", True))) == ["other1"]


def test_equals_do_not_age():
    """The order of paths stays, however long somebody has been waiting."""
    steps = [f"s{n}" for n in range(20)]
    times = {stage: 20 - n for n, stage in enumerate(steps)}
    stream = Stream(
        steps, dict.fromkeys(steps, takes(gpu=1)), "gpu=2", times.get, seconds=times
    ).run()
    assert stream.order == steps


def test_who_needs_no_more_than_others_does_not_age():
    steps = [*(f"s{n}" for n in range(9)), "small"]
    needs = {**dict.fromkeys(steps, takes(gpu=1, mem=1)), "small": takes(gpu=1)}
    times = {stage: 20 - n for n, stage in enumerate(steps)}
    stream = Stream(steps, needs, "gpu=1 mem=9", times.get, seconds=times).run()
    assert stream.order == steps


def test_slots_do_not_idle_at_first_for_who_needs_many():
    steps = [f"s{n}" for n in range(8)]
    needs = {**dict.fromkeys(steps, takes(gpu=1)), "big": takes(gpu=8)}
    plan = make([*steps, "big"], needs, "gpu=8")
    assert started(plan.handle(Begun())) == steps


def test_a_permitted_stage_that_waits_is_noticed():
    plan = make(["a", "b"], {"a": takes(db=1), "b": takes(db=1)})
    plan.handle(Begun())
    plan.validate()
    admission_of(plan).give_back("a")
    with pytest.raises(PlanError, match="a slot is idle while a stage is ready"):
        plan.validate()


SIZES = {"a": Size(1), "b": Size(3, ("x", "y", "z")), "c": Size(8)}


@st.composite
def needs_of(draw, stages):
    needs = {}
    for stage in stages:
        pools = {
            name: draw(st.integers(1, size.slots))
            for name, size in SIZES.items()
            if draw(st.booleans())
        }
        needs[stage] = Needs(pools, priority=draw(st.sampled_from([0, 0, 0, 1])))
    return needs


class Watch:
    """Checks from outside what the admission promises, after each event."""

    def __init__(self, plan, needs):
        self.plan = plan
        self.needs = needs
        self.running = set()
        self.passed = defaultdict(lambda: defaultdict(int))

    def left(self, name):
        taken = (self.needs[s].pools.get(name, 0) for s in self.running)
        return SIZES[name].slots - sum(taken)

    def fits(self, stage):
        return all(self.left(n) >= k for n, k in self.needs[stage].pools.items())

    def ready(self):
        return [s for s in self.needs if self.plan.state(s) is State.READY]

    def start(self, stages, ready):
        """Stages start one after the other, of those that were ready."""
        for stage in stages:
            ready.remove(stage)
            assert self.fits(stage)
            self.running.add(stage)
            need = self.needs[stage]
            for other in ready:
                if self.needs[other].priority == need.priority:
                    for name, amount in need.pools.items():
                        if name in self.needs[other].pools:
                            self.passed[other][name] += amount

    def check(self):
        self.plan.validate()
        admission_of(self.plan).validate()
        for name in SIZES:
            assert self.left(name) >= 0
            held = [admission_of(self.plan).held(s).get(name) for s in self.running]
            names = [n for slots in held if slots for n in slots.names or ()]
            assert len(names) == len(set(names))
        in_flight = sum(map(self.plan.count, (State.RUNNING, State.SAVING)))
        if len(self.running) >= self.plan.jobs or in_flight >= 2 * self.plan.jobs:
            return
        if self.plan.stopping:
            return
        # NOTE: whoever could start has to wait for somebody who cannot, for whom it
        # would leave too little, and who is of higher priority, or has been passed by
        # for long enough
        waiting = self.ready()
        for stage in filter(self.fits, waiting):
            assert any(
                not self.fits(other)
                and self.would_lack(other, stage)
                and (
                    self.needs[other].priority > self.needs[stage].priority
                    or self.has_aged(other)
                )
                for other in waiting
            ), f"{stage} could start"

    def would_lack(self, other, stage):
        wanted = self.needs[other].pools
        return any(
            name in wanted and self.left(name) - amount < wanted[name]
            for name, amount in self.needs[stage].pools.items()
        )

    def has_aged(self, stage):
        return any(
            amount >= ROUNDS * SIZES[name].slots
            for name, amount in self.passed[stage].items()
        )


@settings(max_examples=100)
@given(
    graph=graphs(),
    jobs=st.integers(1, 6),
    on_error=st.sampled_from(["fail", "keep-going", "ignore"]),
    data=st.data(),
)
def test_promises_hold_after_every_event(graph, jobs, on_error, data):
    stages, upstream, after = graph
    needs = data.draw(needs_of(stages))
    admission = PoolAdmission(SIZES, needs)
    ready = queue_of(admission, needs)
    plan = Plan(
        stages, upstream, after=after, jobs=jobs, on_error=on_error, ready=ready
    )
    watch = Watch(plan, needs)
    saving = set()

    def handle(event):
        new = started(plan.handle(event))
        watch.start(new, watch.ready() + new)
        watch.check()

    handle(Begun())
    while not plan.done:
        stage = data.draw(st.sampled_from(sorted(watch.running | saving)))
        kinds = ["finished", "failed"] + ["ended"] * (stage in watch.running)
        kind = data.draw(st.sampled_from(kinds))
        watch.running.discard(stage)
        saving.discard(stage)
        if kind == "ended":
            saving.add(stage)
            handle(CommandEnded(stage))
        elif kind == "failed":
            handle(Failed(stage))
        else:
            handle(Finished(stage, True))

    # NOTE: nobody waits for ever, and all slots are back
    assert on_error == "fail" or not watch.ready()
    assert not admission._held


@settings(max_examples=60)
@given(data=st.data())
def test_a_claim_is_met_when_those_before_it_have_ended(data):
    """Once it has been passed by for long enough, all that delays it ran before."""
    count = data.draw(st.integers(5, 40))
    stages = list(range(count))
    needs = {s: Needs(n.pools) for s, n in data.draw(needs_of(stages)).items()}
    admission = PoolAdmission(SIZES, needs)
    plan = Plan(stages, {}, jobs=100, ready=AdmissionQueue(admission))
    running = started(plan.handle(Begun()))
    claims = admission._waiting
    first, before = None, set()
    while running:
        claimed = [kind for kind, waiting in claims.items() if waiting.claimed]
        oldest = min(claimed, key=lambda kind: claims[kind].claimed, default=None)
        if oldest and (oldest, claims[oldest].claimed) != first:
            first, before = (oldest, claims[oldest].claimed), set(running)
        if first and first[0] in claims and claims[first[0]].claimed == first[1]:
            assert before & set(running), f"{first} waits for later ones"
        ended = data.draw(st.sampled_from(running))
        running.remove(ended)
        running += started(plan.handle(Finished(ended, True)))
    assert plan.done


def test_without_pools_there_is_one_kind_and_with_them_one_for_each_request():
    needs = {n: takes(gpu=1 + n % 2) for n in range(100)}
    plan = make(range(200), needs, "gpu=2", jobs=1)
    plan.handle(Begun())
    assert len(plan._ready._kinds) == 3
