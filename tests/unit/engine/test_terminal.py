import io
import sys

import pytest

from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.engine.reporter_events import RunInfo, StageInfo
from dvc_parallel.engine.terminal import harmless, visible, without_controls

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


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_lines_of_stages(monkeypatch, stream):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = stream()
    monkeypatch.setattr(sys, "stdout", stream)
    reporter = PlainReporter()
    reporter.begun(RunInfo([StageInfo("a\x1bc")], 2, "fail"))
    reporter.output(0, "stdout", b"\x1b[31m1%\r2%\r\n\x1b[1Aup\n")
    shown = stream.getvalue()
    if stream.isatty():
        name = r"a\x1bc | "
        assert shown == f"{name}\x1b[31m1%\r{name}2%\x1b[0m\n{name}up\n"
    else:
        assert shown.count("\x1b[1Aup\n") == 1
