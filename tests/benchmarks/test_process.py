import os
import signal
import subprocess
import sys

import pytest

from benchmarks.process import RunError, run
from tests import HANGS

ENV = {"PATH": os.defpath}


def test_runs_one_command_after_the_other(tmp_path):
    commands = [["sh", "-c", "echo 1 > a"], ["sh", "-c", "cat a a > b"]]
    seconds, cpu = run(commands, tmp_path, ENV, limit=HANGS)
    assert seconds > 0
    assert cpu > 0
    assert (tmp_path / "b").read_text() == "1\n1\n"


def test_failure_tells_the_last_line(tmp_path):
    with pytest.raises(RunError, match="`sh` exited with 3: because"):
        run([["sh", "-c", "echo so; echo because >&2; exit 3"]], tmp_path, ENV, HANGS)


def test_no_such_command(tmp_path):
    with pytest.raises(RunError, match="cannot start /no/such"):
        run([["/no/such"]], tmp_path, ENV, HANGS)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("leave", ["sleep 600", "setsid sleep 600"])
def test_nothing_survives_a_time_out(tmp_path, leave):
    script = f"{leave} & echo $! > pid; setsid sh -c 'echo $$ > own; exec sleep 600'"
    with pytest.raises(RunError, match=r"timed out after 0\.5 s"):
        run([["sh", "-c", script]], tmp_path, ENV, limit=0.5)
    for name in ("pid", "own"):
        assert is_gone(int((tmp_path / name).read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_nothing_survives_the_end(tmp_path):
    run([["sh", "-c", "setsid sleep 600 & echo $! > pid"]], tmp_path, ENV, limit=HANGS)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_the_time_is_for_all_commands(tmp_path):
    # NOTE: each of them would end in time
    with pytest.raises(RunError, match="timed out"):
        run([["sleep", "0.3"]] * 2, tmp_path, ENV, limit=0.5)


def is_gone(pid):
    """Whether the process has ended; it may be a zombie that nobody waits for."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if state and not state.startswith("Z"):
        os.kill(pid, signal.SIGKILL)
        return False
    return True
