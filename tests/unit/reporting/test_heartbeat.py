import logging

import pytest

from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.engine.reporter_events import Phase, Reporters, RunInfo, StageInfo
from dvc_parallel.reporting.heartbeat import EVERY, Heartbeat
from dvc_parallel.reporting.progress import about

STAGES = [StageInfo(name, seconds=3600.0) for name in "abcdef"]


@pytest.fixture
def beats(mocker):
    log = mocker.patch("dvc_parallel.reporting.heartbeat.log")
    return lambda: [call.args[1] % call.args[2:] for call in log.call_args_list]


@pytest.fixture
def run(clock):
    plain = PlainReporter()
    reporter = Reporters(plain, Heartbeat(plain, clock))
    reporter.begun(RunInfo(STAGES, 2, "fail"))
    yield reporter
    reporter.close()


def test_once_a_minute(run, clock, beats):
    run.phase(0, Phase.RAN)
    run.phase(1, Phase.CHECK)
    run.phase(1, Phase.LOCK)
    clock.now += 40
    run.phase(2, Phase.CHECK)
    run.phase(3, Phase.LOCK)
    assert run.due() == EVERY - 40
    clock.now += 19
    run.tick()
    assert beats() == []
    clock.now += 1
    assert run.due() == 0
    run.tick()
    run.tick()
    line = "[1/6] 2 running: b 1 min 0 s, c 20.0 s; about 2.5 h left"
    assert beats() == [line]
    assert run.due() == EVERY


def test_not_if_something_else_is_printed(run, clock, beats, capfd):
    for action in (
        lambda: run.output(1, "stdout", b"line\n"),
        lambda: logging.getLogger("dvc.stage").warning("a word of DVC"),
    ):
        clock.now += EVERY - 1
        action()
        assert run.due() == EVERY
        clock.now += 1
        run.tick()
    assert beats() == []


def test_output_that_is_not_shown_does_not_count(run, clock, beats):
    clock.now += EVERY - 1
    run.output(1, "stdout", b"1%\r")
    assert run.due() == 1


def test_many_stages_and_failures(run, clock, beats):
    run.phase(0, Phase.FAILED, error="")
    for stage in range(1, 6):
        run.phase(stage, Phase.CHECK)
    clock.now += EVERY
    run.tick()
    running = ", ".join(f"{name} 1 min 0 s" for name in "bcde")
    assert beats() == [f"[1/6] 5 running: {running}, ...; 1 failed; about 2.5 h left"]


def test_no_more_than_dvcs_level(run, clock, mocker):
    clock.now += EVERY
    logger = logging.getLogger("dvc")
    emit = mocker.patch("dvc.logger.LoggerHandler.emit")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        run.tick()
    finally:
        logger.setLevel(level)
    emit.assert_not_called()


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "1 s"), (59, "59 s"), (90, "2 min"), (3660, "1.0 h"), (36000, "10 h")],
)
def test_about(seconds, text):
    assert about(seconds) == text
