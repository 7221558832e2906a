"""What a report tells about runs whose end is known by hand, and about large ones."""

import json
import re
from pathlib import Path

import pytest

from dvc_parallel.engine.reporter_events import OUTCOMES
from dvc_parallel.engine.usage import Usage
from dvc_parallel.reporting.records.reader import Stage
from dvc_parallel.reporting.report.chrome_trace import chrome_trace
from dvc_parallel.reporting.report.critical import Causes
from dvc_parallel.reporting.report.timeline import timeline
from tests.support.journals import Journal, large, summed_up
from tests.support.traces import check_trace


@pytest.fixture
def told(tmp_path):
    """Write a journal, read it, and sum it up."""

    def tell(journal):
        return summed_up(journal, tmp_path)[1]

    return tell


def names(path):
    return [step.stage.name for step in path]


def whys(path):
    return [step.why for step in path]


def check_path(found):
    """What holds for the critical path of any run."""
    path = found.path
    assert path[0].why == "start"
    assert path[0].start == 0
    assert path[-1].end == max(s.end for s in found.timeline.stages if s.held)
    for step, after in zip(path, path[1:]):
        assert step.start <= step.end == after.start
        assert after.behind is step.stage
    assert sum(found.on_path.values()) == pytest.approx(path[-1].end)


def check_rows(timeline):
    """No two stages are in one row at a time, and none is left out."""
    for number, held in (("slot", "held"), ("saving_lane", "saved")):
        rows = {}
        for stage in timeline.stages:
            when = getattr(stage, held)
            assert (getattr(stage, number) is None) == (when is None)
            if when:
                rows.setdefault(getattr(stage, number), []).append(when)
        for row in rows.values():
            row.sort()
            assert all(one[1] <= other[0] for one, other in zip(row, row[1:]))
    assert timeline.slots == timeline.jobs


def test_another_attempt_is_part_of_what_a_stage_did():
    phases = [
        (0.0, "check", {}),
        (1.0, "command", {"cmd": "false"}),
        (3.0, "retry", {"attempt": 2, "error": "failed"}),
        (4.0, "command", {"cmd": "true"}),
        (6.0, "ran", {}),
    ]
    record = Stage("a", [], [], None, "", phases)
    (stage,) = timeline([record], 1, 6.0).stages
    assert [(span.phase, span.seconds) for span in stage.spans] == [
        ("check", 1),
        ("command", 2),
        ("check", 1),
        ("command", 2),
    ]
    assert stage.held == (0, 6)


def test_path_goes_through_the_upstream_that_ended_last(told):
    found = told(Journal({2: [0, 1]}, [1.0, 3.0, 2.0], jobs=2))
    assert names(found.path) == ["s1", "s2"]
    assert whys(found.path) == ["start", "upstream"]
    assert [(step.start, step.end) for step in found.path] == [(0, 3), (3, 5)]
    check_path(found)


def test_path_goes_through_the_slots_that_became_free(told):
    # NOTE: s3 gets the slot of s0 before s1, which depends on s0, is ready
    found = told(Journal({1: [0]}, [1.0, 1.0, 5.5, 4.0], jobs=2))
    assert names(found.path) == ["s0", "s3", "s1"]
    assert whys(found.path) == ["start", "slot", "slot"]
    assert found.timeline.seconds == 6
    assert found.waiting["slot"].longest.name == "s1"
    assert found.waiting["slot"].longest_seconds == 4
    assert found.waiting["slot"].seconds == 5
    check_path(found)


def test_saving_belongs_to_the_path_if_a_dependent_waits_for_it(told):
    found = told(Journal({1: [0]}, [1.0, 1.0], lock=0.25, check=0.5, save=2.0))
    assert found.on_path == {
        "command": 2,
        "check": 1,
        "save": 4,
        "lock": 1,
        "handover": 0,
    }
    check_path(found)


def test_saving_does_not_belong_to_it_if_only_the_slot_was_waited_for(told):
    found = told(Journal({}, [1.0, 1.0], jobs=1, save=0.5))
    assert names(found.path) == ["s0", "s1"]
    assert [step.end for step in found.path] == [1, 2.5]
    assert found.on_path["save"] == 0.5
    check_path(found)


def test_where_as_many_are_saved_as_may_be_their_end_is_waited_for(told):
    # NOTE: with one job, a third stage starts only when one of two has been saved
    found = told(Journal({}, [1.0, 1.0, 1.0], jobs=1, save=5.0))
    assert names(found.path) == ["s0", "s2"]
    assert found.path[0].end == found.path[1].start == 6
    check_path(found)


def test_the_glossary_has_the_outcomes():
    text = (Path(__file__).parents[3] / "docs/glossary.md").read_text()
    outcomes = text.partition("## Outcomes")[2].partition("\n## ")[0]
    assert re.findall(r"^\| \*\*(.+?)\*\* ", outcomes, re.MULTILINE) == [*OUTCOMES]


FAN: dict[int, list] = {stage: [] for stage in range(8)}


