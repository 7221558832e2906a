import logging

from dvc.lock import Lock


class Told(logging.Handler):
    """Calls a function when DVC says that it waits for another process."""

    def __init__(self, func):
        super().__init__()
        self.func = func
        self.count = 0

    def emit(self, record):
        if "Another DVC process has locked the repo" in record.getMessage():
            self.count += 1
            self.func()


def test_result_waits_for_lock(tmp_dir, dvc, mocker, request, caplog):
    mocker.patch("dvc.lock.DEFAULT_TIMEOUT", 0.01)
    other = Lock(dvc.lock.lockfile)

    def run_while_another_process_locks(stage, **kwargs):
        other.lock()
        tmp_dir.gen("bar", "foo")

    cmd_run = mocker.patch("dvc.stage.run.cmd_run")
    cmd_run.side_effect = run_while_another_process_locks
    told = Told(other.unlock)
    logging.getLogger("dvc").addHandler(told)
    request.addfinalizer(lambda: logging.getLogger("dvc").removeHandler(told))

    tmp_dir.gen("foo", "foo")
    stage = dvc.stage.add(name="copy", cmd="cp foo bar", deps=["foo"], outs=["bar"])
    with caplog.at_level(logging.INFO, logger="dvc"):
        assert dvc.reproduce() == [stage]

    assert told.count == 1
    assert (tmp_dir / "dvc.lock").parse()["stages"].keys() == {"copy"}
