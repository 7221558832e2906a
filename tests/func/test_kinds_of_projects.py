"""Projects of each kind: a parallel run leaves what serial DVC leaves."""

import subprocess
import textwrap

from tests.support.project import assert_same


def test_a_frozen_stage_is_ordered_with_what_it_has_been_cut_from(twins):
    dvc_yaml = """
        stages:
          make: {cmd: "sleep 0.3; cat in.txt > made/x.txt", deps: [in.txt],
              outs: [made/x.txt]}
          frozen: {cmd: "cat made/x.txt > f.txt", deps: [made],
              outs: [f.txt], frozen: true}
    """
    serial, parallel = twins(
        dvc_yaml.replace(", frozen: true", ""), {"in.txt": "1", "made/readme": ""}
    )
    for project in (serial, parallel):
        project.reproduce()
        project.write({"dvc.yaml": dvc_yaml, "in.txt": "2"})
        project.write({"f.txt": "changed"})
    kwargs = {"targets": ["frozen", "make"]}
    assert serial.reproduce(**kwargs) == parallel.reproduce(jobs=2, **kwargs)
    assert_same(serial, parallel)


def test_a_folder_is_hashed_with_its_gitignore_in_serial_order(twins):
    dvc_yaml = """
        stages:
          part:
            foreach: [3, 2, 1, 0]
            do:
              cmd: sleep 0.${item}; echo ${item} > parts/${item}.txt
              outs: ["parts/${item}.txt"]
          all: {cmd: "cat parts/*.txt > all.txt", deps: [parts], outs: [all.txt]}
    """
    serial, parallel = twins(dvc_yaml, {"parts/readme": "parts"})
    assert serial.reproduce() == parallel.reproduce(jobs=4)
    assert_same(serial, parallel)
    assert parallel.reproduce(jobs=4) == []


def test_executables(twins):
    dvc_yaml = """
        stages:
          a: {cmd: ./tool a, deps: [tool], outs: [a]}
          b: {cmd: ./a b, deps: [a, tool], outs: [b]}
          c: {cmd: ./a c, deps: [a], outs: [{c: {cache: false}}]}
          d: {cmd: ./c d, deps: [c, b], outs: [d]}
    """
    script = '#!/bin/sh\ncp "$0" $1; chmod +x $1; echo "# $1" >> $1\n'
    projects = twins(dvc_yaml, {"tool": script})
    for text in ("", "# more\n"):
        for project, jobs in zip(projects, (None, 2)):
            project.write({"tool": script + text})
            (project.path / "tool").chmod(0o755)
            assert project.reproduce(jobs=jobs) == ["a", "b", "c", "d"]
        assert_same(*projects)


def test_no_scm(twins):
    dvc_yaml = (
        "stages: {a: {cmd: echo a > a, outs: [a]}, b: {cmd: echo b > b, outs: [b]}}"
    )
    serial, parallel = twins(dvc_yaml, scm=False)
    assert serial.reproduce() == parallel.reproduce(jobs=2)
    assert_same(serial, parallel)
    assert not parallel.exists(".gitignore")


def test_autostage(twins):
    dvc_yaml = (
        "stages: {a: {cmd: echo a > a, outs: [a]}, b: {cmd: echo b > b, outs: [b]}}"
    )
    config = {".dvc/config": "[core]\n    autostage = true\n"}
    staged = []
    for project, jobs in zip(twins(dvc_yaml, config), (1, 2)):
        project.reproduce(jobs=jobs)
        command = ["git", "-C", project.path, "diff", "--cached", "--stat"]
        staged.append(subprocess.run(command, capture_output=True, check=True).stdout)
    assert staged[0] == staged[1]
    assert b"dvc.lock" in staged[0]


def test_subprojects_with_wdir(twins):
    files = {
        "one/dvc.yaml": "stages: {a: {cmd: cat ../in > a, deps: [../in], outs: [a]}}",
        "two/dvc.yaml": (
            "stages: {b: {wdir: data, cmd: cat ../../one/a > b,"
            " deps: [../../one/a], outs: [b]}}"
        ),
        "two/data/readme": "",
        "in": "in",
    }
    dvc_yaml = """
        stages:
          c:
            cmd: cat one/a two/data/b > c
            deps: [one/a, two/data/b]
            outs: [c]
    """
    serial, parallel = twins(dvc_yaml, files)
    for kwargs in ({}, {"force": True}, {"all_pipelines": True, "force": True}):
        assert serial.reproduce(**kwargs) == parallel.reproduce(jobs=3, **kwargs)
        assert_same(serial, parallel)


def test_a_repo_in_a_folder_of_a_git_repo(make_project):
    dvc_yaml = """
        stages:
          a: {cmd: cat ../outside > a, deps: [../outside], outs: [a]}
          b: {cmd: cat ../outside > b, deps: [../outside], outs: [b]}
          c: {cmd: cat a b > c, deps: [a, b], outs: [c]}
    """
    left = []
    for jobs in (None, 3):
        outer = make_project(f"outer{jobs}", files={"outside": "x"})
        inner = outer.path / "inner"
        inner.mkdir()
        outer.dvc("init", "-q", "--subdir", cwd=inner)
        (inner / "dvc.yaml").write_text(textwrap.dedent(dvc_yaml))
        args = ["-j", str(jobs)] if jobs else []
        outer.dvc("repro", *args, cwd=inner)
        left.append(outer.left())
    assert left[0] == left[1]


def test_run_cache_hits(twins):
    dvc_yaml = """
        stages:
          a: {cmd: cat in > a, deps: [in], outs: [a]}
          b: {cmd: cat in > b, deps: [in],
              outs: [b], metrics: [{m.json: {cache: false}}]}
    """
    dvc_yaml = dvc_yaml.replace("cat in > b,", "cat in > b && echo 1 > m.json,")
    projects = twins(dvc_yaml, {"in": "1"})
    for text in ("1", "2", "1"):
        results = []
        for project, jobs in zip(projects, (1, 2)):
            project.write({"in": text})
            results.append(project.reproduce(jobs=jobs))
        assert results == [["a", "b"]] * 2
        assert_same(*projects)


def test_imports_and_added_data(twins):
    dvc_yaml = (
        "stages: {c: {cmd: cat added imported > c, deps: [added, imported], outs: [c]}}"
    )
    projects = twins(dvc_yaml, {"added": "1", "source": "2"})
    results = []
    for project, jobs in zip(projects, (1, 3)):
        with project.repo() as repo:
            repo.add("added")
            repo.imp_url("source", "imported")
        project.write({"source": "3"})
        with project.repo() as repo:
            repo.unfreeze("imported.dvc")
        results.append(project.reproduce(jobs=jobs))
    assert results[0] == results[1]
    assert_same(*projects)
    assert projects[1].read("c") == "13"
