import os
import re
import subprocess
import sys

import pytest
from dvc.config import Config
from dvc.exceptions import InvalidArgumentError

from dvc_parallel import __version__
from dvc_parallel.commands.cli import USAGE, main
from dvc_parallel.engine.job_count import available_cpus
from tests.support.capabilities import TRACKS_EACH_STAGE

TWO = """
    stages:
      a: {cmd: echo a > a.txt, outs: [a.txt]}
      b: {cmd: echo b > b.txt, outs: [b.txt]}
"""


def test_repro_help_shows_it_as_dvc_shows_its_own(make_project):
    project = make_project()

    def shown(command):
        output = project.dvc(command, "--help").stdout
        return re.search(r"^  -j.*--jobs <number>", output, re.MULTILINE).group()

    assert shown("repro") == shown("push")


def test_exp_run_keeps_its_own_jobs(make_project):
    result = make_project().dvc("exp", "run", "--help")
    assert result.stdout.count("--jobs") == 1
    assert "core.parallel_jobs" not in result.stdout


@pytest.mark.parametrize("value", ["0", "-3", "x", "1.5", ""])
def test_bad_jobs(make_project, value):
    project = make_project(dvc_yaml=TWO)
    result = project.dvc("repro", f"--jobs={value}", check=False)
    assert result.returncode == 254  # as DVC's own argument errors
    line = f"argument -j/--jobs: expected a positive integer or 'auto', got '{value}'"
    assert result.stderr == f"ERROR: {line}\n"
    assert not project.exists("dvc.lock")


@pytest.mark.parametrize("jobs", [0, -3, "x", 1.5])
def test_bad_jobs_from_python(make_project, jobs):
    project = make_project(dvc_yaml=TWO)
    with pytest.raises(InvalidArgumentError, match="expected a positive integer"):
        project.reproduce(jobs=jobs)
    assert not project.exists("dvc.lock")


def test_auto(make_project):
    result = make_project(dvc_yaml=TWO).dvc("repro", "-j", "auto")
    assert "Generating lock file" in result.stdout
    cpus = available_cpus()
    assert (f"with {cpus} jobs" in result.stdout) == (cpus > 1)


def test_jobs_from_python(make_project):
    project = make_project(dvc_yaml=TWO)
    assert project.reproduce(jobs=8) == ["a", "b"]
    assert project.reproduce(jobs=8) == []


def test_one_job_is_the_loop_of_dvc(make_project, mocker):
    parallel = mocker.patch("dvc_parallel.run.parallel_run.ParallelRun")
    project = make_project(dvc_yaml=TWO)
    assert project.reproduce(jobs=1) == ["a", "b"]
    with project.repo() as repo:
        assert len(repo.reproduce(force=True)) == 2
    parallel.assert_not_called()


def test_output_of_one_job_is_dvcs(twins):
    serial, parallel = twins(TWO)
    # NOTE: DVC lists what is to be added to git in the order of a set
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    expected = serial.dvc("repro", env=env).stdout
    assert parallel.dvc("repro", "-j", 1, env=env).stdout == expected


def test_jobs_do_not_reach_the_downloads_of_stages(make_project, mocker):
    from dvc.stage import Stage

    reproduce = mocker.spy(Stage, "reproduce")
    make_project(dvc_yaml=TWO).reproduce(jobs=2)
    assert reproduce.call_count == 2
    assert all("jobs" not in call.kwargs for call in reproduce.call_args_list)


@pytest.mark.parametrize("value", ["8", "auto"])
def test_config(make_project, value):
    project = make_project(dvc_yaml=TWO)
    project.dvc("config", "--local", "core.parallel_jobs", value)
    assert project.dvc("config", "core.parallel_jobs").stdout == f"{value}\n"
    project.dvc("config", "--local", "--unset", "core.parallel_jobs")
    assert project.dvc("config", "core.parallel_jobs", check=False).stdout == ""


@pytest.mark.parametrize(
    "option, value, error",
    [
        ("jobs", "0", "expected a positive integer or 'auto', got '0'"),
        ("output", "x", "expected one of 'auto', 'prefixed', 'grouped', 'failed'"),
        ("pools", "gpu=x", "expected a number of slots"),
        ("notify", " ", "expected a command"),
        ("push", "maybe", "expected true or false, got 'maybe'"),
        ("log_size", "x", "expected a size such as '64M'"),
    ],
)
def test_config_is_validated(make_project, option, value, error):
    project = make_project()
    result = project.dvc("config", f"core.parallel_{option}", value, check=False)
    assert result.returncode == 251
    assert error in result.stderr
    assert f"parallel_{option}" not in project.read(".dvc/config")


