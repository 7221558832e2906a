"""Jobs and what Slurm tells of them, without Slurm, on a virtual clock."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from dvc_parallel.engine import lock_wait
from dvc_parallel.engine.runner import (
    Command,
    CommandLostError,
    CommandStoppedError,
    RunnerClosedError,
    RunnerError,
    TimeIsUpError,
)
from dvc_parallel.engine.usage import USAGE, Usage, usage_of
from dvc_parallel.remote.slurm import slurm_runner
from dvc_parallel.remote.slurm.client import LOST, Seen, SlurmSilentError
from dvc_parallel.remote.slurm.slurm_runner import LEASE, SlurmRunner
from tests import HANGS

COMMAND = Command(["sh", "-c", "cmd"], {"HOME": "/", "SLURM_JOB_ID": "7"}, stage="one")


class FakeSlurm:
    """Slurm that does what a script says, one step for each time that is waited.

    A step is a function of the fake, or a pause of so many seconds.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.now = 0.0
        self.queue: dict[str, Seen] = {}
        self.silent = False
        self.accounts = LOST
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.asked: list[float] = []
        self.env = None
        self.folder = ""

    # what the runner sees

    def submit(self, name, script, folder, requests, env):
        self.folder, self.script_of_job, self.env = folder, script, env
        self.submitted.append(name)
        job = str(10 + len(self.submitted))
        if not self.silent:
            self.queue[name] = Seen(name, job, "PENDING", "Resources")
            return job
        raise SlurmSilentError("Unable to contact slurm controller")

    def states(self):
        self.asked.append(self.now)
        if self.silent:
            raise SlurmSilentError("Unable to contact slurm controller")
        return [*self.queue.values()]

    def accounted(self, name, job):
        return Seen(name, job, self.accounts)

    def cancel(self, jobs, kill=False):
        self.cancelled += jobs

    def sleep(self, seconds):
        self.now += seconds
        assert self.now < 10_000, "waits for ever"
        while self.script:
            step = self.script[0]
            if isinstance(step, (int, float)):
                if self.now < step:
                    return
                self.script.pop(0)
                continue
            self.script.pop(0)
            step(self)
            return

    # what a script does

    def write(self, name, text=""):
        with open(os.path.join(self.folder, name), "a") as fobj:
            fobj.write(text)

    def set(self, state, **more):
        name = self.submitted[-1]
        self.queue[name] = Seen(name, self.queue[name].job, state, **more)


def begins(slurm):
    name = slurm.submitted[-1]
    slurm.write("claim", f"{slurm.queue[name].job} 0 123 n1\n")
    slurm.set("RUNNING", nodes="n1")


def prints(slurm):
    slurm.write("stdout", "hello\nand")


def ends(status, how="0"):
    return lambda slurm: slurm.write("exit", f"{status} {how}\n")


def becomes(state, **more):
    return lambda slurm: slurm.set(state, **more)


def falls_silent(slurm):
    slurm.silent = True


def answers(slurm):
    slurm.silent = False


def is_forgotten(slurm):
    slurm.queue.clear()


@pytest.fixture
def make(tmp_path, monkeypatch):
    with contextlib.ExitStack() as stack:

        def make(*script, detach=False):
            slurm = FakeSlurm(*script)
            runner = SlurmRunner(
                str(tmp_path), detach, slurm, lambda: slurm.now, slurm.sleep
            )
            stack.callback(runner.close)
            runner.begin("one", "inputs", ["out"])
            return runner, slurm

        yield make


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(lock_wait, "say", lines.append)
    return lines


def test_a_job_from_its_start_to_its_end(make):
    runner, slurm = make(begins, prints, ends(0))
    shown = []
    status = runner.run(
        COMMAND, lambda *printed: shown.append(printed), on_start=shown.append
    )
    assert status == 0
    assert shown == ["n1", ("stdout", b"hello\n"), ("stdout", b"and")]
    assert slurm.env == {"HOME": "/"}
    assert "sh -c cmd" in slurm.script_of_job


def test_its_status(make):
    runner, _ = make(begins, ends(7))
    assert runner.run(COMMAND, print) == 7
    assert not runner.take_up("one", "inputs", {})


