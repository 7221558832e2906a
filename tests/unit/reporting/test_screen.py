"""Text and the view below it leave in one write, whoever has written the text."""

import io
import logging
import os
import re
import sys
from contextlib import ExitStack

import pytest
from dvc.logger import LoggerHandler
from dvc.progress import Tqdm
from dvc.ui import ui
from rich.console import ConsoleDimensions
from rich.text import Text
from tqdm import tqdm

from dvc_parallel.reporting.screen import (
    AT_MOST,
    BEGIN,
    END,
    LOOK_EVERY,
    TOGETHER,
    Screen,
)

VIEW = b"the view\nits line\n"
ERASED = b"\r\x1b[2A\x1b[J"


class Terminal:
    """A terminal that keeps each write to it."""

    def __init__(self):
        self._fds = os.openpty()
        self._writes = []

    def stream(self):
        """A stream to it, as Python makes stdout and stderr."""
        writes = self._writes

        class Raw(io.FileIO):
            def write(self, data):
                writes.append(bytes(data))
                return len(data)

        raw = Raw(os.dup(self._fds[1]), "w")
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", line_buffering=True)

    def new(self):
        """What was written since the last time."""
        writes, self._writes[:] = [*self._writes], []
        return writes

    def close(self):
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def make_terminal():
    terminals = []

    def make():
        terminals.append(Terminal())
        return terminals[-1]

    yield make
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def terminal(make_terminal):
    return make_terminal()


@pytest.fixture
def start(terminal, clock, monkeypatch):
    """Start a screen with a view, whose next text is written at once.

    NOTE: called by tests, as pytest has its own stdout before
    """
    with ExitStack() as stack:

        def start():
            for name, value in {
                "TERM": "xterm",
                "COLUMNS": "80",
                "LINES": "24",
            }.items():
                monkeypatch.setenv(name, value)
            for name in ("stdout", "stderr"):
                stream = stack.enter_context(terminal.stream())
                monkeypatch.setattr(sys, name, stream)
            screen = Screen(lambda *_: [Text("the view"), Text("its line")], clock)
            screen.console.size = ConsoleDimensions(80, 24)
            screen.open()
            stack.callback(screen.close)
            screen.look()
            assert terminal.new() == [BEGIN.encode() + VIEW + END.encode()]
            clock.now += 2 * TOGETHER
            return screen

        yield start


def frame(text):
    return BEGIN.encode() + ERASED + text + VIEW + END.encode()


def logged(stream):
    record = logging.makeLogRecord({"msg": "some\ntext", "levelno": logging.INFO})
    LoggerHandler(stream).handle(record)