def test_config_of_the_project_warns_of_teammates(make_project):
    project = make_project()
    for option, value in (("jobs", "2"), ("output", "none"), ("pools", "gpu=2")):
        stderr = project.dvc("config", f"core.parallel_{option}", value).stderr
        assert f"teammates who get 'core.parallel_{option}'" in stderr
        assert "--local" in stderr
        assert "--global" in stderr
    for args in (
        ["core.parallel_jobs"],
        ["--local", "core.parallel_jobs", "2"],
        ["--global", "core.parallel_jobs", "2"],
        ["core.autostage", "true"],
        ["--unset", "core.parallel_jobs"],
    ):
        assert project.dvc("config", *args).stderr == ""


def test_the_option_wins_over_the_config(make_project):
    project = make_project(dvc_yaml=TWO)
    project.dvc("config", "--local", "core.parallel_jobs", "3")
    assert "with 3 jobs" in project.dvc("repro").stdout
    shown = project.dvc("repro", "-f", "-j", 2).stdout
    assert re.search("2 stages: 2 ran; .* with 2 jobs", shown)
    assert "jobs" not in project.dvc("repro", "-f", "-j", 1).stdout


@pytest.fixture
def experiments(make_project):
    project = make_project(dvc_yaml=TWO)
    git = ["git", "-C", project.path]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    project.dvc("config", "--local", "core.parallel_jobs", "3")
    return project


@pytest.mark.parametrize("args", [[], ["--temp"]])
def test_experiments_heed_the_config(experiments, args):
    assert "with 3 jobs" in experiments.dvc("exp", "run", *args).stdout


@pytest.mark.parametrize("args", [[], ["--temp"]])
def test_an_experiment_names_logs_that_are_there_afterwards(experiments, args):
    """Of one in a folder of its own, they are gone with it."""
    experiments.write({"dvc.yaml": "stages: {a: {cmd: echo no && false}}"})
    result = experiments.dvc("exp", "run", *args, check=False)
    shown = result.stdout + result.stderr
    assert "| no\n" in shown
    is_kept = experiments.own("logs", "a", check=False).returncode == 0
    assert ("dvc-parallel logs a" in shown) is is_kept is not bool(args)


@pytest.mark.slow
def test_queued_experiments_heed_the_config(experiments):
    queued = experiments.dvc("exp", "run", "--queue").stdout
    # NOTE: their own --jobs is the number of experiments
    experiments.dvc("exp", "run", "--run-all", "--jobs", "1")
    name = re.search("Queued experiment '(.*?)'", queued)
    logs = experiments.dvc("queue", "logs", name.group(1)).stdout
    assert "with 3 jobs" in logs


LOCKED = """
stages:
  holds:
    cmd: touch .git/index.lock held; until test -e go; do sleep 0.02; done; rm .git/index.lock
    outs: [held: {cache: false}]
  other:
    cmd: until test -e held; do sleep 0.02; done; echo 1 > other
    outs: [other: {cache: false}]
"""  # noqa: E501


@pytest.mark.skipif(
    not TRACKS_EACH_STAGE,
    reason="this DVC adds nothing to git in the job of a stage",
)
def test_a_stage_of_an_experiment_waits_while_a_command_has_locked_the_index(
    experiments,
):
    experiments.write({"dvc.yaml": LOCKED})
    process = experiments.start("exp", "run")
    shown = []
    with process.stdout:
        for line in process.stdout:
            shown.append(line)
            # NOTE: the latter if it has failed
            if "other | waits for git's index: " in line or "waiting for 1" in line:
                experiments.write({"go": ""})
    assert process.wait() == 0, "".join(shown)
    assert any("other | waits for git's index: " in line for line in shown)
    assert {"held", "other"} <= set(files_of_experiment(experiments))


def files_of_experiment(project):
    git = ["git", "-C", project.path]
    refs = subprocess.check_output(
        [*git, "for-each-ref", "--format=%(refname)", "refs/exps"], text=True
    )
    (ref,) = (ref for ref in refs.split() if not ref.startswith("refs/exps/exec/"))
    tree = subprocess.check_output(
        [*git, "ls-tree", "-r", "--name-only", ref], text=True
    )
    return tree.split()


TRAIN = """
import sys
from dvclive import Live
with Live(f"live/{sys.argv[1]}", dvcyaml=f"live/{sys.argv[1]}/dvc.yaml") as live:
    live.log_metric("loss", 1)
    live.next_step()
"""
LIVE = f"""
stages:
  train:
    foreach: [a, b]
    do:
      cmd: {sys.executable} train.py ${{item}}
      meta: {{parallel: {{pools: [git]}}}}
"""


