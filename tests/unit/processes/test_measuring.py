"""What commands have used, as the kernel and looks at their processes tell."""

import os
import sys
import threading
from contextlib import contextmanager

import pytest

from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.runner import Command
from dvc_parallel.engine.usage import USAGE, usage_of
from dvc_parallel.processes import measuring
from dvc_parallel.processes.supervisor import RunSupervisor
from tests import HANGS

PYTHON = sys.executable
MB = 1_000_000

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="this system has no /proc"
)
has_wait4 = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no wait4")


@pytest.fixture
def looks(monkeypatch):
    """Have a look at processes when, and as soon as, a test says so."""
    monkeypatch.setattr(measuring, "AFTER", 0)
    monkeypatch.setattr(measuring.Meter, "_look_on", lambda _: None)


class Run:
    def __init__(self):
        self.supervisor = RunSupervisor()
        self.runner = LocalRunner(self.supervisor)
        self.printed = []
        self.usages = []
        self.has_printed = threading.Semaphore(0)

    def run(self, *args, **kwargs):
        """Run a command, and return what it has used."""
        self.runner.run(Command(args, **kwargs), self._output)
        return self.usages[-1]

    def _output(self, stream, data):
        if stream == USAGE:
            self.usages.append(usage_of(data))
        else:
            self.printed.append(data)
            self.has_printed.release()

    @contextmanager
    def beside(self, fifo, code):
        """Run code of Python that has printed something, until ``fifo`` is opened."""
        code = f"{code}\nprint(1, flush=True); open({str(fifo)!r}).close()"
        thread = threading.Thread(target=self.run, args=(PYTHON, "-c", code))
        thread.start()
        assert self.has_printed.acquire(timeout=HANGS)
        try:
            yield
        finally:
            open(fifo, "w").close()
            thread.join()


@pytest.fixture
def run():
    run = Run()
    yield run
    run.runner.close()


@pytest.fixture
def fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


SPEND = "import os\nwhile os.times().user < 0.3: pass\n"
FORK = "import os, sys\nif not os.fork():\n    {}\n    os._exit(0)\nos.wait()\n"


@has_wait4
def test_cpu_time_is_that_of_children_as_well(run):
    used = run.run(PYTHON, "-c", SPEND + FORK.format("\n    ".join(SPEND.splitlines())))
    assert 0.6 <= used.cpu < 10
    assert used.cores == pytest.approx(used.cpu / used.seconds)


@on_linux
def test_bytes_are_those_of_children_as_well(run, tmp_path):
    code = f"open('big', 'wb').write(bytes({8 * MB})); os.sync()"
    used = run.run(PYTHON, "-c", FORK.format(code), cwd=str(tmp_path))
    # NOTE: a file system in memory has no disk
    assert used.written >= 8 * MB or not used.written
    assert used.read is not None


@has_wait4
def test_the_largest_process_is_known_however_short_it_was(run):
    # NOTE: the kernel counts that of this process as its children's
    own = measuring.resource.getrusage(measuring.resource.RUSAGE_SELF).ru_maxrss
    large = own * measuring._MAXRSS + 100 * MB
    used = run.run(PYTHON, "-c", FORK.format(f"x = bytearray({large})"))
    assert large < used.process == used.memory < large + 100 * MB


@has_wait4
def test_what_may_be_the_memory_of_dvc_is_not_told(run):
    used = run.run(PYTHON, "-c", "pass")
    assert used.process is None
    assert used.memory is None


@on_linux
def test_processes_count_together(looks, run, fifo):
    code = f"""
import os, subprocess, sys
code = "x = bytearray({50 * MB}); print(1, flush=True); input()"
for session in (False, True):
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=-1, stdout=-1, start_new_session=session
    )
    child.stdout.readline()
    globals()[f"child{{session}}"] = child
"""
    with run.beside(fifo, code):
        run.supervisor._meter._look()
        run.supervisor._meter._look()
    (used,) = run.usages
    assert 100 * MB < used.memory < 200 * MB
    assert [size for _, size in used.samples] == [used.memory]


