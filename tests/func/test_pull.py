"""``dvc repro --pull`` with several jobs: what stages need is fetched beside others."""

import shutil

import pytest
from dvc_data.hashfile import transfer as hashfile_transfer
from dvc_data.index import fetch as index_fetch

from dvc_parallel.run import transfers
from tests import wait_until
from tests.support.capabilities import OBJECTS
from tests.support.project import assert_same

DVC_YAML = """
    stages:
      sort: {cmd: "sort data > sorted", deps: [data], outs: [sorted]}
      split:
        cmd: mkdir -p parts; head -n 1 sorted > parts/a; tail -n 1 sorted > parts/b
        deps: [sorted]
        outs: [parts]
      count: {cmd: "wc -l < data > count", deps: [data], outs: [count]}
      join:
        cmd: cat parts/* count code > joined
        deps: [parts, count, code]
        outs: [joined]
"""
# NOTE: there, dvc-data has a function of that name
fetches_beside = pytest.mark.skipif(
    callable(index_fetch), reason="with DVC 2, a stage fetches in its turn"
)
OUTS = ["data", "sorted", "parts", "count", "joined"]


@pytest.fixture
def pushed(make_project, tmp_path):
    """A project with all in its remote, and nothing in its cache or workspace."""

    def make(dvc_yaml=DVC_YAML):
        project = make_project("pushed", dvc_yaml, {"data": "b\nc\na\n", "code": "1"})
        project.dvc("remote", "add", "-q", "-d", "storage", tmp_path / "remote")
        project.dvc("add", "-q", "data")
        project.reproduce(jobs=2)
        project.dvc("push", "-q", "--run-cache")
        shutil.rmtree(project.path / ".dvc/cache")
        for name in OUTS:
            path = project.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return project

    return make


def twin_of(project, name):
    twin = type(project).__new__(type(project))
    twin.path, twin._started = project.path.with_name(name), []
    shutil.copytree(project.path, twin.path, symlinks=True)
    return twin


@pytest.mark.parametrize(
    "edits, options",
    [
        ({}, {}),
        ({"code": "2"}, {}),
        ({"code": "2"}, {"allow_missing": True}),
        ({"code": "2"}, {"run_cache": False}),
        ({"dvc.lock": None}, {}),
    ],
)
def test_same_as_serial(pushed, edits, options):
    serial = pushed()
    parallel = twin_of(serial, "parallel")
    for project in (serial, parallel):
        project.write({name: text for name, text in edits.items() if text})
        for name in edits.keys() - {"code"}:
            (project.path / name).unlink()
    expected = serial.reproduce(pull=True, **options)
    assert parallel.reproduce(jobs=2, pull=True, **options) == expected
    assert_same(serial, parallel)


def blocked(monkeypatch, until):
    """Have transfers wait for something."""
    transfer = transfers.transfer

    def slow(*args, **kwargs):
        wait_until(until)
        return transfer(*args, **kwargs)

    for module in (transfers, index_fetch, hashfile_transfer):
        monkeypatch.setattr(module, "transfer", slow)


@fetches_beside
def test_others_run_while_a_stage_fetches(pushed, monkeypatch):
    project = pushed("""
        stages:
          count: {cmd: "wc -l < data > count", deps: [data], outs: [count]}
          other: {cmd: touch other, deps: [code], outs: [other: {cache: false}]}
    """)
    (project.path / "other").unlink()
    project.write({"code": "2"})
    blocked(monkeypatch, lambda: project.exists("other"))
    assert project.reproduce(jobs=2, pull=True) == ["other"]
    assert project.read("count").strip() == "3"


# Ends when the cache has an object, or after some time.
WAIT = """\
n=0; while [ $n -lt 2000 ]; do
ls .dvc/cache/{} | grep -q {} && exit; n=$((n+1)); sleep 0.01; done; exit 1
"""


@fetches_beside
def test_data_of_a_ready_stage_is_fetched_before_it_gets_a_slot(pushed):
    project = pushed()
    md5 = project.read("data.dvc").partition("md5: ")[2].split()[0]
    project.write({"wait.sh": WAIT.format(OBJECTS, md5[2:])})
    lines = [
        f"  {name}: {{cmd: sh wait.sh, meta: {{parallel: {{priority: 1}}}}}}\n"
        for name in ("one", "two")
    ]
    third = "  third: {cmd: cp data third, deps: [data], outs: [third]}\n"
    project.write({"dvc.yaml": "stages:\n" + "".join([*lines, third])})

    ran = project.reproduce(jobs=2, pull=True, run_cache=False)

    assert ran == ["one", "two", "third"]
    assert project.read("third") == "b\nc\na\n"


def test_what_no_stage_needs_is_not_fetched(pushed):
    project = pushed()
    project.write({"code": "2"})
    project.reproduce(jobs=2, pull=True, allow_missing=True)
    assert project.exists("parts")
    assert not project.exists("sorted")
    assert not project.exists("data")
    cached = (project.path / ".dvc/cache").glob(OBJECTS)
    contents = {path.read_text() for path in cached if path.suffix != ".dir"}
    assert "a\nb\nc\n" not in contents
    assert "b\nc\na\n" not in contents


def test_failed_fetch_is_that_of_its_stage(pushed):
    serial = pushed()
    for path in (serial.path.parent / "remote").glob(OBJECTS):
        path.unlink()
    parallel = twin_of(serial, "parallel")

    def end(project, *args):
        result = project.dvc("repro", "--pull", "--no-run-cache", *args, check=False)
        return result.returncode, result.stderr.splitlines()[-1:]

    assert end(parallel, "-j", 2) == end(serial)
    assert_same(serial, parallel)
