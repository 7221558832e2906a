import pytest

from dvc_parallel.engine.plan import Begun, Finished, LookAgain, Plan, Start
from dvc_parallel.scheduling.admission import PoolAdmission
from dvc_parallel.scheduling.load import LoadLimit, load_average, parse_load
from dvc_parallel.scheduling.ready_queue import AdmissionQueue


class Machine:
    """A machine whose load is set by the test."""

    def __init__(self, limit, stages=10, jobs=10):
        self.now = 0.0
        self.load = 0.0
        admission = LoadLimit(
            limit, PoolAdmission({}, {}), lambda: self.load, lambda: self.now
        )
        ready = AdmissionQueue(admission)
        self.plan = Plan(range(stages), {}, jobs=jobs, ready=ready)

    def tell(self, event, load=None, later=0.0):
        self.now += later
        self.load = self.load if load is None else load
        started = [i.stage for i in self.plan.handle(event) if isinstance(i, Start)]
        self.plan.validate()
        return started


def test_stages_that_just_start_count_before_the_load_shows_them():
    machine = Machine(limit=3)
    assert machine.tell(Begun()) == [0, 1, 2]
    assert machine.tell(LookAgain()) == []
    # NOTE: they sleep, as it turns out
    assert machine.tell(LookAgain(), later=60) == [3, 4]


def test_nothing_new_while_the_load_is_high():
    machine = Machine(limit=4)
    assert machine.tell(Begun(), load=2.5) == [0, 1]
    assert machine.tell(LookAgain(), load=4.0, later=600) == []
    assert machine.tell(Finished(0, True)) == []
    assert machine.tell(LookAgain(), load=3.5) == [2]


def test_something_runs_in_any_case():
    machine = Machine(limit=1, stages=3)
    assert machine.tell(Begun(), load=100) == [0]
    assert machine.tell(LookAgain(), later=1000) == []
    assert machine.tell(Finished(0, True)) == [1]
    assert machine.tell(Finished(1, True)) == [2]
    machine.tell(Finished(2, True))
    assert machine.plan.done


def test_jobs_are_the_limit_still():
    assert Machine(limit=100, jobs=2).tell(Begun()) == [0, 1]


@pytest.mark.parametrize("value, load", [("2", 2), ("1.5", 1.5), (8, 8)])
def test_parse(value, load):
    assert parse_load(value) == load


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "nan", "inf", None, True])
def test_what_is_no_load(value):
    with pytest.raises(ValueError, match=f"expected a positive number, got '{value}'"):
        parse_load(value)


def test_the_load_of_this_machine(monkeypatch):
    assert load_average() >= 0
    monkeypatch.delattr("os.getloadavg")
    assert load_average() == 0