@pytest.mark.parametrize("point", ".,")
def test_what_it_has_used(make, point):
    times = "0m0.01s 0m0.02s\n1m2.5s 0m0.25s".replace(".", point)

    def takes_long(slurm):
        slurm.write("memory", "2048\n")
        os.utime(os.path.join(slurm.folder, "claim"), (1000, 1000))

    def has_ended(slurm):
        ends(7, f"0\n{times}")(slurm)
        os.utime(os.path.join(slurm.folder, "exit"), (1090, 1090))

    runner, _ = make(begins, takes_long, has_ended)
    told = []
    assert runner.run(COMMAND, lambda *printed: told.append(printed)) == 7
    ((stream, data),) = told
    assert stream == USAGE
    assert usage_of(data) == Usage(90.0, 62.75, 2 * 2**20, samples=[])


def test_its_time_is_up(make):
    runner, _ = make(begins, ends(124, "late"))
    with pytest.raises(TimeIsUpError):
        runner.run(COMMAND, print)


@pytest.mark.parametrize(
    "state, error",
    [
        ("TIMEOUT", "Slurm job 11 reached its time limit (TIMEOUT)"),
        ("OUT_OF_MEMORY", "Slurm job 11 ran out of memory (OUT_OF_MEMORY)"),
        ("CANCELLED", "Slurm job 11 was cancelled (CANCELLED)"),
        ("DEADLINE", "Slurm job 11 reached its deadline (DEADLINE)"),
        ("FAILED", "Slurm job 11 was killed (FAILED, why)"),
    ],
)
@pytest.mark.parametrize("has_told", [True, False])
def test_what_slurm_ends(make, state, error, has_told):
    """Also if the command has come to a good end when Slurm has sent it SIGTERM."""
    told = [ends(0, "1")] if has_told and state != "FAILED" else []
    runner, _ = make(begins, *told, becomes(state, reason="why"))
    with pytest.raises(CommandStoppedError) as exc:
        runner.run(COMMAND, print)
    assert str(exc.value).startswith(error)


def test_sigterm_that_is_not_from_slurm(make):
    runner, _ = make(begins, ends(3, "1"), becomes("FAILED"))
    assert runner.run(COMMAND, print) == 3


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL"])
def test_what_is_worth_another_try(make, state):
    runner, slurm = make(begins, becomes(state))
    with pytest.raises(CommandLostError, match=f"'n1' was lost: .*{state}") as exc:
        runner.run(COMMAND, print)
    assert exc.value.tries == 1
    # a node that Slurm does not see may still run it
    assert (slurm.now >= LEASE) == (state != "PREEMPTED")


def test_a_node_out_of_sight_says_that_nothing_runs_any_more(make):
    def stops(slurm):
        assert os.path.exists(os.path.join(slurm.folder, "revoked"))
        slurm.write("stopped")

    runner, slurm = make(begins, becomes("NODE_FAIL"), 12, stops)
    with pytest.raises(CommandLostError):
        runner.run(COMMAND, print)
    assert slurm.now < LEASE


def test_a_sign_of_life_makes_it_wait(make):
    def lives(slurm):
        slurm.write("alive", ".")
        os.utime(os.path.join(slurm.folder, "alive"), ns=(0, int(slurm.now * 1e9)))

    beats = [step for second in range(5, 200, 5) for step in (second, lives)]
    runner, slurm = make(begins, is_forgotten, *beats)
    with pytest.raises(CommandLostError, match="Slurm job 11 is unknown to Slurm"):
        runner.run(COMMAND, print)
    assert slurm.now > 195 + LEASE - 5


def test_a_job_that_the_controller_has_lost_may_end_well(make):
    runner, _ = make(begins, is_forgotten, 20, ends(0))
    assert runner.run(COMMAND, print) == 0


def test_one_that_was_lost_before_it_began_is_submitted_again(make):
    runner, slurm = make(is_forgotten, 11, begins, ends(0))
    assert runner.run(COMMAND, print) == 0
    first, _ = slurm.submitted
    folder = os.path.dirname(slurm.folder)
    # it will not begin any more
    assert Path(os.path.join(folder, first, "claim")).read_text() == ""


def test_but_not_for_ever(make):
    forgets = [step for n in range(200) for step in (6 * n, is_forgotten)]
    runner, slurm = make(*forgets)
    with pytest.raises(RunnerError, match="has lost 3 jobs"):
        runner.run(COMMAND, print)
    assert len(slurm.submitted) == 3