@pytest.mark.parametrize(
    "journal, advice",
    [
        (Journal(FAN, [0.01] * 8, save=0.1), "DVC's own work took 0.8 s of .* do not"),
        (Journal(FAN, [1.0] * 8), "takes 1.0 s of the 4.0 s. More jobs help"),
        (Journal(FAN, [1.0] * 8, pool=frozenset(FAN)), "stages waited for pools."),
        (Journal({1: [0]}, [1.0, 3.0]), "More jobs do not help.*'s1' takes longest, 3"),
        (Journal({1: [0]}, [1.0, 3.0], killed_at=-1), "^$"),
    ],
)
def test_advice(told, journal, advice):
    assert re.search(advice, told(journal).advice)


def test_times_are_those_of_the_clock_of_the_run():
    phases = [(0.0, "check", {}), (1.0, "command", {}), (3.0, "ran", {"seconds": 2.9})]
    (stage,) = timeline([Stage("a", [], [], None, "", phases)], 1, 3.0).stages
    assert stage.busy == 2.9


def test_pool(told):
    found = told(Journal({}, [1.0, 2.0], jobs=1, pool=frozenset({1})))
    assert whys(found.path) == ["start", "pool"]
    assert found.waiting["pool"].seconds == 1
    assert found.waiting["slot"].seconds == 0


def test_longest_chain_counts_no_waiting(told):
    journal = Journal({1: [0], 3: [2]}, [1.0, 2.0, 1.0, 4.0], 1, lock=7.0, save=0.5)
    assert told(journal).chain == 6


def test_unchanged_stage_holds_its_slot_to_its_end(told):
    found = told(Journal({}, [None, 1.0], jobs=1, check=0.5))
    assert [stage.outcome for stage in found.timeline.stages] == [
        "unchanged",
        "ran",
    ]
    assert found.timeline.stages[0].held == (0, 0.5)
    assert found.timeline.stages[0].saved is None


def test_failure_and_what_is_not_run(told):
    journal = Journal(
        {1: [0], 2: [1]}, [1.0] * 3, failing=frozenset({0}), on_error="keep-going"
    )
    found = told(journal)
    assert found.outcomes == {"failed": 1, "not run": 2}
    assert [stage.error for stage in found.failed] == ["failed to reproduce 's0'"]
    assert names(found.path) == ["s0"]
    check_rows(found.timeline)


def test_nothing_has_started(told):
    found = told(Journal({1: [0]}, [1.0, 1.0], lock=1.0, killed_at=-1))
    assert found.path == []
    assert found.timeline.seconds == 0
    assert found.usage == 0
    json.dumps(found.as_dict())


def test_killed_in_the_middle(told):
    found = told(Journal({1: [0]}, [1.0, 3.0], save=0.5, killed_at=2.0))
    assert found.outcomes == {"ran": 1, "interrupted": 1}
    assert names(found.path) == ["s0", "s1"]
    check_path(found)


@pytest.mark.parametrize(
    "jobs, seed, saves", [(1, 1, 0.3), (3, 2, 0.3), (16, 3, 0.3), (4, 4, 30.0)]
)
def test_random_runs(told, jobs, seed, saves):
    journal = large(
        300,
        jobs,
        seed,
        save=saves,
        on_error="ignore",
        failing=frozenset(range(0, 300, 11)),
    )
    found = told(journal)
    check_path(found)
    check_rows(found.timeline)
    assert found.chain <= found.timeline.seconds + 1e-6
    causes = Causes(found.timeline)
    for stage in found.timeline.stages:
        cause = causes.of(stage)
        assert cause.when <= stage.held[0]
        if cause.why in ("slot", "pool"):
            # NOTE: on the virtual clock, what frees a slot and what takes it coincide
            assert cause.when == stage.held[0]


@pytest.mark.parametrize("jobs, count", [(1, 40), (4, 300), (16, 3000)])
def test_trace(told, jobs, count):
    journal = large(count, jobs, on_error="ignore", failing=frozenset({7, 30}))
    found = told(journal)
    trace = chrome_trace(journal.header, found)
    slices = check_trace(trace)

    tracks = {
        event["tid"]: event["args"]["name"]
        for event in trace["traceEvents"]
        if event["name"] == "thread_name"
    }
    assert [name for name in tracks.values() if name.startswith("slot")] == [
        f"slot {number + 1}" for number in range(jobs)
    ]
    shown = {
        event["name"]
        for event in slices
        if event["cat"] == "stage" and tracks[event["tid"]].startswith("slot")
    }
    assert shown == set(journal.names)
    counts = [e["args"] for e in trace["traceEvents"] if e["ph"] == "C"]
    assert set(counts[-1].values()) == {0}
    assert max(count["running"] for count in counts) == jobs
    failed = [e["name"] for e in trace["traceEvents"] if e["ph"] == "i"]
    assert failed == [f"{journal.names[7]} failed", f"{journal.names[30]} failed"]