def test_dvclive_in_stages_that_use_git_one_at_a_time(experiments):
    pytest.importorskip("dvclive", reason="DVCLive needs a newer DVC")
    experiments.write({"dvc.yaml": LIVE, "train.py": TRAIN})
    git = ["git", "-C", experiments.path]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "second"], check=True)
    result = experiments.dvc("exp", "run")
    assert "with 3 jobs" in result.stdout
    found = files_of_experiment(experiments)
    for name in ("a", "b"):
        assert {f"live/{name}/metrics.json", f"live/{name}/dvc.yaml"} <= set(found)


def test_doctor(make_project):
    project = make_project()
    project.dvc("config", "--local", "core.parallel_jobs", "7")

    def run(*options):
        return project.own("doctor", *options, check=False)

    result = run()
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("Everything is in place.\n")
    assert "patched: " not in result.stdout
    assert "jobs: 7 from " in result.stdout
    details = run("--verbose").stdout
    assert details.startswith("Everything is in place.\n")
    assert "hook in plain `dvc`: yes" in details
    assert "patched: dvc.repo.reproduce._reproduce" in details
    assert ".dvc/config.local" in result.stdout

    assert "teammates" not in result.stdout
    assert run("-q").stdout == ""

    project.dvc("config", "--global", "core.parallel_jobs", "5")
    project.dvc("config", "--project", "core.parallel_jobs", "6")
    lines = run().stdout.splitlines()
    start = "warning: teammates who get 'core.parallel_jobs' with .dvc/config "
    assert any(line.startswith(start) for line in lines)
    for flag, folder, name in (
        ("global", Config.get_dir("global"), "config"),
        ("project", project.path / ".dvc", "config"),
        ("local", project.path / ".dvc", "config.local"),
    ):
        start = f"core.parallel_jobs is set in {os.path.join(folder, name)}; "
        end = f"`dvc config --{flag} --unset core.parallel_jobs`"
        assert any(line.startswith(start) and line.endswith(end) for line in lines)

    project.dvc("config", "--local", "core.parallel_output", "none")
    assert "--local --unset core.parallel_output" in run().stdout

    project.write({".dvc/config.local": "[core]\n    parallel_jobs = x\n"})
    result = run()
    assert result.returncode == 1
    (verdict,) = result.stdout.partition("\n\n")[0].splitlines()
    assert verdict.startswith("problem: ")
    assert verdict.endswith("expected a positive integer or 'auto', got 'x'")
    result = run("-q")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


def test_doctor_outside_of_a_repo(make_project, tmp_path, monkeypatch, capsys):
    outside = "Not in a DVC repo: only global and system settings were checked."
    monkeypatch.chdir(make_project().path)
    main(["doctor"])
    assert outside not in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    main(["doctor"])
    assert outside in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "command, hint",
    [("plna", "; did you mean 'plan'?"), ("xyz", "."), ("a\x1bb", ".")],
)
def test_unknown_commands(make_project, command, hint):
    result = make_project().own(command, check=False)
    assert (result.returncode, result.stdout) == (254, "")
    shown = command.replace("\x1b", "\\x1b")
    assert result.stderr == (
        f"ERROR: unknown command '{shown}'{hint} See `dvc-parallel --help`\n"
    )


def test_options_without_an_effect_on_a_plan_say_so(make_project):
    help_text = make_project().own("plan", "--help").stdout
    for option in ("--dry", "--interactive"):
        assert re.search(rf"{option} +Has no effect on a plan\.", help_text)


@pytest.mark.parametrize(
    "argv, error",
    [
        (["--bogus"], "expected a command, got '--bogus'"),
        (["-v"], "expected a command, got '-v'"),
        (["doctor", "--bogus"], "unrecognized arguments: --bogus"),
        (["doctor", "more"], "unrecognized arguments: more"),
    ],
)
def test_unknown_options_are_errors(argv, error, capsys):
    try:
        status = main(argv)
    except SystemExit as exc:
        status = exc.code
    assert status == 254
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"ERROR: {error}\nusage: dvc-parallel ")


def test_help_and_version(capsys):
    assert main(["--help"]) == main([]) == main(["-V"]) == 0
    assert capsys.readouterr().out == f"{USAGE}{USAGE}{__version__}\n"
    with pytest.raises(SystemExit, match="0"):
        main(["doctor", "--help"])
    assert "usage: dvc-parallel doctor" in capsys.readouterr().out


def test_doctor_knows_pools(make_project, monkeypatch):
    project = make_project()
    assert "pools: " not in project.own("doctor").stdout
    project.dvc("config", "--local", "core.parallel_pools", "gpu=0,1 mem=64")
    shown = project.own("doctor").stdout
    assert "pools: gpu=0,1, mem=64 from " in shown
    assert "`dvc config --local --unset core.parallel_pools`" in shown
    monkeypatch.setenv("DVC_PARALLEL_POOLS", "gpu=x")
    result = project.own("doctor", check=False)
    assert result.returncode == 1
    assert "problem: pools from DVC_PARALLEL_POOLS: expected a number" in result.stdout
