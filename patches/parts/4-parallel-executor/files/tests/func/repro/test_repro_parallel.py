import os
import signal
import subprocess
import sys
import threading

import pytest

from dvc.config import ConfigError
from dvc.exceptions import InvalidArgumentError, ReproductionError
from dvc.repo import Repo
from dvc.repo.reproduce import _count_jobs, get_active_graph, plan_repro

# Waits until so many of its kind have come; fails if they do not.
MEET = """
import sys, time, pathlib
name, count = sys.argv[1], int(sys.argv[2])
here = pathlib.Path("meeting")
here.mkdir(exist_ok=True)
(here / name).touch()
end = time.monotonic() + 30
while len(list(here.iterdir())) < count:
    if time.monotonic() > end:
        sys.exit(f"{name} waited in vain")
    time.sleep(0.01)
pathlib.Path(name).write_text(name)
"""

# Ends after another one.
AFTER = """
import sys, time, pathlib
name, *others = sys.argv[1:]
end = time.monotonic() + 30
while not all(pathlib.Path(other).exists() for other in others):
    if time.monotonic() > end:
        sys.exit(f"{name} waited in vain")
    time.sleep(0.01)
pathlib.Path(name).write_text(name)
"""


@pytest.fixture
def add(tmp_dir, dvc):
    tmp_dir.gen({"meet.py": MEET, "after.py": AFTER})

    def add(name, cmd, deps=(), outs=None):
        return dvc.stage.add(
            name=name, cmd=cmd, deps=deps, outs=[name] if outs is None else outs
        )

    return add


@pytest.fixture
def meet(add):
    def meet(name, count, **kwargs):
        return add(name, f"python meet.py {name} {count}", **kwargs)

    return meet


def test_at_the_same_time_and_in_serial_order(tmp_dir, dvc, add, meet):
    root = add("root", "echo root>root")
    leaves = [meet(name, 3, deps=["root"]) for name in ("c", "a", "b")]

    steps = plan_repro(get_active_graph(dvc.index.graph))
    assert set(steps) == {root, *leaves}
    assert dvc.reproduce(jobs=3) == steps
    assert dvc.reproduce(jobs=3) == []


def test_does_not_go_level_by_level(dvc, add, meet):
    meet("slow", 2)
    add("quick", "echo 1>quick")
    meet("next", 2, deps=["quick"])

    assert len(dvc.reproduce(jobs=2)) == 3


@pytest.mark.parametrize("scm", [True, False])
def test_leaves_what_a_serial_run_leaves(make_tmp_dir, scm):
    def run(name, script, jobs):
        tmp_dir = make_tmp_dir(name, scm=scm, dvc=True)
        tmp_dir.gen({"run.py": script, "parts": {"readme": "readme"}})
        outs = [f"parts/{name}" for name in "dbca"]
        with tmp_dir.chdir():
            for number, out in enumerate(outs):
                # NOTE: side by side, each ends before the one before it
                cmd = " ".join(["python run.py", *outs[number : number + 2]])
                tmp_dir.dvc.stage.add(name=out[-1], cmd=cmd, outs=[out])
            cmd = "echo 1>all"
            tmp_dir.dvc.stage.add(name="all", cmd=cmd, deps=["parts"], outs=["all"])
            assert len(tmp_dir.dvc.reproduce(jobs=jobs)) == 5
            assert tmp_dir.dvc.reproduce(jobs=jobs) == []
        files = ["dvc.lock", *(["parts/.gitignore", ".gitignore"] if scm else [])]
        return [(tmp_dir / name).read_text() for name in files]

    write = "import sys; open(sys.argv[1], 'w').write(sys.argv[1])"
    # NOTE: dvc.lock does not know of the script
    assert run("serial", write, jobs=1) == run("parallel", AFTER, jobs=4)


