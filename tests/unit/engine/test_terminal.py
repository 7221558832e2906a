import io
import sys

import pytest

from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.engine.reporter_events import RunInfo, StageInfo
from dvc_parallel.engine.terminal import (
    LINE_LIMIT,
    harmless,
    last_states,
    visible,
    without_controls,
)

RED = b"\x1b[31m"
RESET = b"\x1b[0m"


@pytest.mark.parametrize(
    "data, shown",
    [
        (b"plain\ttext\r\n", b"plain\ttext\r\n"),
        ("ünïcode é\n".encode(), "ünïcode é\n".encode()),
        (b"\xff\xfe raw \xe9\n", b"\xff\xfe raw \xe9\n"),
        (RED + b"red\nnot\n", RED + b"red" + RESET + b"\nnot\n"),
        (b"\x1b[38:2::1:2:3mx", b"\x1b[38:2::1:2:3mx" + RESET),
        (b"\x1b[2Aup\x1b[2K\x1b[1;1Hhome\x1b[?25l", b"uphome"),
        (b"\x1b]0;title\x07a\x1b]52;c;eA==\x1b\\b", b"ab"),
        (b"\x1b]0;no end\nnext\n", b"\nnext\n"),
        (b"\x1bPdevice\x1b\\ \x1b_app\x07\x1bc\x1b(0\x1b7x", b" x"),
        (b"a\x08\x08b\x07\x0c\x0b\x0e\x7f\x00c", b"abc"),
        ("a\x9b2Jb\x9d0;t\x9c".encode(), b"a2Jb0;t"),
        (b"\x1b\x1b[31m[2J", RED + b"[2J" + RESET),
        (b"\x1b[\x1b[2J31m", b"31m"),
        (b"\x1b", b""),
        (b"\x1b[", b""),
    ],
)
def test_of_controls_only_colors_are_left(data, shown):
    assert harmless(data) == shown
    text = without_controls(data)
    assert b"\x1b" not in text
    assert text == without_controls(shown)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("train@ünïcode\tx", "train@ünïcode\tx"),
        ("a\nb\u2028c", r"a\nb\u2028c"),
        ("\u202ea\u2067b\u200fc", r"\u202ea\u2067b\u200fc"),
        ("a\x1bc\r\x9b2J\x07", r"a\x1bc\r\x9b2J\x07"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_controls_in_names_can_be_seen(text, shown):
    assert visible(text) == shown


def test_commands_and_errors_have_lines():
    assert visible("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


BARS = b"a\r\nfirst\n\r 1%|#   |\r 2%|##  |\r100%|####|\n\r50%\b\b\b\r99%\r\n\rend"


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(BARS)])
def test_the_last_state_of_a_line_that_is_overwritten(size):
    shown, begun = b"", b""
    for start in range(0, len(BARS), size):
        some, begun = last_states(begun + BARS[start : start + size])
        shown += some
        assert len(begun) <= len(b"\r100%|####|\r")
    shown += last_states(begun + b"\n")[0]
    assert shown == b"a\nfirst\n100%|####|\n99%\nend\n"


def test_what_is_overwritten_is_no_wider_than_the_terminal():
    lines = b"100%|#####|\n0%\r\x1b[31m100%|#####|\x1b[0m\n"
    assert last_states(lines, 6) == (b"100%|#####|\n100%|#\n", b"")
    assert last_states(lines, 11)[0].endswith(b"\n\x1b[31m100%|#####|\x1b[0m\n")


def test_a_line_without_end_is_not_kept_for_ever():
    assert last_states(b"1%\r" + b"x" * LINE_LIMIT) == (b"x" * LINE_LIMIT, b"")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_lines_of_stages(monkeypatch, stream):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = stream()
    monkeypatch.setattr(sys, "stdout", stream)
    reporter = PlainReporter()
    reporter.begun(RunInfo([StageInfo("a\x1bc")], 2, "fail"))
    reporter.output(0, "stdout", b"1%\r2%\r\n\x1b[1A\x1b[31mup\n")
    shown = stream.getvalue()
    if stream.isatty():
        name = r"a\x1bc | "
        name = f"\x1b[36m{name}\x1b[39m"
        assert shown == f"{name}2%\n{name}\x1b[31mup\x1b[0m\n"
    else:
        assert shown.count("2%\n") == shown.count("\x1b[1A\x1b[31mup\n") == 1
        assert "1%" not in shown
