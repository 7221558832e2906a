"""Stages on workers with clones leave what serial DVC leaves."""

import json
import os
import shutil
from textwrap import dedent

import pytest
from dvc.exceptions import DvcException, ReproductionError
from dvc.repo import Repo

from tests.support.clone_workers import Carrier, reproduce
from tests.support.project import Project, assert_same

DAG = """\
    stages:
      a:
        cmd: cat in.txt > a.txt && echo a >> a.txt
        deps: [in.txt]
        outs: [a.txt]
      b:
        cmd: [mkdir -p b, cat in.txt > b/one, echo two > b/two]
        deps: [in.txt]
        outs: [b]
      c:
        cmd: cat a.txt b/* > c.txt && echo '{"n":' $(cat c.txt | wc -l) '}' > m.json
        deps: [a.txt, b]
        params: [p]
        outs: [c.txt]
        metrics: [{m.json: {cache: false}}]
      d:
        cmd: cat c.txt m.json b/one > d.txt
        deps: [c.txt, m.json, b/one]
        outs: [d.txt]
    """


def same_as_serial(serial, parallel, workers, **kwargs):
    expected = serial.reproduce(**kwargs)
    assert reproduce(parallel, workers, **kwargs) == expected
    assert_same(serial, parallel)
    return expected


def test_a_pipeline_that_splits_and_merges(twins, workers, with_remote):
    serial, parallel = twins(DAG, {"in.txt": "in\n", "params.yaml": "p: 1\n"})
    with_remote(serial, parallel)
    for number in range(2):
        for project in (serial, parallel):
            project.write({"in.txt": f"in {number}\n"})
        assert len(same_as_serial(serial, parallel, workers)) == 4
    assert reproduce(parallel, workers) == []


def test_a_worker_with_threads(twins, here, with_remote):
    serial, parallel = twins(
        """\
        stages:
          each:
            foreach: [1, 2, 3, 4, 5, 6]
            do:
              cmd: mkdir -p out && cat in in > out/${item}
              deps: [in]
              outs: ['out/${item}']
          all:
            cmd: cat out/* > all
            deps: [out]
            outs: [all]
        """,
        {"in": "1\n"},
    )
    with_remote(serial, parallel)
    serial.reproduce()
    reproduce(parallel, Carrier(here), jobs=4)
    assert_same(serial, parallel)


def test_a_history_that_is_cut_off(make_project, tmp_path, here, with_remote, commit):
    project = make_project(
        "p",
        "stages: {a: {cmd: git log --format=%s > a, deps: [in], outs: [a]}}",
        {"in": "1\n", "lib/x": "x\n"},
    )
    with_remote(project)
    commit(project)
    project.write({"in": "2\n"})
    commit(project)
    clone = Project.__new__(Project)
    clone.path = tmp_path / "shallow"
    url = f"file://{project.path}"
    project.run(["git", "clone", "-q", "--depth", "1", url, clone.path])
    assert reproduce(clone, Carrier(here)) == ["a"]
    assert clone.read("a") == "all\n"


def test_files_of_a_submodule(twins, here, with_remote, make_project, commit):
    serial, parallel = twins("stages: {a: {cmd: ls lib > a, deps: [lib/x], outs: [a]}}")
    with_remote(serial, parallel)
    library = make_project("library", files={"x": "x\n", "y": "y\n"})
    commit(library)
    for project in (serial, parallel):
        allow = ["-c", "protocol.file.allow=always"]
        add = ["submodule", "-q", "add", str(library.path), "lib"]
        project.run(["git", *allow, *add])
    commit(serial, parallel)
    reproduce(parallel, Carrier(here))
    assert parallel.read("a") == "x\n"  # what is not declared is not there
    for project in (serial, parallel):
        project.write({"lib/x": "changed\n"})
    reproduce(parallel, Carrier(here))
    assert parallel.read("a") == "x\n"


def test_a_shared_cache_instead_of_a_remote(twins, workers, tmp_path):
    files = {"in.txt": "in\n", "params.yaml": "p: 1\n"}
    serial, parallel = twins(DAG, files)
    caches = [tmp_path / "serial cache", tmp_path / "parallel cache"]
    for project, cache in zip((serial, parallel), caches):
        project.write({".dvc/config.local": f"[cache]\n    dir = {cache}\n"})
    serial.reproduce()
    reproduce(parallel, workers)
    for project in (serial, parallel):
        (project.path / ".dvc" / "config.local").unlink()
    assert_same(serial, parallel)
    contents = [sorted(p.relative_to(c) for p in c.rglob("*")) for c in caches]
    assert contents[0] == contents[1]


def test_a_worker_that_does_not_see_the_shared_cache(
    make_project, workers, tmp_path, monkeypatch
):
    project = make_project("p", "stages: {a: {cmd: touch ran-a, outs: [ran-a]}}")
    project.write({".dvc/config.local": f"[cache]\n    dir = {tmp_path}/cache\n"})
    monkeypatch.setattr(
        "dvc_parallel.remote.clones.exchange.Exchange.make_token",
        lambda _: "/no/cache/t/1",
    )
    with pytest.raises(ReproductionError) as info:
        reproduce(project, workers)
    assert "does not see the shared cache '/no/cache'" in str(info.value.__cause__)


