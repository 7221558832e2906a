import io
import sys
import threading
from collections import deque
from types import SimpleNamespace

import pytest

from dvc_parallel.reporter import TAIL_WIDTH, Reporter, _time


@pytest.fixture
def job():
    return SimpleNamespace(name="train@a", tail=deque(maxlen=2))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_output_of_what_has_no_place_to_go(job, monkeypatch):
    reporter = Reporter()
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stdout", stream)
        reporter.output(job, "stdout", b"line\n")
    assert list(job.tail) == [b"line", b"line"]


def test_nothing_is_shown_after_the_end(job, capfd):
    reporter = Reporter()
    reporter.output(job, "stdout", b"before\n")
    reporter.end()
    reporter.output(job, "stdout", b"after\n")
    assert capfd.readouterr().out == "train@a | before\n"


def test_the_last_lines_are_kept_not_all_of_them(job):
    reporter = Reporter()
    for size in (1, 10, 2 * TAIL_WIDTH):
        reporter.output(job, "stderr", b"x" * size + b"\n")
    assert [len(line) for line in job.tail] == [10, TAIL_WIDTH]


def test_colors_on_a_terminal_unless_not_wanted(job, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    Reporter().output(job, "stdout", b"line\n")
    assert "\x1b[" in sys.stdout.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", Terminal())
    Reporter().output(job, "stdout", b"line\n")
    assert sys.stdout.getvalue() == "train@a | line\n"


def test_nothing_is_shown_while_the_user_is_asked(job, capfd):
    reporter = Reporter()
    thread = threading.Thread(target=reporter.output, args=(job, "stdout", b"line\n"))
    with reporter.hold():
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        assert capfd.readouterr().out == ""
    thread.join(30)
    assert capfd.readouterr().out == "train@a | line\n"


@pytest.mark.parametrize(
    "seconds, text",
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")],
)
def test_time(seconds, text):
    assert _time(seconds) == text
