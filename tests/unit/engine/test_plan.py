import pytest

from dvc_parallel.engine.plan import (
    Begun,
    CommandEnded,
    Failed,
    Finished,
    Interrupted,
    Plan,
    PlanError,
    QueuedAgain,
    Skip,
    Start,
    State,
    Withdrawn,
)
from tests.support.simulation import Simulation, makespan, started


def test_one_root_and_then_eight_leaves_four_at_a_time():
    leaves = [f"leaf{i}" for i in range(8)]
    plan = Plan(["root", *leaves], {leaf: ["root"] for leaf in leaves}, jobs=4)

    assert started(plan.handle(Begun())) == ["root"]
    assert started(plan.handle(Finished("root", True))) == leaves[:4]
    assert started(plan.handle(Finished("leaf2", True))) == ["leaf4"]


def test_a_stage_starts_when_its_own_upstreams_are_done():
    upstream = {"a2": ["a1"], "b2": ["b1"]}
    plan = Plan(["a1", "b1", "a2", "b2"], upstream, jobs=2)

    assert started(plan.handle(Begun())) == ["a1", "b1"]
    # NOTE: b1 still runs. A tool that goes level by level would wait for it.
    assert started(plan.handle(Finished("a1", True))) == ["a2"]


def test_longest_remaining_path_first_and_ties_in_plan_order():
    upstream = {"y": ["long"], "z": ["y"]}
    plan = Plan(["short1", "short2", "long", "y", "z"], upstream, jobs=2)

    assert started(plan.handle(Begun())) == ["long", "short1"]
    assert started(plan.handle(Finished("long", True))) == ["y"]
    assert started(plan.handle(Finished("short1", True))) == ["short2"]


def test_what_took_long_goes_first():
    seconds = {"short": 1, "long": 10}
    plan = Plan(["short", "unknown", "long"], {}, seconds=seconds, jobs=2)

    # NOTE: what is not known counts as the median, here 5.5 s
    assert started(plan.handle(Begun())) == ["long", "unknown"]


def test_the_second_run_of_an_uneven_graph_is_as_short_as_can_be():
    steps = [f"s{number}" for number in range(12)]
    times = dict(zip(steps, [1] * 10 + [9, 10]))
    first = Simulation(steps, {}, times, jobs=3)
    second = Simulation(steps, {}, times, jobs=3, known=times)

    assert makespan(first) == 13
    # NOTE: 29 s of work on three slots
    assert makespan(second) == 10


def test_saving_needs_no_slot():
    plan = Plan(["a", "b", "c"], {}, jobs=1)

    assert started(plan.handle(Begun())) == ["a"]
    assert started(plan.handle(CommandEnded("a"))) == ["b"]
    # NOTE: but what is to be saved does not pile up
    assert started(plan.handle(CommandEnded("b"))) == []
    assert started(plan.handle(Finished("a", True))) == ["c"]


def test_who_starts_again_queues_with_what_waits():
    plan = Plan(["a", "b"], {}, jobs=1)

    assert started(plan.handle(Begun())) == ["a"]
    # NOTE: it gives back its slot, and comes first nevertheless
    assert started(plan.handle(QueuedAgain("a"))) == ["a"]
    plan.validate()
    plan.handle(Interrupted())
    plan.handle(QueuedAgain("a"))
    assert plan.state("a") is State.READY
    assert plan.done
    plan.validate()
    with pytest.raises(PlanError):
        plan.handle(QueuedAgain("a"))


def test_after_waits_for_any_end():
    plan = Plan(["a", "b"], {}, after={"b": ["a"]}, jobs=2, on_error="keep-going")

    assert started(plan.handle(Begun())) == ["a"]
    assert plan.handle(Failed("a")) == [Start("b", False)]


