import pytest

from dvc_parallel.engine.lockfile import Lockfiles
from dvc_parallel.run.refresh import catch_up

DVC_YAML = "stages: {make: {cmd: echo 1 > out, outs: [out]}}"


@pytest.mark.parametrize(
    "old, new",
    [("outs:", "out:"), ("outs:", "outs: 1\n    deps:"), ("cmd: echo 1", "cmd: [{}]")],
)
def test_an_entry_that_is_not_as_it_should_be_is_left_alone(make_project, old, new):
    project = make_project("p", DVC_YAML)
    project.reproduce(jobs=1)
    lock = project.read("dvc.lock")
    with project.repo() as repo:
        stage = repo.stage.load_one(name="make")
        before = stage.outs[0].hash_info
        project.write({"dvc.lock": lock.replace(old, new)})
        catch_up(stage, Lockfiles(repo.tmp_dir))
        assert stage.outs[0].hash_info == before
        assert not stage.cmd_changed

        other = lock.replace(before.value, "f" * 32)
        project.write({"dvc.lock": other})
        catch_up(stage, Lockfiles(repo.tmp_dir))
        assert stage.outs[0].hash_info.value == "f" * 32