@on_linux
def test_pages_that_processes_share_count_once(looks, run, fifo):
    code = f"""
import os
x = bytearray({100 * MB})
ours, theirs = os.pipe()
for _ in range(4):
    if not os.fork():
        os.close(theirs)
        os.read(ours, 1)
        os._exit(0)
"""
    with run.beside(fifo, code):
        run.supervisor._meter._look()
    (used,) = run.usages
    assert 100 * MB < used.memory < 200 * MB


@on_linux
def test_other_processes_are_read_once(looks, run, fifo, monkeypatch):
    with run.beside(fifo, ""):
        meter = run.supervisor._meter
        meter._look()
        read, others = [], {*meter._others}
        opened = open

        def note(path, *args, **kwargs):
            read.append(path)
            return opened(path, *args, **kwargs)

        monkeypatch.setattr(measuring, "open", note, raising=False)
        meter._look()
    assert not [path for path in read if int(path.split("/")[2]) in others]
    assert others


def test_looks_take_next_to_nothing(monkeypatch):
    """However long one takes, others come so late that all take little."""
    pauses, cpu = [], iter([0.0, 0.004, 0.004, 0.104])

    class Closed:
        def wait(self, seconds):
            pauses.append(seconds)
            return len(pauses) > 2

    meter = measuring.Meter()
    monkeypatch.setattr(meter, "_look", lambda: None)
    monkeypatch.setattr(meter, "_closed", Closed())
    monkeypatch.setattr(measuring.time, "thread_time", lambda: next(cpu))
    meter._look_on()
    assert pauses == pytest.approx([measuring.AFTER, 1.0, 25.0])
    assert 0.1 / pauses[-1] < 0.005


def test_commands_that_live_for_days_have_few_samples():
    measured = measuring.Measured(1, 0.0)
    for second in range(100_000):
        measured.seen(float(second), 99 if second == 77_777 else second % 7)
    assert len(measured.samples) < measuring.SAMPLES
    assert max(size for _, size in measured.samples) == measured.memory == 99
    times = [when for when, _ in measured.samples]
    assert times == sorted(times)
    assert times[-1] > 97_000


@pytest.mark.parametrize(
    "kills, code, expected",
    [
        ([0, 1], "import os; os.kill(os.getpid(), 9)", True),
        ([0, 1], "exit(1)", True),  # a process of it was killed
        ([0, 1], "", False),
        ([7, 7], "import os; os.kill(os.getpid(), 9)", False),
        ([None], "import os; os.kill(os.getpid(), 9)", False),
        ([3, None], "exit(1)", False),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_who_was_killed_for_want_of_memory(run, monkeypatch, kills, code, expected):
    counts = iter(kills)
    monkeypatch.setattr(measuring, "oom_kills", lambda: next(counts))
    assert run.run(PYTHON, "-c", code).out_of_memory is expected


def test_without_wait4_and_proc(run, fifo, monkeypatch):
    """As on Windows."""
    monkeypatch.delattr(measuring.os, "wait4", raising=False)
    monkeypatch.setattr(measuring, "_LINUX", False)
    monkeypatch.setattr(measuring, "AFTER", 0)
    monkeypatch.setattr(measuring.Meter, "_look_on", lambda _: None)
    with run.beside(fifo, f"x = bytearray({50 * MB})"):
        run.supervisor._meter._look()
    (used,) = run.usages
    assert (used.cpu, used.process, used.read, used.written) == (None,) * 4
    assert 50 * MB < used.memory < 150 * MB


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"null", b"{", b'{"cpu": 1}', b'{"seconds": "x"}'),
        *(b'{"seconds": -1}', b'{"seconds": NaN}', b'{"seconds": 1, "cpu": []}'),
        *(b'{"seconds": 1, "samples": [1]}', b'{"seconds": 1, "samples": 7}'),
    ],
)
def test_nonsense_of_others(data):
    with pytest.raises((ValueError, TypeError, KeyError, OverflowError)):
        usage_of(data)
