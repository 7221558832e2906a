import io
import sys
import threading
from unittest.mock import Mock

import pytest

from dvc_parallel.engine.plain_reporter import (
    MOST_FAILED,
    TAIL_LINES,
    TAIL_WIDTH,
    PlainReporter,
    duration,
)
from dvc_parallel.engine.reporter_events import Phase, RunInfo, StageInfo, Summary
from dvc_parallel.engine.terminal import LINE_LIMIT, without_controls
from tests import HANGS

RUN = RunInfo([StageInfo("train@a"), StageInfo("train@b")], 2, "fail")
FAILED = Summary("failed", 1.0, 1.0, {Phase.FAILED: 1}, [0])


@pytest.fixture
def reporter():
    reporter = PlainReporter(log_of=lambda stage: f"logs/{stage}.log")
    reporter.begun(RUN)
    return reporter


@pytest.fixture
def failures(reporter, mocker):
    """What is shown of stages that have failed at the end."""
    log = mocker.patch("dvc_parallel.engine.plain_reporter.log")

    def get(*stages):
        log.reset_mock()
        failed = {Phase.FAILED: len(stages)}
        reporter.ended(Summary("failed", 1.0, 1.0, failed, stages))
        shown = [call.args[1] % call.args[2:] for call in log.call_args_list]
        return "\n".join(shown[:-1]).splitlines()

    return get


HEAD = "  stage    exit  time   all of its output"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("name", ["missing", "closed"])
def test_output_of_what_has_no_place_to_go(reporter, failures, monkeypatch, name):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed if name == "closed" else None)
    reporter.output(0, "stdout", b"line\n")
    reporter.phase(0, Phase.FAILED, error="why", seconds=2.0, exit=3)
    assert failures(0) == [
        "1 stage failed:",
        HEAD,
        "  train@a  3     2.0 s  dvc-parallel logs train@a",
        "    | line",
    ]


def test_failures_have_their_reasons(reporter, failures):
    reporter.output(0, "stdout", b"line\n")
    reporter.phase(0, Phase.FAILED, error="killed", seconds=61, exit=-9)
    reporter.phase(1, Phase.FAILED, error="output 'x'\nis missing", seconds=0.1)
    assert failures(0, 1) == [
        "2 stages failed:",
        "  stage    exit     time       all of its output",
        "  train@a  SIGKILL  1 min 1 s  dvc-parallel logs train@a",
        "    | line",
        "  train@b  -        0.1 s",
        "    output 'x'",
        "    is missing",
    ]


def test_a_failure_has_no_empty_columns(reporter, failures):
    error = "failed to run: sleep 9, timed out after 1 s"
    reporter.phase(0, Phase.FAILED, error=error, seconds=1.0)
    assert failures(0) == [
        "1 stage failed:",
        "  stage    time",
        "  train@a  1.0 s",
        "    `sleep 9` timed out after 1 s",
    ]


def test_many_failures_are_shown_in_short(reporter, failures):
    stages = [StageInfo(f"s{number}") for number in range(200)]
    reporter.begun(RunInfo(stages, 2, "keep-going"))
    for stage in range(200):
        reporter.output(stage, "stdout", b"first\nlast\n")
        reporter.phase(stage, Phase.FAILED, error="why", seconds=1.0, exit=1)
    lines = failures(*range(200))
    assert len(lines) == 2 + 2 * MOST_FAILED + 1
    assert lines[3] == "    | last"
    assert lines[-1] == "  and 150 more: dvc-parallel logs --failed"


def test_nothing_is_shown_after_the_end(reporter, capfd):
    reporter.output(0, "stdout", b"before\n")
    reporter.stages_over()
    reporter.output(0, "stdout", b"after\n")
    assert capfd.readouterr().out == "train@a | before\n"


@pytest.mark.parametrize(
    "data, shown",
    [
        (b"a\nb\n", b"a\nb\n"),
        (b"\n\na\n\n", b"\n\na\n\n"),
        (b"no end", b"no end\n"),
        (b"\xff\xfe\n", b"\xff\xfe\n"),
        (b"a\r\nb\r\r\n", b"a\nb\n"),
    ],
)
def test_lines(reporter, capfdbinary, data, shown):
    reporter.output(1, "stdout", data)
    lines = shown.splitlines(keepends=True)
    assert capfdbinary.readouterr().out == b"".join(b"train@b | " + x for x in lines)