def test_what_is_found_out_late_is_waited_for():
    leaves = ["a", "b", "c", "d"]
    asked = []

    def found_late(stages):
        asked.append(stages)
        return {"c": ["a", "root"], "d": ["a"]} if "c" in stages else {}

    upstream = {"a": ["root"], "b": ["root"], "c": ["root"], "d": ["b"]}
    plan = Plan(["root", *leaves], upstream, jobs=4, found_late=found_late)
    assert started(plan.handle(Begun())) == ["root"]
    assert started(plan.handle(Finished("root", True))) == ["b", "a"]
    plan.validate()
    assert started(plan.handle(Finished("b", True))) == []  # as d waits for a as well
    assert started(plan.handle(Failed("a"))) == []
    assert asked[0] == ["a", "b", "c"]


def test_who_went_too_early_is_waited_for():
    plan = Plan(
        ["x", "y", "a", "b"],
        {"a": ["x"], "b": ["y"]},
        jobs=2,
        found_late=lambda stages: {"b": ["a"]} if stages == ["a"] else {},
    )
    assert started(plan.handle(Begun())) == ["x", "y"]
    assert started(plan.handle(Finished("y", True))) == ["b"]
    assert started(plan.handle(Finished("x", True))) == []
    plan.validate()
    assert started(plan.handle(Finished("b", True))) == ["a"]
    plan.handle(Finished("a", True))
    assert plan.done


def test_fail_starts_nothing_new_and_waits_for_what_runs():
    plan = Plan(["a", "b", "c"], {}, jobs=2)
    plan.handle(Begun())

    assert plan.handle(Failed("a")) == []
    assert not plan.done
    assert plan.handle(Finished("b", True)) == []
    assert plan.done
    assert plan.state("c") is State.READY


def test_what_was_started_can_be_withdrawn_when_the_run_stops():
    plan = Plan(["a", "b", "c"], {"c": ["b"]}, jobs=2)
    plan.handle(Begun())
    plan.handle(Failed("a"))

    assert plan.handle(Withdrawn("b")) == []
    assert plan.done
    assert plan.state("c") is State.WAITING


def test_keep_going_skips_what_depends_on_the_failure():
    upstream = {"b": ["a"], "c": ["b"], "e": ["d"]}
    plan = Plan(["a", "b", "c", "d", "e"], upstream, on_error="keep-going")
    plan.handle(Begun())

    assert plan.handle(Failed("a")) == [
        Skip("b", "a"),
        Skip("c", "a"),
        Start("d", False),
    ]
    assert started(plan.handle(Finished("d", True))) == ["e"]
    plan.handle(Finished("e", True))
    assert plan.done


def test_ignore_runs_what_depends_on_the_failure():
    plan = Plan(["a", "b"], {"b": ["a"]}, on_error="ignore")
    plan.handle(Begun())

    assert plan.handle(Failed("a")) == [Start("b", False)]


def test_interrupted_starts_nothing_new():
    plan = Plan(["a", "b"], {}, jobs=1)
    plan.handle(Begun())

    assert plan.handle(Interrupted()) == []
    assert plan.handle(Finished("a", True)) == []
    assert plan.done


def test_force_downstream_forces_direct_dependents_only_of_what_ran():
    upstream = {"b": ["a"], "c": ["b"], "e": ["d"]}
    steps = ["a", "b", "c", "d", "e"]
    plan = Plan(steps, upstream, jobs=2, force_downstream=True)
    plan.handle(Begun())

    assert plan.handle(Finished("a", True)) == [Start("b", True)]
    assert plan.handle(Finished("d", False)) == [Start("e", False)]
    # NOTE: unchanged, but forced: DVC goes on from there
    assert plan.handle(Finished("b", False)) == [Start("c", True)]


def test_an_impossible_event_tells_the_story_of_its_stage():
    plan = Plan(["a"], {})
    plan.handle(Begun())
    plan.handle(Finished("a", True))

    with pytest.raises(PlanError, match="waiting -> ready -> running -> done"):
        plan.handle(Finished("a", True))


def test_upstreams_come_first():
    with pytest.raises(PlanError, match="'a' comes before"):
        Plan(["a", "b"], {"a": ["b"]})
