"""Whether commands that an earlier run has left are still those of their stage."""

import pytest

from dvc_parallel.run.stage_run import inputs_of


@pytest.fixture
def stage(make_project):
    project = make_project(
        dvc_yaml="""
        stages:
          one:
            cmd: cat data/a > out
            deps: [data]
            params: [p]
            outs: [out]
        """,
        files={"data/a": "1\n", "params.yaml": "p: 1\n"},
    )
    with project.repo() as repo:
        yield repo.stage.load_one(name="one")


def test_data_params_and_command_count(stage, monkeypatch):
    before = inputs_of(stage)
    assert inputs_of(stage) == before
    found = {before}
    monkeypatch.chdir(stage.wdir)
    for name, text in (("data/a", "2\n"), ("params.yaml", "p: 2\n")):
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
        found.add(inputs_of(stage))
    stage.cmd += " "
    found.add(inputs_of(stage))
    assert len(found) == 4


def test_data_are_the_same_once_dvc_3_has_recorded_them(stage):
    """Of what DVC 2 has recorded, the kind of the hash is another one until then."""
    before = inputs_of(stage)
    for dep in stage.deps:
        if hasattr(dep, "hash_name"):
            dep.hash_name = "md5-dos2unix"
    assert inputs_of(stage) == before