def test_trace_of_names_that_are_not_text(told):
    journal = Journal({}, [1.0], names=["a\ud800\0"])
    trace = chrome_trace(
        {**journal.header, "command": "dvc repro \udce9"}, told(journal)
    )
    json.dumps(trace, ensure_ascii=False).encode()
    assert {e["name"] for e in check_trace(trace)} >= {"a?"}


def test_trace_of_a_small_run(told):
    journal = Journal({1: [0]}, [1.0, 2.0], jobs=1, check=0.5, save=0.25)
    slices = check_trace(chrome_trace(journal.header, told(journal)))
    assert [(e["name"], e["tid"], e["ts"], e["dur"]) for e in slices] == [
        ("s0", 1, 0, 1_500_000),
        ("lock", 1, 0, 0),
        ("check", 1, 0, 500_000),
        ("command", 1, 500_000, 1_000_000),
        ("s0", 2, 1_500_000, 250_000),
        ("lock", 2, 1_500_000, 0),
        ("save", 2, 1_500_000, 250_000),
        ("s1", 1, 1_750_000, 2_500_000),
        ("lock", 1, 1_750_000, 0),
        ("check", 1, 1_750_000, 500_000),
        ("command", 1, 2_250_000, 2_000_000),
        ("s1", 2, 4_250_000, 250_000),
        ("lock", 2, 4_250_000, 0),
        ("save", 2, 4_250_000, 250_000),
        ("s0", 3, 0, 1_750_000),
        ("s1", 3, 1_750_000, 2_750_000),
    ]


GB = 10**9
# Three stages with two jobs: s0 beside s1, then s2 beside s1.
USED = {
    0: {"seconds": 2.0, "cpu": 3.0, "memory": 3 * GB, "read": 5, "written": 1},
    1: {
        "seconds": 4.0,
        "cpu": 4.0,
        "memory": 2 * GB,
        "read": 5,
        "written": 2,
        "samples": [[1.0, GB], [3.0, 2 * GB]],
    },
    2: {"seconds": 1.0, "cpu": 0.5},
}


def used_run(**kwargs):
    return Journal({}, [2.0, 4.0, 1.0], used={**USED, **kwargs})


def test_memory_of_a_run_is_that_of_all_stages_together(told):
    found = told(used_run())
    assert found.timeline.memory() == [
        (0.0, 4 * GB),
        (2.0, GB),
        (3.0, 2 * GB),
        (4.0, 0),
    ]
    assert found.used.memory == 4 * GB
    assert (found.used.cpu, found.used.cores) == (7.5, 7.5 / 4)
    assert (found.used.read, found.used.written) == (10, 3)
    assert found.largest.name == "s0"
    summed = found.as_dict()
    assert summed["used"]["largest"] == "s0"
    assert summed["slowest"][0]["used"]["memory"] == 2 * GB


def test_peaks_stay_in_a_line_of_few_points(told):
    samples = [[float(t), GB if t == 77 else t] for t in range(100)]
    used = {0: {"seconds": 100.0, "memory": GB, "samples": samples}}
    found = told(Journal({}, [100.0], used=used))
    line = found.timeline.memory(10)
    assert len(line) <= 12
    assert max(size for _, size in line) == GB
    assert line[-1][1] == 0


def test_what_all_attempts_used_counts(told):
    used = Usage(1.0, cpu=1.0, memory=5, samples=[(0.5, 4)])
    phases = [
        (0.0, "command", {"cmd": "false"}),
        (1.0, "lock", {"used": used}),
        (2.0, "command", {"cmd": "true"}),
        (3.0, "lock", {"used": used}),
        (4.0, "ran", {}),
    ]
    record = Stage("a", [], [], None, "", phases)
    (stage,) = timeline([record], 1, 4.0).stages
    assert (stage.used.seconds, stage.used.cpu, stage.used.memory) == (2, 2, 5)
    assert stage.memory == [(0.0, 1.0, 4), (2.0, 3.0, 4)]


def test_nothing_is_known_of_what_was_used(told):
    found = told(Journal({}, [1.0]))
    assert found.used is found.largest is found.as_dict()["used"] is None
    assert found.timeline.memory() == found.timeline.memory(10) == []


def test_trace_has_what_was_used(told):
    trace = chrome_trace({}, told(used_run()))
    check_trace(trace)
    counts = {"CPUs": [], "memory": []}
    for event in trace["traceEvents"]:
        if event["ph"] == "C" and event["name"] in counts:
            (value,) = event["args"].values()
            counts[event["name"]].append((event["ts"] / 1e6, value))
    assert counts["CPUs"] == [(0, 2.5), (2, 1.5), (3, 1), (4, 0)]
    mib = [(when, round(mib * 2**20 / GB, 2)) for when, mib in counts["memory"]]
    assert mib == [(0, 4), (2, 1), (3, 2), (4, 0)]


@pytest.mark.parametrize("used", [7, {"seconds": -1}, {"cpu": 1}, {"seconds": "x"}])
def test_a_journal_with_nonsense(told, used):
    assert told(used_run()).used
    (stage,) = told(
        Journal({}, [1.0], used={0: used}, id="20261121-083001-test")
    ).timeline.stages
    assert stage.used is None