TEXT = b"some\ntext\n"
SOURCES = {
    "stdout of a stage": lambda screen: screen.write(sys.stdout, TEXT),
    "stderr of a stage": lambda screen: screen.write(sys.stderr, TEXT),
    "a message of DVC": lambda _: logged(sys.stdout),
    "an error of DVC": lambda _: logged(sys.stderr),
    "what DVC shows": lambda _: ui.write("some\ntext", force=True),
    "what others write beside bars": lambda _: tqdm.write("some\ntext"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_text_and_view_are_one_write(terminal, start, source):
    screen = start()
    SOURCES[source](screen)
    assert terminal.new() == [frame(TEXT)]


def test_a_message_within_another_is_in_its_frame(terminal, start):
    start()
    with Tqdm.external_write_mode(file=sys.stdout):
        sys.stdout.write("begun\n")
        logged(sys.stdout)
    # NOTE: whoever flushes the stream has begun to write it, but not ended it
    assert b"".join(terminal.new()) == frame(b"begun\n" + TEXT)


def test_much_text_is_one_write(terminal, start):
    screen = start()
    text = b"x" * 79 + b"\n"
    screen.write(sys.stdout, AT_MOST * text)
    assert terminal.new() == [frame(AT_MOST * text)]


def test_text_that_comes_fast_is_collected_but_for_no_longer_than_a_look(
    terminal, start, clock
):
    screen = start()
    for text in (b"1\n", b"2\n", b"3\n"):
        screen.write(sys.stdout, text)
    assert terminal.new() == [frame(b"1\n")]
    assert screen.due() == TOGETHER < LOOK_EVERY
    screen.look()
    assert terminal.new() == [frame(b"2\n3\n")]
    assert screen.due() == LOOK_EVERY
    for _ in range(AT_MOST // 1000):
        screen.write(sys.stdout, b"x" * 999 + b"\n")
    assert terminal.new() == []
    screen.write(sys.stdout, b"x" * 999 + b"\n")
    assert len(terminal.new()) == 1


def test_texts_are_shown_in_their_order(terminal, start):
    screen = start()
    screen.write(sys.stdout, b"1\n")
    screen.write(sys.stderr, b"2\n")
    logged(sys.stdout)
    assert terminal.new() == [frame(b"1\n"), frame(b"2\n"), frame(TEXT)]


def test_a_line_that_is_not_at_its_end_goes_on(terminal, start, clock):
    screen = start()
    with Tqdm.get_lock():
        screen.write(sys.stdout, b"no")
        clock.now += 2 * TOGETHER
        screen.write(sys.stdout, b" end\n")
    text = b"".join(terminal.new())
    assert re.sub(rb"\x1b\[\?2026[hl]", b"", text) == ERASED + b"no end\n" + VIEW


def test_the_view_is_away_while_the_user_is_asked_and_back_at_once(terminal, start):
    screen = start()
    screen.write(sys.stdout, b"1\n")
    screen.write(sys.stdout, b"2\n")
    terminal.new()
    with screen.hold():
        assert terminal.new() == [BEGIN.encode() + ERASED + b"2\n" + END.encode()]
        logged(sys.stdout)
        screen.look()
        assert terminal.new() == [BEGIN.encode() + TEXT + END.encode()]
    assert terminal.new() == [BEGIN.encode() + VIEW + END.encode()]


def test_a_narrower_terminal_has_broken_the_lines_of_the_view(terminal, start):
    screen = start()
    screen.console.size = ConsoleDimensions(5, 24)
    screen.look()
    assert terminal.new() == [frame(b"").replace(b"\x1b[2A", b"\x1b[4A")]


def test_another_terminal_gets_text_alone(
    terminal, start, make_terminal, monkeypatch, tmp_path
):
    screen = start()
    other = make_terminal()
    with other.stream() as stream, open(tmp_path / "file", "w+") as file:
        for out in (stream, file):
            monkeypatch.setattr(sys, "stdout", out)
            screen.write(out, TEXT)
            logged(out)
        assert b"".join(other.new()) == 2 * TEXT
        file.seek(0)
        assert file.read() == 2 * TEXT.decode()
    assert terminal.new() == []


def test_an_error_leaves_the_view_where_it_was(terminal, start):
    start()
    with pytest.raises(ZeroDivisionError), Tqdm.external_write_mode(file=sys.stdout):
        raise ZeroDivisionError
    assert terminal.new() == [frame(b"")]
    assert sys.stdout.line_buffering


def test_in_the_end_tqdm_is_as_it_was(terminal, start):
    before = vars(tqdm)["external_write_mode"]
    screen = start()
    screen.close()
    assert terminal.new()[-1] == BEGIN.encode() + ERASED + END.encode()
    assert vars(tqdm)["external_write_mode"] is before
    screen.write(sys.stdout, TEXT)
    assert terminal.new() == [TEXT]


def test_a_view_that_is_out_of_date_is_rendered_with_the_next_text(
    start, terminal, clock
):
    screen = start()
    screen.write(sys.stdout, TEXT)
    screen._lines = lambda *_: [Text("another view")]
    for outdated in (False, True):
        clock.now += 1.01 * TOGETHER / 2
        if outdated:
            clock.now += TOGETHER / 2
            screen.outdate()
        terminal.new()
        screen.write(sys.stdout, TEXT)
        screen._flush()
        assert (b"another view" in b"".join(terminal.new())) == outdated
