"""Runners of other packages, found by their entry points."""

import os
import re
from pathlib import Path

import pytest

from tests import is_alive
from tests.support.registered_runners import install_runner

PAGE = Path(__file__).parents[2] / "docs/cluster.md"


@pytest.fixture
def template(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n([^`]*NiceRunner[^`]*)```", PAGE.read_text())
    assert len(code.splitlines()) <= 40
    install_runner(tmp_path / "site", "nice", code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


def test_the_template_of_the_docs(make_project, template):
    project = make_project(
        dvc_yaml="""
        stages:
          each:
            foreach: [a, b]
            do: {cmd: "nice > ${item}; sleep 300 & echo $! > pid", outs: ["${item}"]}
          fails: {cmd: "echo oh no; exit 7", deps: [a]}
        """.replace("pid", "${item}.pid")
    )
    result = project.dvc("repro", "--runner", "nice:7", "-j", 2, check=False)
    assert result.returncode == 255
    assert "oh no" in result.stdout
    assert "exited with 7" in result.stderr
    niceness = f"{os.nice(0) + 7}\n"
    assert (project.read("a"), project.read("b")) == (niceness, niceness)
    for name in ("a.pid", "b.pid"):
        assert not is_alive(int(project.read(name)))


def test_its_time_limits_are_kept(make_project, template):
    project = make_project(
        dvc_yaml="""
        stages:
          one: {cmd: "echo $$ > pid; sleep 300", meta: {parallel: {timeout: 0.1}}}
        """
    )
    project.dvc("config", "--local", "core.parallel_runner", "nice")
    result = project.dvc("repro", check=False)
    assert result.returncode == 255
    assert "0.1 s" in result.stderr


def test_an_address_that_it_cannot_use(make_project, template):
    project = make_project(dvc_yaml="stages: {one: {cmd: touch one.txt}}")
    result = project.dvc("repro", "--runner", "nice:very", check=False)
    assert "runner 'nice:very': expected nice:<number>" in result.stderr
    assert not project.exists("one.txt")


def test_an_unknown_name_lists_those_there_are(make_project, template, monkeypatch):
    project = make_project(dvc_yaml="stages: {one: {cmd: touch one.txt}}")
    expected = "or a registered runner ('nice'), got 'mice'"
    result = project.dvc("repro", "--runner", "mice", check=False)
    assert expected in result.stderr
    monkeypatch.setenv("DVC_PARALLEL_RUNNER", "mice")
    result = project.dvc("repro", check=False)
    assert "DVC_PARALLEL_RUNNER: expected 'local', 'dask'" in result.stderr
    assert expected in result.stderr
    assert not project.exists("one.txt")