def test_a_progress_bar_is_one_line(reporter, capfd):
    reporter.output(0, "stdout", b"first\n1%\r")
    reporter.output(1, "stdout", b"other\n")
    reporter.output(0, "stdout", b"2%\r3%\r")
    reporter.output(0, "stdout", b"\nnext\n")
    reporter.output(0, "stderr", b"left\r")
    reporter.phase(0, Phase.LOCK)
    out, err = capfd.readouterr()
    a, b = "train@a | ", "train@b | "
    assert out == f"{a}first\n{b}other\n{a}3%\n{a}next\n"
    assert err == f"{a}left\n"


def test_of_a_progress_bar_its_last_state_is_kept(reporter, capfd, failures):
    for _ in range(2 * LINE_LIMIT // 100 + 3):
        reporter.output(0, "stdout", b"x" * 99 + b"\r")
        assert sum(map(len, reporter._begun.values())) <= 102
    reporter.output(1, "stdout", b"x" * LINE_LIMIT + b"\r")
    assert not any(key[0] == 1 for key in reporter._begun)
    capfd.readouterr()
    reporter.phase(0, Phase.LOCK)
    assert capfd.readouterr().out == f"train@a | {'x' * 99}\n"
    reporter.phase(0, Phase.FAILED, error="why", seconds=1.0, exit=1)
    assert failures(0)[-1] == f"    | {'x' * 99}"


def test_a_progress_bar_that_takes_itself_away_leaves_nothing(reporter, capfd):
    reporter.output(0, "stderr", b"\r50%\r   \r")
    reporter.phase(0, Phase.LOCK)
    reporter.output(1, "stderr", b"\r50%\r   \r")
    reporter.output(1, "stderr", b"\rdone\n")
    assert capfd.readouterr().err == "train@b | done\n"


def test_the_last_lines_are_kept_not_all_of_them(reporter, failures):
    reporter.output(0, "stdout", b"first\n" * 100)
    reporter.output(0, "stdout", b"1%\r100%\n")
    reporter.output(0, "stdout", b"\n")
    reporter.output(0, "stderr", b"x" * 2 * TAIL_WIDTH + b"\n")
    reporter.output(0, "stdout", b"last")
    reporter.phase(0, Phase.FAILED, error="why", seconds=1.0, exit=1)
    lines = failures(0)[3:]
    ends = ["100%", "", "x" * TAIL_WIDTH, "last"]
    expected = ["first"] * (TAIL_LINES - len(ends)) + ends
    assert lines == [f"    | {line}" for line in expected]


def test_the_last_lines_of_a_stage_that_ran_are_forgotten(reporter):
    reporter.output(0, "stdout", b"line\n")
    reporter.phase(0, Phase.RAN)
    assert not reporter._tails


@pytest.mark.parametrize(
    "term, no_color, colored",
    [
        ("xterm", "", True),
        ("xterm", "0", False),
        ("dumb", "", False),
        ("unknown", "", False),
        ("", "", False),
    ],
)
def test_colors_on_a_terminal_unless_not_wanted(
    reporter, monkeypatch, term, no_color, colored
):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stdout", Terminal())
    reporter.output(0, "stdout", b"\x1b[1mline\n")
    shown = sys.stdout.getvalue()
    assert without_controls(shown.encode()) == b"train@a | line\n"
    assert ("\x1b[36m" in shown) == ("\x1b[1m" in shown) == ("\x1b" in shown) == colored


def test_nothing_is_shown_while_the_user_is_asked(reporter, capfd):
    thread = threading.Thread(target=reporter.output, args=(0, "stdout", b"line\n"))
    with reporter.hold():
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        assert capfd.readouterr().out == ""
    thread.join(HANGS)
    assert capfd.readouterr().out == "train@a | line\n"


def test_logging_that_fails_does_not_matter(reporter, mocker):
    mocker.patch(
        "dvc_parallel.engine.plain_reporter.logger",
        Mock(log=Mock(side_effect=ValueError)),
    )
    reporter.phase(0, Phase.COMMAND, cmd="echo")
    reporter.ended(FAILED)


@pytest.mark.parametrize(
    "seconds, text",
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
