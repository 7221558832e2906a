"""What commands show of others' making, on a terminal and in any encoding."""

import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
from argparse import Namespace

import pytest
from dvc.ui import ui

from dvc_parallel.commands.logs_command import CmdLogs
from dvc_parallel.commands.report_command import CmdReport
from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.engine.reporter_events import Phase, RunInfo, StageInfo, Summary
from dvc_parallel.reporting.heartbeat import Heartbeat
from dvc_parallel.reporting.live import LiveView
from dvc_parallel.reporting.records.writer import Recorder
from tests import HANGS
from tests.support.capabilities import HAS_KEEP_GOING, TELLS_STAGE
from tests.support.many_commands import COMMANDS

PYTHON = sys.executable
HOSTILE = [
    "\x1b]52;c;cHduZWQ=\x07",
    "\x1b[2J\x1b[H",
    "\x9b2J",
    "\u202ekcab",
    "\u2028",
    "\ud800",
    "line\nERROR: fake",
]
NAME = "a" + "".join(HOSTILE)
# No control but ends of lines, nothing that turns lines around, no half of a character.
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\ud800-\udfff]")


@pytest.fixture
def recorded(make_project, monkeypatch):
    """The record of a run with hostile names in all places."""
    project = make_project()
    monkeypatch.chdir(project.path)
    monkeypatch.setattr(sys, "argv", ["dvc", "repro", NAME])
    recorder = Recorder(str(project.path / ".dvc" / "tmp"))
    recorder.begun(RunInfo([StageInfo(NAME)], 2, "fail"))
    recorder.phase(0, Phase.READY, pool=NAME)
    recorder.phase(0, Phase.COMMAND, cmd=NAME, worker=NAME)
    recorder.output(0, "stdout", NAME.encode(errors="surrogatepass"))
    recorder.phase(0, Phase.FAILED, error=NAME)
    recorder.ended(Summary("failed", 1.0, 1.0, {Phase.FAILED: 1}, [0]))
    recorder.close()
    return project


def run(command, **kwargs):
    ui.enable()
    names = ["run", "stage", "out", "json", "list", "follow", "failed"]
    names += ["compare", "format"]
    command(Namespace(cd=".", **{**dict.fromkeys(names), **kwargs})).do_run()


@pytest.mark.parametrize(
    "command, kwargs",
    [
        (CmdLogs, {}),
        (CmdLogs, {"list": True}),
        (CmdLogs, {"json": True}),
        (CmdLogs, {"stage": NAME, "json": True}),
        (CmdReport, {}),
        (CmdReport, {"format": "json"}),
        (CmdReport, {"format": "markdown"}),
    ],
)
def test_commands_show_names_without_controls(recorded, capsys, command, kwargs):
    run(command, **kwargs)
    shown, error = capsys.readouterr()
    assert shown
    assert not HARMFUL.search(shown + error)
    # NOTE: Markdown has the lines of a log
    assert "\nERROR" not in shown.partition("<pre>")[0] + error


@pytest.mark.parametrize(
    "command, kwargs",
    [
        (CmdLogs, {"stage": "x"}),
        (CmdLogs, {"run": NAME}),
        (CmdReport, {"run": NAME}),
        (CmdReport, {"out": NAME}),
    ],
)
def test_errors_too(recorded, command, kwargs):
    with pytest.raises(Exception, match="a") as info:
        run(command, **kwargs)
    assert not HARMFUL.search(str(info.value))


