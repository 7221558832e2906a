import pytest

from dvc.cli import DvcParserError, parse_args
from dvc.commands.repro import CmdRepro


@pytest.mark.parametrize("args, jobs", [(["-j", "2"], 2), (["--jobs", "auto"], "auto")])
def test_jobs(dvc, mocker, args, jobs):
    cmd = CmdRepro(parse_args(["repro", *args]))
    reproduce = mocker.patch.object(cmd.repo, "reproduce", return_value=[])
    assert cmd.run() == 0
    assert reproduce.call_args.kwargs["jobs"] == jobs


def test_no_jobs_unless_given(dvc, mocker):
    cmd = CmdRepro(parse_args(["repro"]))
    reproduce = mocker.patch.object(cmd.repo, "reproduce", return_value=[])
    assert cmd.run() == 0
    assert "jobs" not in reproduce.call_args.kwargs


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_bad_jobs(dvc, caplog, value):
    with pytest.raises(DvcParserError):
        parse_args(["repro", f"--jobs={value}"])
    message = f"expected a positive integer or 'auto', got '{value}'"
    assert message in caplog.text


def test_exp_run_has_jobs_of_its_own(dvc):
    assert parse_args(["exp", "run", "--queue", "--jobs", "2"]).jobs == 2
