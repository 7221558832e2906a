"""What a run looks like on a terminal: a real one, as `dvc` sees it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress

import psutil
import pytest

from tests import HANGS
from tests.support.processes import commands_in
from tests.support.terminal import BEGIN, Recorder

PYTHON = sys.executable

# Prints what is hard to show, then goes on until it is told to end.
WORK = r"""
import os, pathlib, sys, time
name = sys.argv[1]
os.write(1, f"{name} says\n\x1b[31mthe last line\x1b[0m of {name}\n".encode())
pathlib.Path(name + ".runs").touch()
while not pathlib.Path(name + ".go").exists():
    time.sleep(0.01)
pathlib.Path(name + ".txt").write_text(name * 1000)
"""

DVC_YAML = f"""
    stages:
      first: {{cmd: echo 1 > first.txt, outs: [first.txt]}}
      work:
        foreach: [one, two, a_stage_with_a_name_that_is_rather_long]
        do:
          cmd: {PYTHON} work.py ${{item}}
          deps: [first.txt]
          outs: ["${{item}}.txt"]
      bad: {{cmd: "echo problem; exit 3", deps: [one.txt]}}
"""


def _take_terminal():
    """Let Ctrl-C reach the process, before it is `dvc`."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A process on a terminal of its own, and what is to be seen there."""

    def __init__(self, project, *args, columns=80, rows=24, command=None, **env):
        self._recorder = Recorder(columns, rows)
        self.raw = b""
        self._fd, fd = pty.openpty()
        self._set_size(columns, rows)
        environ = {**os.environ, "TERM": "xterm-256color", **env}
        for name in ("CI", "COLUMNS", "LINES", "NO_COLOR"):
            if name not in env:
                environ.pop(name, None)
        self.process = subprocess.Popen(
            command or project.command(*args),
            cwd=project.path,
            stdin=fd,
            stdout=fd,
            stderr=fd,
            start_new_session=True,
            env=environ,
            preexec_fn=_take_terminal,  # noqa: PLW1509
        )
        os.close(fd)

    def _set_size(self, columns, rows):
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, size)

    def resize(self, columns, rows):
        self._set_size(columns, rows)
        self._recorder.resize(columns, rows)

    def type(self, text):
        os.write(self._fd, text.encode())

    def read(self, seconds=0.1):
        """Take what is printed; return False at the end."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._fd, 2**16)
        except OSError:
            return False
        self.raw += data
        self._recorder.feed(data)
        return bool(data)

    @property
    def text(self):
        """All lines, those that have been scrolled away first."""
        return self._recorder.text

    @property
    def frames(self):
        return self._recorder.frames

    def wait_for(self, pattern, seconds=HANGS):
        """Wait until the screen looks like that."""
        end = time.monotonic() + seconds
        while not re.search(pattern, "\n".join(self.text), re.MULTILINE):
            assert self.read(), "\n".join(self.text)
            assert time.monotonic() < end, "\n".join(self.text)

    def finish(self, seconds=HANGS):
        """Return all that is to be seen in the end."""
        end = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < end, "\n".join(self.text)
        self.process.wait(seconds)
        return "\n".join(self.text)

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._fd)


@pytest.fixture
def project(make_project):
    return make_project("terminal", DVC_YAML, {"work.py": WORK})


@pytest.fixture
def on_terminal(project):
    terminals = []

    def start(*args, **kwargs):
        terminals.append(Terminal(project, "repro", "-j", "4", *args, **kwargs))
        return terminals[-1]

    yield start
    for name in ("one", "two", "a_stage_with_a_name_that_is_rather_long"):
        project.write({f"{name}.go": ""})
    for terminal in terminals:
        terminal.close()


def go_on(project, *names):
    project.write({f"{name}.go": "" for name in names})


ALL = ("one", "two", "a_stage_with_a_name_that_is_rather_long")


def test_a_line_for_each_running_stage(on_terminal, project):
    terminal = on_terminal("--output", "none")
    terminal.wait_for(r"^━+─+ 1/5, 3 running$")
    terminal.wait_for(r"^work@one +\d:\d\d  the last line of one$")
    terminal.wait_for(r"^work@a_stage_.*…\w+rather_long +\d")
    terminal.wait_for(r"^first \| ran in ")
    go_on(project, "one")
    terminal.wait_for(r"^work@one \| ran in ")
    terminal.wait_for(r"^bad \| failed in ")
    go_on(project, *ALL)
    text = terminal.finish()
    assert_view_is_of_now(terminal.frames)
    assert "━" not in text
    assert "5 stages: 4 ran, 1 failed; " in text
    assert "dvc-parallel logs bad" in text
    assert terminal.process.returncode == 255


def test_lines_scroll_above_the_view(on_terminal, project):
    terminal = on_terminal(columns=100)
    terminal.wait_for("─ 1/5, 3 running")
    terminal.wait_for(r"(?s)work@two \| the last line of two.*3 running")
    go_on(project, *ALL)
    lines = terminal.finish().splitlines()
    assert_view_is_of_now(terminal.frames)
    for name in ALL[:2]:
        for line in (f"{name} says", f"the last line of {name}"):
            assert lines.count(f"work@{name} | {line}") == 1
    assert "bad | problem" in lines
    # NOTE: nor is there anything left of DVC's own progress bars
    assert not [line for line in lines if re.search("[━─█]|it/s", line)]


def test_a_terminal_that_changes_its_size(on_terminal, project):
    terminal = on_terminal("--output", "none")
    terminal.wait_for("3 running")
    terminal.resize(40, 12)
    terminal.wait_for(r"^work@a_…er_long +\d.*…$")
    assert all(len(line) <= 40 for line in terminal.text[-12:])
    terminal.resize(100, 3)
    terminal.wait_for(r"^work@\* +0/3  3 running$")
    terminal.resize(100, 30)
    terminal.wait_for(r"^work@a_stage_with_.*…\w+rather_long")
    go_on(project, *ALL)
    terminal.finish()


def test_without_colors(on_terminal, project):
    terminal = on_terminal("--output", "none", NO_COLOR="1")
    terminal.wait_for("3 running")
    # NOTE: nor bold, nor dim
    assert not re.search(rb"\x1b\[[\d;]*m", terminal.raw)
    go_on(project, *ALL)
    terminal.finish()


def assert_view_throughout(frames, resized=()):
    """See that the view is there from its first frame to its last one.

    Args:
        resized: how many frames there were when the terminal got a new size. What was
            printed for the old one, and comes after that, may be cut.
    """
    has_view = ["running" in frame for frame in frames]
    first, last = has_view.index(True), len(frames) - has_view[::-1].index(True)
    for count in resized:
        new = has_view.index(True, count)
        has_view[count:new] = [True] * (new - count)
    lacking = [frames[i] for i in range(first, last) if not has_view[i]]
    assert not lacking, lacking[0]
    # NOTE: what comes later is not of stages
    assert frames[last:]
    assert not any("line" in frame.splitlines()[-1] for frame in frames[last:])


def assert_view_is_of_now(frames):
    """See that what is printed says nothing later than the view below it."""
    for frame in frames:
        above, _, view = frame.rpartition(" running")
        ended = re.findall(r"^(\S+) \| (?:ran|failed) in ", above, re.MULTILINE)
        listed = re.findall(r"^(\S+) +\d:\d\d  ", view, re.MULTILINE)
        assert not {*ended} & {*listed}, frame
        checked = re.findall(r"^(\S+) +\d:\d\d  checking", view, re.MULTILINE)
        assert not any(f"{name} | " in above for name in checked), frame


# Prints as fast as it can, to both streams, below a bar.
FAST = r"""
import os, sys, time
name = sys.argv[1]
for i in range(300):
    # NOTE: as tqdm does, so that bars are not before lines
    clear = "\r" + 20 * " " + "\r" if i % 2 else ""
    os.write(1 + i % 2, f"{clear}line {i} of {name}\n".encode())
    if i % 20 == 0:
        os.write(2, b"\r%3d%%|####    | a bar" % (i / 3))
        time.sleep(0.005)
