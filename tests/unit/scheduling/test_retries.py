import pytest
from dvc.stage.exceptions import StageCmdFailedError

from dvc_parallel.engine.job import QueueAgainError
from dvc_parallel.engine.runner import CommandLostError
from dvc_parallel.scheduling import retries
from dvc_parallel.scheduling.retries import Attempts, StageLostError
from dvc_parallel.scheduling.stage_options import Needs


class Stage:
    """A stage whose commands fail as told; it writes down what happens."""

    def __init__(self, attempts, *errors):
        self.attempts = attempts
        self.errors = list(errors)
        self.story = []

    def reproduce(self, force):
        self.story.append("force" if force else "try")
        with self.attempts.commands(on_end=lambda _failed: self.story.append("end")):
            if self.errors and (error := self.errors.pop(0)):
                raise error
        return self

    def run(self, force=False):
        return self.attempts.run(
            self.reproduce, force, lambda _: self.story.append(self.attempts.number)
        )


FAILURE = StageCmdFailedError("cmd", 1)


def make(needs, *errors, is_stopping=lambda: False):
    return Stage(Attempts(needs, is_stopping), *errors)


def test_one_attempt():
    stage = make(Needs())
    assert stage.run() is stage
    assert stage.story == ["try", "end"]


def test_it_is_over_for_the_plan_after_the_last_attempt_only():
    stage = make(Needs(retries=5), FAILURE, FAILURE)
    assert stage.run() is stage
    assert stage.story == ["try", 2, "force", 3, "force", "end"]


def test_no_more_attempts_than_there_are():
    stage = make(Needs(retries=1), FAILURE, FAILURE, FAILURE)
    with pytest.raises(StageCmdFailedError):
        stage.run()
    assert stage.story == ["try", 2, "force", "end"]


LOST = StageLostError("cmd", CommandLostError("w", "it is silent"))


def test_a_lost_worker_costs_no_retry():
    stage = make(Needs(retries=1), LOST, LOST, FAILURE, LOST)
    assert stage.run() is stage
    assert stage.story == ["try", 2, "force", 3, "force", 4, "force", 5, "force", "end"]


def test_workers_are_lost_so_many_times_only():
    stage = make(Needs(), LOST, LOST, LOST, LOST, LOST)
    with pytest.raises(StageLostError, match="failed to run: cmd, worker 'w' was lost"):
        stage.run()
    assert stage.story == ["try", 2, "force", 3, "force", 4, "force", "end"]


def test_a_lost_worker_gives_no_retries():
    stage = make(Needs(), LOST, FAILURE)
    with pytest.raises(StageCmdFailedError):
        stage.run()
    assert stage.story == ["try", 2, "force", "end"]


def test_none_after_another_error():
    stage = make(Needs(retries=3), ValueError("ouch"))
    with pytest.raises(ValueError, match="ouch"):
        stage.run()
    assert stage.story == ["try", "end"]


def test_none_after_an_error_while_saving():
    attempts = Attempts(Needs(retries=3), lambda: False)
    stage = Stage(attempts, FAILURE)

    def reproduce(force):
        stage.reproduce(force)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        attempts.run(reproduce, force=False, on_retry=lambda _: None)
    assert stage.story == ["try", "force", "end"]


def test_none_when_the_run_is_stopping():
    stage = make(Needs(retries=3), FAILURE, is_stopping=lambda: True)
    with pytest.raises(StageCmdFailedError):
        stage.run()
    assert stage.story == ["try", "end"]


def test_a_timeout_is_one_for_all_commands_of_an_attempt(mocker):
    clock = mocker.patch.object(retries, "clock", return_value=100.0)
    attempts = Attempts(Needs(timeout=10), lambda: False)
    with attempts.commands(on_end=lambda _failed: None):
        assert attempts.seconds_left() == 10
        clock.return_value = 107.0
        assert attempts.seconds_left() == 3
        clock.return_value = 200.0
        assert attempts.seconds_left() == 0
    with attempts.commands(on_end=lambda _failed: None):
        assert attempts.seconds_left() == 10
    assert "cmd, timed out after 10 s" in str(attempts.timeout("cmd"))


def test_waiting_for_a_worker_does_not_count(mocker):
    clock = mocker.patch.object(retries, "clock", return_value=100.0)
    attempts = Attempts(Needs(timeout=10), lambda: False)
    with attempts.commands(on_end=lambda _failed: None):
        clock.return_value = 103.0
        go_on = attempts.wait()
        assert attempts.seconds_left() == 7
        clock.return_value = 200.0
        go_on()
        assert attempts.seconds_left() == 7


def test_no_timeout():
    attempts = Attempts(Needs(), lambda: False)
    with attempts.commands(on_end=lambda _failed: None):
        attempts.wait()()
        assert attempts.seconds_left() is None


def test_an_attempt_that_takes_more_begins_anew():
    attempts = Attempts(
        Needs(retries=3), lambda: False, grows=lambda failed: failed == 2
    )
    stage = Stage(attempts, FAILURE, FAILURE)
    with pytest.raises(QueueAgainError) as caught:
        stage.run()
    assert caught.value.failed == 2
    assert caught.value.__cause__ is FAILURE
    assert stage.story == ["try", 2, "force", 3]
    assert stage.run() is stage
    assert stage.story[4:] == ["force", "end"]


def test_a_lost_worker_takes_no_more():
    asked = []
    attempts = Attempts(Needs(retries=3), lambda: False, grows=asked.append)
    stage = Stage(attempts, LOST, FAILURE, LOST)
    assert stage.run() is stage
    assert asked == [1]