def test_one_that_a_node_has_refused_is_submitted_again(make):
    runner, slurm = make(becomes("CANCELLED", nodes="n1"), 7, begins, ends(0))
    assert runner.run(COMMAND, print) == 0
    assert len(slurm.submitted) == 2


def test_one_that_has_left_the_queue(make):
    def is_accounted(slurm):
        slurm.queue.clear()
        slurm.accounts = "TIMEOUT"

    runner, _ = make(begins, is_accounted)
    with pytest.raises(CommandStoppedError, match="reached its time limit"):
        runner.run(COMMAND, print)


def test_silence_says_nothing_about_a_job(make, said):
    runner, _ = make(begins, 6, falls_silent, 500, answers, 520, ends(0))
    assert runner.run(COMMAND, print) == 0
    silence = "for Slurm, whose jobs go on: Unable to contact slurm controller"
    assert said[0] == f"Waiting {silence}"
    assert said[1:4] == [
        f"Still waiting {silence} (for 10 s)",
        f"Still waiting {silence} (for 1 min)",
        f"Still waiting {silence} (for 2 min)",
    ]
    assert len(said) < 12


def test_a_job_that_may_be_submitted_runs_once(make, said):
    def is_there(slurm):
        slurm.silent = False
        name = slurm.submitted[-1]
        slurm.queue[name] = Seen(name, "99", "PENDING")

    runner, slurm = make(is_there, begins, ends(0))
    slurm.silent = True
    assert runner.run(COMMAND, print) == 0
    assert len(slurm.submitted) == 1


def test_one_that_was_not_submitted_in_silence_is_submitted_again(make, said):
    runner, slurm = make(answers, 11, begins, ends(0))
    slurm.silent = True
    assert runner.run(COMMAND, print) == 0
    assert len(set(slurm.submitted)) == 2


def test_a_busy_controller_is_asked_again(make, said):
    runner, slurm = make()
    submit, busy = slurm.submit, iter(range(5))

    def submit_later(*args):
        for _ in busy:
            raise SlurmSilentError("Socket timed out")
        slurm.script = [begins, ends(0)]
        return submit(*args)

    slurm.submit = submit_later
    assert runner.run(COMMAND, print) == 0
    assert len(slurm.submitted) == 1
    assert not [*busy]


def test_a_queue_is_told(make, said):
    runner, _ = make(200, begins, ends(0))
    assert runner.run(COMMAND, print) == 0
    queue = "Still waiting for Slurm to start 1 jobs: Resources"
    assert said[0] == f"{queue} (for 10 s)"
    assert len(said) == 4  # after 10 s, and each minute from then on


def test_slurm_is_asked_once_for_all(make):
    runner, slurm = make(200, begins, ends(0))
    assert runner.run(COMMAND, print) == 0
    assert len(slurm.asked) <= 200 / slurm_runner.ASK + 1


def signals(runner, *signums):
    def send(_slurm):
        for signum in signums:
            runner.signal(signum)
        for thread in threading.enumerate():
            if thread.name == "dvc-scancel":
                thread.join(HANGS)

    return send