os.write(2, b"\r100%|########| a bar\n")
"""


def test_the_view_is_there_in_each_frame(make_project):
    items = ", ".join(f"s{i}" for i in range(8))
    project = make_project(
        "fast",
        f"""
        stages:
          fast:
            foreach: [{items}]
            do: {{cmd: "{PYTHON} fast.py ${{item}}"}}
        """,
        {"fast.py": FAST},
    )
    terminal = Terminal(project, "repro", "-j", "8", "-v", columns=100, rows=30)
    sizes, resized = iter([(60, 15), (100, 30), (100, 10), (80, 24)]), []
    try:
        terminal.wait_for(r"\d running")
        while terminal.read():
            if terminal.raw.count(b"line 100 of") > 1 and (size := next(sizes, None)):
                resized.append(len(terminal.frames))
                terminal.resize(*size)
    finally:
        terminal.close()
    assert terminal.process.returncode == 0
    assert_view_throughout(terminal.frames, resized)
    assert next(sizes, None) is None
    text = re.sub(rb"\x1b\[[\d;?]*\w", b"", terminal.raw).decode()
    for item in items.split(", "):
        shown = re.findall(rf"fast@{item} \| (line \d+) of {item}\r\n", text)
        assert sorted(shown) == sorted(f"line {i}" for i in range(300))
        bars = re.findall(rf"fast@{item} \| (.*)\| a bar", text)
        assert bars[-1] == "100%|########"
        assert "DEBUG" in text


@pytest.mark.parametrize(
    "args, env",
    [
        (["-q"], {}),
        ([], {"TERM": "dumb"}),
        ([], {"CI": "true"}),
        ([], {"TF_BUILD": "True"}),
    ],
)
def test_no_view(on_terminal, project, args, env):
    terminal = on_terminal(*args, **env)
    go_on(project, *ALL)
    text = terminal.finish()
    assert BEGIN not in terminal.raw
    assert "work@one | the last line of one" in text.splitlines()
    assert b"\x1b[J" not in terminal.raw
    if env.get("TERM") == "dumb":
        # NOTE: but for DVC's own: the level of a message, a reset when it ends, and of
        # old releases bars that are no more than this
        own = rb"\x1b\[\d\dm(ERROR|WARNING)\x1b\[39m|\x1b\[0m$|\r\n|\r!\r *\r\r?"
        assert not re.search(rb"[\x1b\r]", re.sub(own, b"", terminal.raw))


def test_logs_of_dvc_scroll_above_the_view(on_terminal, project):
    terminal = on_terminal("--verbose", columns=300, rows=60)
    terminal.wait_for("3 running")
    go_on(project, *ALL)
    lines = terminal.finish().splitlines()
    assert any("DEBUG: Removing" in line or "DEBUG: Computed" in line for line in lines)
    for line in lines:
        assert line.count("DEBUG") <= 1


def test_a_question(on_terminal, project):
    terminal = on_terminal("--interactive", "--output", "none", "first")
    terminal.wait_for(r"Going to reproduce stage: 'first'.*\[y/n\]")
    assert "running" not in "\n".join(terminal.text)
    terminal.type("y\n")
    asked = len(terminal.frames)
    text = terminal.finish()
    assert "1 ran; " in text
    after = terminal.frames[asked:]
    # NOTE: what was typed comes back before it
    assert "running" in "".join(after[:3])
    assert_view_throughout(after)


def test_ctrl_c(on_terminal, project):
    terminal = on_terminal("--output", "none")
    terminal.wait_for("3 running")
    terminal.wait_for("the last line of two")
    terminal.type("\x03")
    text = terminal.finish()
    assert "interrupted; waiting for 3 running stages" in text
    assert "interrupted by the user" in text
    assert "━" not in text
    assert terminal.process.returncode == 252


@pytest.fixture
def shell(on_terminal, project):
    """A shell that has started a run; three of its commands wait for `go_on`."""

    def start(**env):
        command = ["bash", "--norc", "--noprofile", "-i"]
        shell = on_terminal(command=command, PS1="ready> ", **env)
        shell.wait_for("^ready>")
        shell.type(f"{PYTHON} -m dvc repro -j 4 --output none\n")
        shell.wait_for("3 running")
        while len(list(commands(project))) < 4:
            assert shell.read(), "\n".join(shell.text)
        return shell

    return start


def commands(project):
    """DVC, and what it has started in the project."""
    for process in commands_in(project.path):
        # NOTE: it may end meanwhile
        with suppress(psutil.NoSuchProcess):
            if process.name() != "bash":
                yield process


def goes_on(process):
    return process.status() != psutil.STATUS_STOPPED


def cannot_go_on(process):
    """Whether it is stopped, or waits for one that is.

    A shell that starts a command with vfork, as dash does, sleeps in the kernel until
    that is another program, and cannot stop meanwhile.  That lasts if the command is
    stopped before.  A process that waits for the disk stops when it has got it.
    """
    if process.status() == psutil.STATUS_DISK_SLEEP:
        return any(map(cannot_go_on, process.children()))
    return not goes_on(process)


def wait_for_all(project, shell, state):
    end = time.monotonic() + HANGS
    while True:
        # NOTE: one may end meanwhile
        with suppress(psutil.NoSuchProcess):
            if all(map(state, commands(project))):
                return
        assert time.monotonic() < end, list(commands(project))
        assert shell.read()


def test_ctrl_z_stops_commands_with_dvc_and_fg_goes_on(shell, project):
    shell = shell()
    for count in range(2):
        shell.type("\x1a")
        shell.wait_for("Stopped")
        wait_for_all(project, shell, cannot_go_on)
        # NOTE: nothing of the view is left, nor does it come back
        shell.type(f"echo in $((40 + {count}))\n")
        shell.wait_for(f"^in 4{count}$")
        assert not re.search("running$|[━─]", "\n".join(shell.text), re.MULTILINE)
        shell.type("clear; fg\n")
        shell.wait_for("3 running")
        assert all(map(goes_on, commands(project)))
    go_on(project, *ALL)
    shell.wait_for("5 stages: 4 ran, 1 failed; ")


def test_bg_goes_on_without_the_view(shell, project):
    shell = shell()
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.type("clear; bg\n")
    go_on(project, "one")
    shell.wait_for(r"work@one \| ran")
    assert not re.search("running$|[━─]", "\n".join(shell.text), re.MULTILINE)
    shell.type("fg\n")
    shell.wait_for("2 running")
    go_on(project, *ALL)
    shell.wait_for("5 stages: 4 ran, 1 failed; ")


def test_a_run_in_the_background_that_may_not_write_is_stopped_as_a_whole(
    shell, project
):
    shell = shell()
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.type("clear; stty tostop; bg\n")
    wait_for_all(project, shell, goes_on)
    go_on(project, "one")
    wait_for_all(project, shell, cannot_go_on)
    # NOTE: the shell is told of it when the last thread has stopped, and `fg` continues
    # what it takes for stopped
    while "Stopped" not in "\n".join(shell.text):
        shell.type("\n")
        assert shell.read()
    shell.type("fg\n")
    shell.wait_for(r"work@one \| ran")
    go_on(project, *ALL)
    shell.wait_for("5 stages: 4 ran, 1 failed; ")


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGHUP])
def test_a_run_that_is_stopped_ends_with_its_commands(shell, project, signum):
    shell = shell()
    shell.type("\x1a")
    shell.wait_for("Stopped")
    processes = list(commands(project))
    shell.type(f"kill -{int(signum)} %1; kill -CONT %1\n")
    assert not psutil.wait_procs(processes, timeout=HANGS)[1]


def test_a_second_terminal_can_stop_a_run(on_terminal, project):
    terminal = on_terminal("--output", "none")
    terminal.wait_for("3 running")
    # NOTE: this one has no shell that could continue it, so it is not stopped
    terminal.process.send_signal(signal.SIGTSTP)
    go_on(project, *ALL)
    assert "5 stages: 4 ran, 1 failed; " in terminal.finish()