def test_failure_lets_running_stages_finish(tmp_dir, dvc, add, meet):
    add("bad", "python meet.py bad 2 && exit 3", outs=[])
    meet("good", 2)
    add("later", "echo later>later", deps=["good"])

    with pytest.raises(ReproductionError, match="failed to reproduce 'bad'"):
        dvc.reproduce(jobs=2)
    assert (tmp_dir / "dvc.lock").parse()["stages"].keys() == {"good"}
    assert not (tmp_dir / "later").exists()


def test_keep_going(tmp_dir, dvc, add, caplog):
    add("bad", "exit 3", outs=["bad"])
    add("dependent", "echo 1>dependent", deps=["bad"])
    add("other", "echo 1>other")

    with pytest.raises(ReproductionError, match="failed to reproduce 'bad'"):
        dvc.reproduce(jobs=2, on_error="keep-going")
    assert "Stage 'dependent' will be skipped due to this failure" in caplog.text
    assert (tmp_dir / "dvc.lock").parse()["stages"].keys() == {"other"}


def test_lines_carry_the_name_of_their_stage(dvc, add, capfd):
    add("say", "echo foo", outs=[])
    add("say-more", "echo bar", outs=[])

    dvc.reproduce(jobs=2)
    lines = capfd.readouterr().out.splitlines()
    assert {"say | foo", "say-more | bar"} <= set(lines)


def test_asks_from_the_main_thread(tmp_dir, dvc, add, mocker):
    add("foo", "echo foo>foo")
    add("bar", "echo bar>bar")
    threads = []

    def answer(_):
        threads.append(threading.current_thread())
        return "y"

    mocker.patch("dvc.ui.Console.isatty", return_value=True)
    mocker.patch("builtins.input", side_effect=answer)
    assert len(dvc.reproduce(jobs=2, interactive=True)) == 2
    assert threads == [threading.main_thread()] * 2


def test_config(tmp_dir, dvc, meet):
    with dvc.config.edit() as conf:
        conf["core"]["parallel_jobs"] = "2"
    meet("foo", 2)
    meet("bar", 2)

    with Repo() as repo:
        assert len(repo.reproduce()) == 2


def test_bad_config(tmp_dir, dvc):
    (tmp_dir / ".dvc" / "config").write_text("[core]\n    parallel_jobs = many\n")
    message = "expected a positive integer or 'auto', got 'many'"
    with pytest.raises(ConfigError, match=message):
        Repo()


@pytest.mark.parametrize("jobs", [0, -1, "many", 1.5])
def test_bad_jobs(dvc, jobs):
    with pytest.raises(InvalidArgumentError, match=f"got '{jobs}'"):
        dvc.reproduce(jobs=jobs)


def test_one_job_by_default(mocker):
    assert _count_jobs(mocker.Mock(config={"core": {}}), None) == 1


@pytest.mark.parametrize(
    "kwargs",
    [
        {"jobs": 1},
        {"jobs": 2, "dry": True},
        {"jobs": 2, "single_item": True, "targets": ["foo"]},
    ],
)
def test_one_after_the_other(dvc, add, mocker, kwargs):
    executor = mocker.patch("dvc.repo.parallel.executor.ParallelExecutor")
    add("foo", "echo foo>foo")

    assert len(dvc.reproduce(**kwargs)) == 1
    executor.assert_not_called()


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for another process")
def test_interrupt(tmp_dir, dvc, add):
    tmp_dir.gen(
        "wait.py", "import time, sys; print('waits', flush=True); time.sleep(300)"
    )
    add("foo", "python wait.py", outs=[])
    add("bar", "python wait.py", outs=[])
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        waiting = 0
        for line in process.stdout:
            waiting += line.endswith("| waits\n")
            if waiting == 2:
                process.send_signal(signal.SIGINT)
                break
        output = process.stdout.read()
    assert process.returncode == 252
    assert "interrupted, waiting for 2 running" in output
    assert not (tmp_dir / "dvc.lock").exists()