def test_ctrl_c_cancels(make):
    runner, slurm = make(begins)
    slurm.script += [signals(runner, signal.SIGINT), becomes("CANCELLED")]
    with pytest.raises(CommandStoppedError):
        runner.run(COMMAND, print)
    assert slurm.cancelled == ["11"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_other_signals_leave_jobs(make, signum):
    runner, slurm = make(begins)
    slurm.script += [signals(runner, signum)]
    with pytest.raises(RunnerClosedError):
        runner.run(COMMAND, print)
    assert not slurm.cancelled


def test_so_does_ctrl_c_after_detach(make):
    runner, slurm = make(begins, detach=True)
    slurm.script += [signals(runner, signal.SIGINT)]
    with pytest.raises(RunnerClosedError):
        runner.run(COMMAND, print)
    assert not slurm.cancelled


def test_the_id_of_a_job_that_is_another_one_is_not_cancelled(make):
    runner, slurm = make(begins, is_forgotten)
    slurm.script += [signals(runner, signal.SIGINT)]
    with pytest.raises((CommandStoppedError, CommandLostError, RunnerError)):
        runner.run(COMMAND, print)
    assert not slurm.cancelled


def leave(make, *script, **kwargs):
    """Have a job left by a run that was killed."""
    runner, slurm = make(*script, **kwargs)
    slurm.script += [signals(runner, signal.SIGTERM)]
    with pytest.raises(RunnerClosedError):
        runner.run(COMMAND, print)
    runner.close()
    return slurm


@pytest.fixture
def take_up(tmp_path):
    with contextlib.ExitStack() as stack:

        def take_up(slurm):
            runner = SlurmRunner(
                str(tmp_path), False, slurm, lambda: slurm.now, slurm.sleep
            )
            stack.callback(runner.close)
            return runner

        yield take_up


def test_what_slurm_refuses_is_not_left(make):
    runner, slurm = make()

    def refuse(*_args):
        raise RunnerError("Slurm refuses a job: invalid partition")

    slurm.submit = refuse
    with pytest.raises(RunnerError, match="invalid partition"):
        runner.run(COMMAND, print)
    runner.close()
    assert not runner.has_left("one")


def test_what_is_left_is_taken_up(make, take_up):
    slurm = leave(make, begins, prints)
    runner = take_up(slurm)
    assert runner.has_left("one")
    assert runner.take_up("one", "inputs", {})
    slurm.script += [ends(0)]
    shown = []
    assert runner.run(COMMAND, lambda _, data: shown.append(data)) == 0
    assert shown == [b"hello\n", b"and"]
    assert len(slurm.submitted) == 1
    runner.forget("one")
    assert not runner.has_left("one")


def test_but_not_for_other_inputs(make, take_up):
    slurm = leave(make, begins)
    runner = take_up(slurm)
    assert not runner.take_up("one", "others", {})
    slurm.script += [becomes("CANCELLED")]
    runner.clear("one")
    assert slurm.cancelled == ["11"]
    assert not runner.take_up("one", "inputs", {})


def test_nor_by_two_at_a_time(make, take_up):
    slurm = leave(make, begins)
    first, second = take_up(slurm), take_up(slurm)
    assert first.take_up("one", "inputs", {})
    with pytest.raises(RunnerError, match="has Slurm jobs of another `dvc repro`"):
        second.take_up("one", "inputs", {})


def test_one_whose_submission_was_cut_off_does_not_begin(make, take_up):
    slurm = leave(make, begins)
    (token,) = slurm.submitted
    folder = os.path.dirname(slurm.folder)
    record = os.path.join(folder, "record")
    text = Path(record).read_text().replace('"11"', "null")
    with open(record, "w") as fobj:
        fobj.write(text)
    os.remove(os.path.join(folder, token, "claim"))
    slurm.queue.clear()

    runner = take_up(slurm)
    assert runner.take_up("one", "inputs", {})
    slurm.script += [slurm.now + 6, begins, ends(0)]
    assert runner.run(COMMAND, print) == 0
    assert len(slurm.submitted) == 2
    assert Path(os.path.join(folder, token, "claim")).read_text() == ""


@pytest.mark.parametrize(
    "hashed, is_taken_up", [(None, False), ("other", False), ("same", True)]
)
def test_outputs_that_were_replaced(make, take_up, tmp_path, hashed, is_taken_up):
    out = tmp_path / "out"
    runner, slurm = make(begins, ends(0))
    assert runner.run(COMMAND, print) == 0
    if hashed:
        runner.keep_outputs("one", {str(out): hashed})
    runner.close()
    before = os.stat(os.path.join(slurm.folder, "exit")).st_ctime_ns
    out.write_text("")
    while os.stat(out).st_ctime_ns <= before:
        out.write_text("")
    runner = take_up(slurm)
    assert runner.take_up("one", "inputs", {str(out): lambda: "same"}) == is_taken_up


def test_a_record_that_is_not_as_it_should_be(make, take_up):
    slurm = leave(make, begins)
    folder = os.path.dirname(slurm.folder)
    good = Path(folder, "record").read_text()
    for text in (
        "",
        "[]",
        "{}",
        good.replace("{", "[", 1),
        good.replace(next(iter(slurm.submitted)), "../../other.12345678"),
    ):
        os.makedirs(folder, exist_ok=True)
        Path(folder, "record").write_text(text)
        runner = take_up(slurm)
        assert not runner.take_up("one", "inputs", {})
        runner.close()