def test_a_log_on_a_terminal(recorded, capsysbinary, monkeypatch):
    run(CmdLogs, stage=NAME)
    raw = capsysbinary.readouterr().out
    assert raw.startswith(b"> ")
    assert raw.endswith(NAME.encode(errors="surrogatepass"))  # as `cat` has it
    master, slave = os.openpty()
    with open(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        run(CmdLogs, stage=NAME)
    shown = os.read(master, 2**16)
    os.close(master)
    assert b"\x1b" not in shown
    assert b"]52" not in shown
    assert b"\x9b" not in shown


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_bar_in_a_log_is_what_a_terminal_has_room_for(
    make_project, capsysbinary, monkeypatch, end
):
    project = make_project()
    monkeypatch.chdir(project.path)
    recorder = Recorder(str(project.path / ".dvc" / "tmp"))
    recorder.begun(RunInfo([StageInfo("a")], 2, "fail"))
    recorder.phase(0, Phase.COMMAND, cmd="bar")
    bar = b"\r  9%|##      | 1/9\r 99%|####### | 8/9" + end
    recorder.output(0, "stdout", bar)
    recorder.phase(0, Phase.RAN)
    recorder.ended(Summary("ok", 1.0, 1.0, {Phase.RAN: 1}, []))
    recorder.close()
    run(CmdLogs, stage="a")
    assert capsysbinary.readouterr().out == b"> bar\n" + bar
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 9, 10, 0, 0))
    with open(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        run(CmdLogs, stage="a")
    shown = os.read(master, 2**16)
    os.close(master)
    assert shown == b"> bar\r\n 99%|#####" + (b"\r\n" if end else b"\r")


@pytest.mark.parametrize("make", [PlainReporter, LiveView, Heartbeat])
def test_reporters_show_names_without_controls(make, capsys, caplog, mocker):
    caplog.set_level("INFO", logger="dvc")
    reporter = make(PlainReporter()) if make is Heartbeat else make()
    mocker.patch("dvc_parallel.reporting.screen.Screen.open")  # needs a terminal
    reporter.begun(RunInfo([StageInfo(NAME)], 2, "fail"))
    try:
        reporter.phase(0, Phase.COMMAND, cmd="echo", worker=NAME)
        lines = [reporter.line()] if make is Heartbeat else []
        if make is LiveView:
            lines = [line.plain for line in reporter.lines(500, 10)]
        reporter.output(0, "stdout", b"text\n")
        reporter.phase(0, Phase.RETRY, attempt=2, error=NAME)
        reporter.waiting_for_paths(0, NAME)
        reporter.failing(0, Exception(NAME), 1)
        reporter.phase(0, Phase.FAILED, error=NAME, seconds=1.0)
        reporter.ended(Summary("failed", 1.0, 1.0, {Phase.FAILED: 1}, [0]))
    finally:
        reporter.close()
    shown = [*lines, *capsys.readouterr(), *caplog.messages]
    for text in shown:
        text = text.replace("\x1b[0m", "")
        assert not HARMFUL.search(re.sub(r"\r\x1b\[\d+A\x1b\[J", "", text))


ENVIRONMENTS = {
    "C": {"LC_ALL": "C"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_in_any_locale(make_project, name):
    # NOTE: where Python cannot name a file or a command, nor can DVC
    text = "e" if name == "ascii" else "é"
    project = make_project(
        dvc_yaml=f"""
        stages:
          größe:
            foreach: ["ключ\\nzwei"]
            do:
              cmd: printf '\\320\\266\\377\\n'; mkdir -p d{text}; echo 1 > d{text}/o
              outs: ["d{text}/o"]
          bad:
            cmd: echo {text}; exit 3
        """,
    )
    repro = ["repro", "-j", "2", *(["-k"] if HAS_KEEP_GOING else [])]
    commands = [
        repro,
        ["plan", "-f"],
        ["logs"],
        ["logs", "bad"],
        ["report"],
        ["validate", "größe@ключ\nzwei"],
        ["doctor"],
    ]
    if name == "C":  # as in the others, or as in UTF-8
        commands = [repro, ["logs"], ["doctor"]]
    env = {k: v for k, v in os.environ.items() if k not in ("LANG", "LC_CTYPE")}
    result = subprocess.run(
        [PYTHON, "-c", COMMANDS, json.dumps(commands)],
        cwd=project.path,
        env={**env, **ENVIRONMENTS[name]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=HANGS,
        check=True,
    )
    said = result.stdout.decode(errors="replace")
    codes = dict(re.findall(r"^=== (\w+): (-?\d+)$", said, re.MULTILINE))
    del codes["doctor"]  # where it is installed
    assert codes.pop("repro") == "255", said
    if name == "ascii" and TELLS_STAGE:
        # NOTE: DVC cannot tell the command what its stage is called, and so fails
        assert codes.pop("validate") == "255", said
    else:
        assert "codec" not in said
    assert not any(map(int, codes.values())), said
    assert "unexpected error" not in said
    assert "Logging error" not in said