ODD = r"""
mkdir -p odd/empty odd/deep/er &&
echo x > 'odd/ü n*[i]code' && echo s > odd/script && chmod +x odd/script &&
ln -s script odd/link && echo y > odd/deep/er/y && echo z > odd/seen.tmp &&
mkdir -p plain/empty && ln -s one plain/link && echo 1 > plain/one &&
echo '#!/bin/sh' > tool && echo 'cat "$@"' >> tool && chmod 755 tool
"""


@pytest.mark.parametrize("no_commit", [False, True])
def test_odd_content(twins, workers, with_remote, no_commit):
    dvc_yaml = {
        "stages": {
            "make": {
                "cmd": ODD.replace("\n", " ").strip(),
                "outs": ["odd", "tool", {"plain": {"cache": False}}],
            },
            "use": {
                "cmd": "./tool odd/link odd/ü* odd/deep/er/y plain/link > all",
                "deps": ["odd", "tool", "plain"],
                "outs": ["all"],
            },
        }
    }
    files = {"dvc.yaml": json.dumps(dvc_yaml), ".dvcignore": "*.tmp\n", "one": "1\n"}
    serial, parallel = twins("", files)
    with_remote(serial, parallel)
    serial.reproduce(no_commit=no_commit)
    reproduce(parallel, workers, no_commit=no_commit)
    if no_commit:  # what has been fetched is in the cache nonetheless
        for project in (serial, parallel):
            shutil.rmtree(project.path / ".dvc" / "cache", ignore_errors=True)
    assert_same(serial, parallel)
    for path in ("odd/script", "odd/link", "plain/link"):
        one, other = (p.path / path for p in (serial, parallel))
        assert one.is_symlink() == other.is_symlink()
        assert os.access(one, os.X_OK) == os.access(other, os.X_OK)


def test_git_says_the_same(twins, workers, with_remote, commit):
    serial, parallel = twins(
        """\
        stages:
          git:
            cmd: git rev-parse HEAD > head; git branch --show-current >> head;
              git status -s code.py new.py >> head; cat code.py new.py >> head
            deps: [code.py]
            outs: [head]
        """,
        {"code.py": "old\n", "in.txt": "", "gone.txt": ""},
    )
    with_remote(serial, parallel)
    commit(serial, parallel)
    for project in (serial, parallel):
        project.write({"code.py": "changed\n", "new.py": "new\n"})
        (project.path / "gone.txt").unlink()
    same_as_serial(serial, parallel, workers)
    assert " M code.py\n?? new.py\nchanged\nnew\n" in parallel.read("head")
    status = [p.run(["git", "status", "-s"]).stdout for p in (serial, parallel)]
    assert status[0] == status[1]


def test_projects_within_a_repo(tmp_path, make_project, workers, with_remote, commit):
    twins = []
    for name in ("s", "p"):
        outer = make_project(name, files={"lib/shared.txt": "shared\n"})
        with_remote(outer)
        inner = outer.path / "sub" / "project"
        inner.mkdir(parents=True)
        Repo.init(str(inner), subdir=True).close()
        (inner / ".dvc" / "config").write_bytes(
            (outer.path / ".dvc" / "config").read_bytes()
        )
        twins.append((outer, inner))
    for outer, inner in twins:
        (inner / "dvc.yaml").write_text(
            dedent("""\
            stages:
              each:
                foreach: [1, 2]
                do:
                  wdir: work
                  cmd: mkdir -p out; cat ../../../lib/shared.txt > out/${item}
                  deps: [../../../lib/shared.txt]
                  outs: ['out/${item}']
              log:
                cmd: cat work/out/* >> log
                always_changed: true
                deps: [work/out]
                outs: [{log: {persist: true}}]
            """)
        )
        (inner / "work").mkdir()
        (inner / "more").mkdir()
        (inner / "more" / "dvc.yaml").write_text(
            "stages: {end: {cmd: cp ../log end, deps: [../log], outs: [end]}}\n"
        )
        commit(outer)
    for _ in range(2):
        expected = run_in(twins[0][1], lambda repo: repo.reproduce(all_pipelines=True))
        assert len(expected) > 1
        result = run_in(
            twins[1][1],
            lambda repo: repo.reproduce(
                all_pipelines=True,
                jobs=2,
                instead=lambda r: r.perform(r.side_by_side(carry=workers.carry)),
            ),
        )
        assert result == []
        assert_same(twins[0][0], twins[1][0])
    assert (twins[1][1] / "more" / "end").read_text() == 4 * "shared\n"


def run_in(folder, func):
    cwd = os.getcwd()
    os.chdir(folder)
    try:
        with Repo() as repo:
            return [stage.addressing for stage in func(repo)]
    finally:
        os.chdir(cwd)


