"""``core.parallel_notify``: it is told of each run, and no clone can bring it along."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

import pytest

from dvc_parallel.engine.reporter_events import RunInfo, StageInfo
from dvc_parallel.reporting import notify
from dvc_parallel.reporting.records import Runs
from tests import HANGS, wait_until
from tests.support.docs import run_page
from tests.support.processes import quick_commands
from tests.support.project import SCRIPTS, finish

PYTHON = sys.executable
DVC_YAML = """
    stages:
      a: {cmd: echo a > a.txt, outs: [a.txt]}
      b: {cmd: echo b > b.txt, outs: [b.txt]}
"""
TELL = 'cat > told.json; echo "$DVC_PARALLEL_STATE: $DVC_PARALLEL_SUMMARY" > told.txt'


def env_with(command):
    return {**os.environ, "DVC_PARALLEL_NOTIFY": command}


def repro(project, command, *args, **kwargs):
    kwargs.setdefault("env", env_with(command))
    return project.dvc("repro", "-j", 2, *args, check=False, **kwargs)


@pytest.fixture
def project(make_project):
    return make_project(dvc_yaml=DVC_YAML)


def told(project):
    return json.loads(project.read("told.json")), project.read("told.txt")


def test_what_it_is_told(project):
    result = repro(project, TELL)
    assert result.returncode == 0
    seen, line = told(project)
    assert seen == json.loads(project.own("report", "--json").stdout)
    assert seen["command"] == "dvc repro -j 2"
    assert seen["state"] == "ok"
    assert line.startswith("ok: 2 stages: 2 ran; ")
    assert line.partition(": ")[2] in result.stdout

    # a run that had nothing to do, for who wants to know that it was
    repro(project, TELL)
    seen, line = told(project)
    assert seen["outcomes"] == {"unchanged": 2}
    assert line.startswith("ok: 2 stages: 2 unchanged; ")


def test_a_run_that_fails(make_project):
    project = make_project(dvc_yaml="stages: {a: {cmd: exit 3}, b: {cmd: echo}}")
    assert repro(project, TELL).returncode == 255
    seen, line = told(project)
    assert seen["state"] == "failed"
    assert [(stage["stage"], stage["exit"]) for stage in seen["failed"]] == [("a", 3)]
    assert line.startswith("failed: 2 stages: ")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted(make_project, signum):
    dvc_yaml = f"""
    stages:
      a: {{cmd: "{PYTHON} hold.py a"}}
      b: {{cmd: echo}}
    """
    project = make_project(dvc_yaml=dvc_yaml, files=SCRIPTS)
    process = project.start("repro", "-j", 2, env=env_with(TELL))
    project.wait_for("a.runs")
    process.send_signal(signum)
    finish(process)
    seen, line = told(project)
    assert seen["state"] == "interrupted"
    assert line.startswith("interrupted: 2 stages: ")


def test_a_run_without_a_record(project):
    project.write({".dvc/tmp/parallel": "a file"})
    repro(project, TELL)
    seen, line = told(project)
    assert seen["outcomes"] == {"ran": 2}
    assert {*seen} == {
        *("version", "state", "jobs", "stages", "seconds", "busy", "outcomes")
    }
    assert line.startswith("ok: 2 stages: 2 ran; ")


class NoRecord:
    id = "20200101-000000-abcd"


def notifier(project, command):
    with project.repo() as repo:
        made = notify.Notifier(command, repo, ExitStack, NoRecord())
    made.begun(RunInfo([StageInfo("a")], 2, "fail"))
    return made


def test_a_run_that_an_error_of_dvc_ends(project):
    notifier(project, TELL).close()
    seen, line = told(project)
    assert (seen["state"], seen["stages"]) == ("failed", 1)
    assert line == "failed: an error of DVC ended the run\n"


def test_with_one_job_and_dry_runs_there_is_nothing_to_tell(project):
    env = env_with("touch told")
    project.dvc("repro", "-j", 1, env=env)
    project.dvc("repro", "-j", 2, "--dry", "--force", env=env)
    assert not project.exists("told")


def test_it_may_fail(project):
    result = repro(project, "echo '\x1b[2Jwhy' >&2; echo secret > /dev/null; exit 3")
    assert result.returncode == 0
    assert "core.parallel_notify: exited with 3\n[2Jwhy" not in result.stderr
    assert "core.parallel_notify: exited with 3\nwhy\n" in result.stderr
    assert "secret" not in result.stderr
    assert project.exists("dvc.lock")


def test_it_may_not_be_started(project, monkeypatch, caplog):
    made = notifier(project, "true")
    monkeypatch.setattr(tempfile, "tempdir", str(project.path / "none"))
    made.close()
    assert "core.parallel_notify: [Errno 2] No such file" in caplog.text


def test_it_may_not_read_what_it_is_told(project):
    names = {f"s{number}": {"cmd": "true"} for number in range(60)}
    project.write({"dvc.yaml": json.dumps({"stages": names})})
    assert "parallel_notify" not in repro(project, "exec <&-").stderr


def test_it_has_a_time_limit_and_leaves_nothing(project, monkeypatch, caplog):
    monkeypatch.setattr(notify, "SECONDS", 0.2)
    made = notifier(project, "sleep 300 & echo $! > pid; sleep 300")
    start = time.monotonic()
    made.close()
    assert "killed, as it took more than" in caplog.text
    assert time.monotonic() - start < 300
    pid = int(project.read("pid"))
    wait_until(lambda: _has_ended(pid))


def _has_ended(pid):
    result = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True
    )
    return result.stdout.strip()[:1] in (b"", b"Z")


def test_ctrl_c_ends_it_and_costs_no_result(project):
    command = "echo > runs; sleep 300"
    process = project.start("repro", "-j", 2, env=env_with(command))
    project.wait_for("runs")
    process.send_signal(signal.SIGINT)
    output = finish(process, HANGS)
    assert "core.parallel_notify: exited with SIGKILL" in output
    assert process.returncode == 0
    assert project.dvc("status", "-q", check=False).returncode == 0


def test_others_have_the_repo_and_it_is_not_told_of_its_own_runs(project):
    # NOTE: a command may take 30 s only, and machines are slow
    command = f"'{PYTHON}' -m dvc repro -j 2 --force && touch told"
    result = repro(project, command)
    assert result.returncode == 0
    assert project.exists("told")
    assert len(Runs(str(project.path / ".dvc/tmp")).ids()) == 2


@pytest.mark.parametrize("level", ["--local", "--global", "--system"])
def test_the_user_sets_it(project, level):
    """Quotes and all."""
    command = """cat > told.json; echo "it's: $DVC_PARALLEL_STATE, so" > told.txt"""
    result = project.dvc("config", level, "core.parallel_notify", command)
    assert "ignored" not in result.stderr
    project.dvc("repro", "-j", 2)
    assert told(project)[1] == "it's: ok, so\n"


def test_the_environment_wins(project):
    project.dvc("config", "--local", "core.parallel_notify", "touch config")
    repro(project, "touch env")
    assert (project.exists("env"), project.exists("config")) == (True, False)
    repro(project, "")
    assert not project.exists("config")


def test_what_a_clone_brings_along_is_not_run(project):
    result = project.dvc("config", "core.parallel_notify", "touch evil")
    assert "core.parallel_notify in '.dvc/config' is ignored" in result.stderr
    shown = project.own("doctor", check=False).stdout
    assert "problem: core.parallel_notify in '.dvc/config' is ignored" in shown
    project.dvc("config", "--global", "core.parallel_notify", "touch own")
    result = project.dvc("repro", "-j", 2)
    assert "core.parallel_notify in '.dvc/config' is ignored" in result.stderr
    assert (project.exists("evil"), project.exists("own")) == (False, True)


@pytest.mark.parametrize("through", ["file", "link", "folder"])
def test_a_local_config_that_git_tracks_is_not_run(project, through):
    config = project.path / ".dvc" / "config.local"
    text = "[core]\n    parallel_notify = touch evil\n"
    names = [".dvc/config.local"]
    if through == "link":
        names += ["conf"]
        project.write({"conf": text})
        config.symlink_to("../conf")
    else:
        config.write_text(text)
    if through == "folder":
        (project.path / ".dvc").rename(project.path / "dir")
        (project.path / ".dvc").symlink_to("dir")
        names = [".dvc", "dir/config.local"]
    subprocess.run(["git", "add", "-f", *names], cwd=project.path, check=True)
    result = project.dvc("repro", "-j", 2)
    # NOTE: older DVC follows the link of a folder
    assert "/config.local' is ignored" in result.stderr
    assert not project.exists("evil")


STAND_IN = """\
#!/bin/sh
for arg in "$0" "$@"; do printf '%s\\n' "$arg"; done >> ~/told.txt
case $0 in *notify-send) ;; *) cat >> ~/told.json; esac
"""


def test_recipes(tmp_path, monkeypatch):
    """The commands of the page, with stand-ins for the programs that they use."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("notify-send", "mail", "curl"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    with quick_commands(folder):
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        run_page("docs/notify.md", tmp_path, there="these programs")
    said = (tmp_path / "told.txt").read_text().replace(f"{folder}/", "\n").split("\n\n")
    desktop, mail, slack, healthchecks = (each.strip().splitlines() for each in said)
    assert desktop[:2] == ["notify-send", "small: ok"]
    assert desktop[2].startswith("2 stages: 2 ran; ")
    assert mail == ["mail", "-s", "small: ok", "you@example.com"]
    assert slack[-1] == "https://hooks.slack.com/services/..."
    text = json.loads(slack[slack.index("-d") + 1])["text"]
    assert text.startswith("ok: 2 stages: 2 ran; ")
    assert healthchecks[-2:] == ["@-", "https://hc-ping.com/your-uuid/0"]
    bodies = (tmp_path / "told.json").read_text().replace("}{", "}\n{").splitlines()
    seen = [json.loads(body)["outcomes"] for body in bodies]
    assert seen == [{"ran": 2}, {"ran": 2}]
