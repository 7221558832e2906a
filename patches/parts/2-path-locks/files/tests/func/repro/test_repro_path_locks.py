import json

import pytest

from dvc.exceptions import ReproductionError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE


def test_who_is_blocked_reads_the_name_of_the_stage(tmp_dir, dvc, mocker):
    dvc.stage.add(name="make", cmd="echo foo>foo", outs=["foo"])
    dvc.stage.add(name="use", cmd="echo bar>bar", deps=["foo"], outs=["bar"])
    errors = []

    def reproduce_another_stage(stage, **kwargs):
        tmp_dir.gen("foo", "foo")
        with Repo() as repo:
            with pytest.raises(ReproductionError) as exc_info:
                repo.reproduce("use", single_item=True)
        errors.append(exc_info.value.__cause__)

    mocker.patch("dvc.stage.run.cmd_run", side_effect=reproduce_another_stage)
    dvc.reproduce("make")

    (error,) = errors
    assert isinstance(error, LockError)
    assert "(stage 'make')" in str(error)
    assert "(stage 'use')" not in str(error)


def test_nothing_stays_locked(tmp_dir, dvc):
    tmp_dir.gen("foo", "foo")
    dvc.stage.add(name="use", cmd="exit 1", deps=["foo"])
    with pytest.raises(ReproductionError):
        dvc.reproduce()

    rwlock = (tmp_dir / dvc.tmp_dir / RWLOCK_FILE).read_text()
    assert not any(json.loads(rwlock).values())


def test_two_edits_for_a_stage(tmp_dir, dvc, mocker):
    tmp_dir.gen("foo", "foo")
    dvc.stage.add(name="use", cmd="echo bar>bar", deps=["foo"], outs=["bar"])
    edit = mocker.spy(dvc.path_locks._file, "write")
    dvc.reproduce()
    assert edit.call_count == 2
