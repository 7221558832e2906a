import os
import queue
import signal
import sys
import threading
from textwrap import dedent

import psutil
import pytest

from dvc_parallel.engine import pipes
from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.runner import Command, RunnerClosedError
from tests import HANGS, is_alive

PYTHON = sys.executable


@pytest.fixture(params=["pidfd", "no pidfd"])
def runner(request, monkeypatch):
    if request.param == "no pidfd":
        monkeypatch.setattr(pipes, "pidfd_open", lambda _: None)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no os.pidfd_open")
    runner = LocalRunner()
    yield runner
    runner.signal(signal.SIGTERM)
    runner.close()


def test_returns_the_exit_status_and_the_lines(runner, said):
    code = "import sys; print('a\\nb'); print('c', end='', file=sys.stderr); exit(3)"
    assert runner.run(Command([PYTHON, "-c", code]), said) == 3
    # NOTE: one or more whole lines come at a time
    assert all(lines.endswith(b"\n") for lines in said.lines["stdout"])
    assert b"".join(said.lines["stdout"]) == b"a\nb\n"
    assert said.lines["stderr"] == [b"c"]


def test_environment_and_folder(runner, said, tmp_path):
    code = "import os; print(os.getcwd(), os.environ['X'])"
    env = {**os.environ, "X": "y"}
    runner.run(Command([PYTHON, "-c", code], env, cwd=tmp_path), said)
    assert said.lines["stdout"] == [f"{tmp_path} y\n".encode()]


def test_much_output_without_a_line_break(runner, said):
    size = 20_000_000
    runner.run(Command([PYTHON, "-c", f"print('x' * {size}, end='')"]), said)
    lines = said.lines["stdout"]
    assert b"".join(lines) == b"x" * size
    # NOTE: it is not kept until its end
    assert max(map(len, lines)) <= pipes.LONGEST + pipes.CHUNK


def test_lines_are_whole_however_they_are_written(runner, said):
    code = """
        import os, time
        for text in (b"a", b"b\\nc", b"\\n\\n", b"d\\re\\n\\xff", b"\\nf"):
            os.write(1, text)
            time.sleep(0.02)
    """
    runner.run(Command([PYTHON, "-c", dedent(code)]), said)
    *lines, last = said.lines["stdout"]
    assert b"".join(lines) == b"ab\nc\n\nd\re\n\xff\n"
    assert all(line.endswith(b"\n") for line in lines)
    assert last == b"f"


def test_a_progress_bar_is_seen_before_its_line_ends(runner):
    said = queue.Queue()
    code = "import os; os.write(1, b'1%\\r2%'); input()"
    command = f'{PYTHON} -c "{code}" 2>/dev/null; {PYTHON} -c "print(3)"'
    runner.run(Command(command, shell=True), lambda _, line: said.put(line))
    assert list(said.queue) == [b"1%\r", b"2%3\n"]


def test_what_is_printed_before_a_background_process_is_not_kept_back(runner, said):
    code = """
        import os, time
        os.write(1, b"no end")
        if os.fork():
            os._exit(0)
        time.sleep(300)
    """
    pidfd = pipes.pidfd_open(os.getpid())
    if pidfd is None:
        pytest.skip("without pidfd_open it comes at the end of the run")
    os.close(pidfd)
    assert runner.run(Command([PYTHON, "-c", dedent(code)]), said) == 0
    assert said.lines["stdout"] == [b"no end"]


def test_a_command_that_closes_its_pipes_is_waited_for(runner, said):
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(7)"
    assert runner.run(Command([PYTHON, "-c", code]), said) == 7


def test_what_a_background_process_prints_is_still_shown(runner):
    said = queue.Queue()
    code = """
        import os, time
        print(1, flush=True)
        if os.fork():
            os._exit(0)
        time.sleep(2)
        print(2, flush=True)
        time.sleep(300)
    """
    command = Command([PYTHON, "-c", dedent(code)])
    assert runner.run(command, lambda _, line: said.put(line)) == 0
    assert said.get(timeout=HANGS) == b"1\n"
    assert said.get(timeout=HANGS) == b"2\n"


def test_a_command_that_does_not_exist(runner, said):
    with pytest.raises(FileNotFoundError):
        runner.run(Command(["no-such-command"]), said)


def test_no_time_limit_that_nobody_watches(runner, said):
    """One that is not kept would be worse than none."""
    with pytest.raises(ValueError, match="needs a supervisor"):
        runner.run(Command(["true"], timeout=HANGS), said)


def test_signal_reaches_all_and_starts_no_more(runner):
    started = threading.Barrier(3)
    returned = []

    def work():
        code = "import time; print(1, flush=True); time.sleep(300)"
        returned.append(
            runner.run(Command([PYTHON, "-c", code]), lambda *_: started.wait())
        )

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    started.wait(HANGS)
    runner.signal(signal.SIGTERM)
    for thread in threads:
        thread.join(HANGS)
    assert returned == [-signal.SIGTERM] * 2
    with pytest.raises(RunnerClosedError):
        runner.run(Command([PYTHON, "-c", ""]), lambda *_: None)


def test_a_process_left_behind_does_not_hold_up_its_command(runner, said):
    code = (
        "import subprocess, sys; "
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1);"
        "print(child.pid, flush=True); import os; os._exit(0)"
    )
    code = code.replace("'input()'", "'import time; time.sleep(300)'")
    assert runner.run(Command([PYTHON, "-c", code]), said) == 0
    child = psutil.Process(int(said.lines["stdout"][0]))
    assert child.is_running()
    runner.close()
    assert not is_alive(child)