HIDDEN = """\
    stages:
      a:
        cmd: python3 ignored.py && cat raw/* > same && cp raw/big big
        deps: [ignored.py, raw]
        outs: [same]
        metrics: [{m.json: {cache: false}}]
        plots: [{big: {cache: false}}]
    """


def test_what_git_does_not_track(twins, workers, with_remote, monkeypatch):
    # NOTE: what a command writes besides its outputs stays where it runs
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    big = os.urandom(2**20 + 1)
    serial, parallel = twins(
        HIDDEN,
        {
            "ignored.py": "import helper\n",
            "helper.py": "open('m.json', 'w').write('{}')\n",
            "raw/big": big,
            "raw/small": "small",
            ".gitignore": "/raw\n/ignored.py\n",
        },
    )
    with_remote(serial, parallel)
    same_as_serial(serial, parallel, workers)
    assert (parallel.path / "big").read_bytes() == big


def test_data_that_is_imported(twins, workers, with_remote, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "1").write_text("1\n")
    serial, parallel = twins(
        "stages: {a: {cmd: cat data/1 > a, deps: [data], outs: [a]}}"
    )
    with_remote(serial, parallel)
    for project in (serial, parallel):
        with project.repo() as repo:
            repo.imp_url(str(tmp_path / "source"), "data")
    assert same_as_serial(serial, parallel, workers) == ["a"]
    (tmp_path / "source" / "1").write_text("changed\n")
    for project in (serial, parallel):
        with project.repo() as repo:
            repo.update(["data.dvc"])
    assert same_as_serial(serial, parallel, workers) == ["a"]


def test_a_stage_that_calls_dvc(twins, workers, with_remote):
    serial, parallel = twins(
        """\
        stages:
          a: {cmd: cp in a, deps: [in], outs: [a]}
          b:
            cmd: dvc status a > b
            deps: [a]
            outs: [b]
        """,
        {"in": "1\n"},
    )
    with_remote(serial, parallel)
    same_as_serial(serial, parallel, workers)


@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
def test_caches_that_link(twins, workers, with_remote, kind):
    serial, parallel = twins(DAG, {"in.txt": "in\n", "params.yaml": "p: 1\n"})
    with_remote(serial, parallel, more=f"[cache]\n    type = {kind}\n")
    serial.reproduce()
    reproduce(parallel, workers)
    for name in ("dvc.lock", ".gitignore", "a.txt", "b/two", "d.txt"):
        assert parallel.read(name) == serial.read(name)
        one, other = (p.path / name for p in (serial, parallel))
        assert one.is_symlink() == other.is_symlink()
        assert one.stat().st_nlink == other.stat().st_nlink


def test_a_repo_without_a_place_for_data(make_project, workers):
    project = make_project("p", "stages: {a: {cmd: touch a, outs: [a]}}")
    with pytest.raises(DvcException, match=r"dvc remote add -d .* or `dvc cache dir"):
        reproduce(project, workers)
    assert not project.exists(".dvc/tmp/parallel/runs")


def test_a_dependency_outside_the_repo(make_project, workers, with_remote, tmp_path):
    (tmp_path / "far").write_text("")
    project = make_project(
        "p",
        f"""\
        stages:
          a: {{cmd: touch a, outs: [a]}}
          b: {{cmd: touch b, deps: [{tmp_path}/far], outs: [b]}}
        """,
    )
    with_remote(project)
    with pytest.raises(DvcException, match=r"'b' cannot run .*/far' is not in the git"):
        reproduce(project, workers)
    assert not project.exists("a")


def test_commands_that_fail_as_in_serial_dvc(twins, workers, with_remote):
    serial, parallel = twins(
        """\
        stages:
          fails: {cmd: ['true', exit 3], outs: [x]}
          misses: {cmd: 'true', outs: [y]}
        """
    )
    with_remote(serial, parallel)
    for target in ("fails", "misses"):
        with pytest.raises(ReproductionError) as expected:
            serial.reproduce(targets=target)
        with pytest.raises(ReproductionError) as info:
            reproduce(parallel, workers, targets=target)
        one, other = expected.value.__cause__, info.value.__cause__
        assert (type(other), str(other)) == (type(one), str(one))


def test_outputs_that_git_does_not_ignore_stay_here(make_project, here, with_remote):
    """They may be large, and are not what the stage depends on."""
    project = make_project(
        "p",
        """\
        stages:
          a: {cmd: exit 1, outs: [a, data/raw]}
          b: {cmd: ls . data > b, outs: [b]}
        """,
        {"a": "large", "data/raw/1": "large", "data/code.py": "", "new.py": ""},
    )
    with_remote(project)
    reproduce(project, Carrier(here), targets=["b"])
    found = project.read("b").split()
    assert {"code.py", "new.py"} <= {*found}
    assert {"a", "raw"}.isdisjoint(found)
