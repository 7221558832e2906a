from dvc.lock import Lock
from dvc.stage import decorators


def test_result_waits_for_lock(tmp_dir, dvc, mocker):
    mocker.patch("dvc.lock.DEFAULT_TIMEOUT", 0.01)
    other = Lock(dvc.lock.lockfile)
    cmd_run = mocker.patch("dvc.stage.run.cmd_run")

    def run_while_another_process_locks(stage, **kwargs):
        other.lock()
        tmp_dir.gen("bar", "foo")

    cmd_run.side_effect = run_while_another_process_locks
    cmd_run.__name__ = "cmd_run"
    tell = mocker.patch.object(decorators.logger, "info")
    tell.side_effect = lambda _: other.unlock()

    tmp_dir.gen("foo", "foo")
    stage = dvc.stage.add(name="copy", cmd="cp foo bar", deps=["foo"], outs=["bar"])
    assert dvc.reproduce() == [stage]

    tell.assert_called_once()
    assert "waiting for it" in tell.call_args.args[0]
    assert (tmp_dir / "dvc.lock").parse()["stages"].keys() == {"copy"}
