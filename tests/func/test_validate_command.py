"""``dvc-parallel validate``: whom it blames, and that it leaves no trace."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from dvc_parallel.commands.workspace_copy import FOLDER
from tests.support.project import finish

# `dice` makes another output each time; `three` passes on what it gets.
PROJECT = """
    stages:
      one:
        cmd: cat in.txt src/code.txt > one.txt
        deps: [in.txt, src]
        outs: [one.txt]
      dice: {cmd: date +%s%N > dice.txt, deps: [one.txt], outs: [dice.txt]}
      folder:
        cmd: mkdir made/d && cp dice.txt made/d/
        deps: [dice.txt]
        outs: [made/d]
      three:
        cmd: cat made/d/dice.txt > three.txt
        deps: [made/d]
        metrics: [three.txt: {cache: false}]
"""
FILES = {"in.txt": "1\n", "src/code.txt": "code\n", "made/keep": ""}


def validate(project, *args, cwd="."):
    return project.own("validate", *args, cwd=project.path / cwd, check=False)


def validate_json(project, *args, **kwargs):
    result = validate(project, "--json", *args, **kwargs)
    assert result.returncode in (0, 1), result.stderr
    report = json.loads(result.stdout)
    assert report["reproducible"] == (result.returncode == 0)
    return report


def states(report):
    return {stage["name"]: stage["state"] for stage in report["stages"]}


@pytest.fixture
def done(make_project):
    project = make_project(dvc_yaml=PROJECT, files=FILES)
    project.reproduce(jobs=2)
    return project


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_only_the_stage_that_differs_is_to_blame(done, jobs):
    before = done.everything()
    report = validate_json(done, "-j", jobs)
    assert states(report) == {
        "one": "reproducible",
        "dice": "different",
        "folder": "reproducible",
        "three": "reproducible",
    }
    (difference,) = report["stages"][1]["differences"]
    assert difference["path"] == "dice.txt"
    assert difference["recorded"] in done.read("dvc.lock")
    assert difference["found"] not in done.read("dvc.lock")
    assert done.everything() == before


def test_text(done):
    result = validate(done)
    assert result.returncode == 1
    differs = r"^dice: dice\.txt has hash [0-9a-f]{8}, dvc\.lock has [0-9a-f]{8}$"
    assert re.search(differs, result.stdout, re.MULTILINE)
    assert result.stdout.endswith("\n3 of 4 stages are reproducible.\n")
    assert "git add" not in result.stdout


def test_controls_are_seen_and_do_nothing(make_project):
    project = make_project(
        dvc_yaml=r"""
            stages:
              "dice\ec": {cmd: "date +%s%N > out\u009b2J", outs: ["out\u009b2J"]}
              "frozen\ec": {cmd: echo, frozen: true}
        """
    )
    project.reproduce(jobs=2)
    # NOTE: before, DVC says which stage it runs
    _, _, shown = validate(project).stdout.partition(" > out")
    assert re.search(r"^dice\\x1bc: out\\x9b2J has hash ", shown, re.MULTILINE)
    assert r"skipped frozen\x1bc: " in shown
    assert not re.search(r"[\x1b\x9b]", shown)


def test_targets_are_validated_alone(done):
    assert states(validate_json(done, "three", "one")) == {
        "one": "reproducible",
        "three": "reproducible",
    }
    assert validate(done, "three").returncode == 0
    assert states(validate_json(done, "--glob", "f*")) == {"folder": "reproducible"}


def test_git_need_not_have_anything(make_project):
    project = make_project(dvc_yaml=PROJECT, files=FILES, scm=False)
    project.reproduce(jobs=2)
    before = project.everything()
    assert states(validate_json(project))["dice"] == "different"
    assert project.everything() == before


def test_from_a_folder_of_the_repo(make_project):
    project = make_project(files={"sub/in.txt": "1\n"})
    project.write(
        {
            "sub/dvc.yaml": "stages: {a: {cmd: cp in.txt out.txt, deps: [in.txt], "
            "outs: [out.txt]}}"
        }
    )
    project.dvc("repro", "-R", ".")
    assert states(validate_json(project, cwd="sub")) == {"a": "reproducible"}
    assert states(validate_json(project, "-P")) == {"sub/dvc.yaml:a": "reproducible"}


def test_a_stage_that_fails_does_not_stop_the_others(make_project):
    project = make_project(
        dvc_yaml="""
            stages:
              a: {cmd: test -f secret && echo a > a.txt, outs: [a.txt]}
              b: {cmd: cp a.txt b.txt, deps: [a.txt], outs: [b.txt]}
              c: {cmd: test -f b.txt && test ! -f c.txt && echo > d.txt, outs: [c.txt],
                  deps: [b.txt]}
        """,
        files={".gitignore": "secret\n", "secret": "\n"},
    )
    dvc_yaml = project.read("dvc.yaml")
    project.write({"dvc.yaml": dvc_yaml.replace("echo > d.txt", "echo > c.txt")})
    project.reproduce(jobs=2)
    text = project.read("dvc.lock").replace("echo > c.txt", "echo > d.txt")
    project.write({"dvc.yaml": dvc_yaml, "dvc.lock": text})

    result = validate(project, "--json")
    report = json.loads(result.stdout)
    assert not re.search(r"\d ran\b", result.stderr)
    assert "WARNING: a | failed to run: test -f secret" in result.stderr
    assert states(report) == {"a": "failed", "b": "reproducible", "c": "failed"}
    errors = [stage["error"] for stage in report["stages"]]
    assert "failed to run: test -f secret" in errors[0]
    assert "'c.txt' does not exist" in errors[2]

    shown = validate(project).stdout
    assert re.findall(r"^(\w) \| ran in ", shown, re.MULTILINE) == ["b"]


def test_files_that_git_ignores_are_there_if_a_stage_depends_on_them(make_project):
    project = make_project(
        dvc_yaml="""
            stages:
              a: {cmd: cat secret folder/x > a.txt, deps: [secret, folder],
                  outs: [a.txt]}
        """,
        files={
            ".gitignore": "/secret\n/folder\n",
            "secret": "s\n",
            "folder/x": "x\n",
        },
    )
    project.reproduce(jobs=2)
    assert states(validate_json(project)) == {"a": "reproducible"}


def test_stages_that_git_ignores_are_none_of_the_copy(make_project):
    other = "stages: {other: {cmd: date > a.txt, wdir: .., outs: [a.txt]}}\n"
    project = make_project(
        dvc_yaml="""
            stages:
              a: {cmd: cat lib/x lib/y > a.txt, deps: [lib, lib/y], outs: [a.txt]}
        """,
        files={
            ".gitignore": "/lib\n",
            "lib/x": "x\n",
            "lib/y": "y\n",
            "lib/y.dvc": f"outs: [{{md5: {'0' * 32}, hash: md5, path: y}}]\n",
            "lib/dvc.yaml": other,
        },
    )
    project.reproduce(jobs=2)
    assert states(validate_json(project)) == {"a": "reproducible"}


def test_commands_find_the_copy(make_project):
    project = make_project(
        dvc_yaml="""
            stages:
              a:
                cmd: >-
                  git rev-parse HEAD > head.txt && git ls-files | sort > files.txt &&
                  (git rev-parse --show-toplevel; pwd; dvc root; dvc cache dir) > "$LOG"
                deps: [in.txt]
                outs: [head.txt, files.txt]
        """,
        files={"in.txt": "1\n"},
    )
    for args in (["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", *args], cwd=project.path, check=True)
    log = project.path.parent / "log.txt"
    os.environ["LOG"] = str(log)
    try:
        project.reproduce(jobs=2)
        log.unlink()
        assert states(validate_json(project)) == {"a": "reproducible"}
    finally:
        del os.environ["LOG"]
    toplevel, cwd, root, cache = log.read_text().splitlines()
    assert toplevel == cwd
    assert f"{project.path}/.dvc/tmp/{FOLDER}/" in cwd
    assert root == "."
    assert cache == f"{cwd}/.dvc/cache"


def test_what_cannot_be_validated_is_skipped(make_project):
    project = make_project(
        dvc_yaml="""
            stages:
              frozen: {cmd: date > f.txt, outs: [f.txt]}
              always: {cmd: date > a.txt, outs: [a.txt], always_changed: true}
              log: {cmd: date >> log.txt, outs: [log.txt: {persist: true}]}
              print: {cmd: cat data, deps: [data]}
              use: {cmd: cat data a.txt >/dev/null; echo > use, deps: [data, a.txt],
                    outs: [use]}
        """,
        files={"data": "1\n"},
    )
    project.dvc("add", "data")
    project.reproduce(jobs=2)
    project.dvc("freeze", "frozen")
    report = validate_json(project, "-P")
    assert states(report) == {"use": "reproducible"}
    assert {one["name"]: one["reason"] for one in report["skipped"]} == {
        "frozen": "is frozen",
        "always": "always runs",
        "log": "'log.txt' builds on its previous content",
        "print": "has no outputs",
        "data.dvc": "has no command",
    }
    result = validate(project, "always")
    assert (result.returncode, result.stdout) == (
        0,
        "skipped always: always runs\n0 of 0 stages are reproducible.\n",
    )


@pytest.mark.parametrize(
    "change, reason",
    [
        ("never", "one: not in dvc.lock"),
        ("source", "one: changed dependency src"),
        ("output", "folder: missing output made/d"),
        ("cache", "folder: uncached output made/d"),
    ],
)
def test_what_is_not_up_to_date_is_an_error(make_project, change, reason):
    project = make_project(dvc_yaml=PROJECT, files=FILES)
    if change != "never":
        project.reproduce(jobs=2)
    if change == "source":
        project.write({"src/code.txt": "other\n"})
    elif change == "output":
        shutil.rmtree(project.path / "made" / "d")
    elif change == "cache":
        shutil.rmtree(project.path / ".dvc" / "cache")
    result = validate(project)
    assert result.returncode == 255
    assert "run `dvc repro` (or `dvc checkout`) first" in result.stderr
    assert reason in result.stderr
    assert not (project.path / ".dvc" / "tmp" / FOLDER).exists()


def test_outputs_in_place_do_not_reach_the_cache(make_project):
    project = make_project(
        dvc_yaml="""
            stages:
              a: {cmd: echo 1 > a.txt, deps: [in], outs: [a.txt]}
              b: {cmd: date +%N > b.txt; rm -f a.txt; echo 2 > a.txt, deps: [a.txt],
                  outs: [b.txt]}
              c: {cmd: cp a.txt c.txt, deps: [a.txt, b.txt], outs: [c.txt]}
        """,
        files={"in": "\n"},
    )
    harmless = project.read("dvc.yaml")
    project.write({"dvc.yaml": harmless.replace("; rm -f a.txt; echo 2 > a.txt", "")})
    project.reproduce(jobs=2)
    lock = project.read("dvc.lock")
    lock = lock.replace("> b.txt", "> b.txt; rm -f a.txt; echo 2 > a.txt")
    project.write({"dvc.yaml": harmless, "dvc.lock": lock})
    before = project.everything()
    report = validate_json(project)
    assert states(report) == {"a": "reproducible", "b": "different", "c": "failed"}
    assert "'a.txt' of 'c' is not as recorded" in report["stages"][2]["error"]
    assert project.everything() == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_copy(make_project, signum):
    project = make_project(
        dvc_yaml="""
            stages:
              a:
                cmd: test ! -e "$FIFO" || (echo > "$FIFO"; sleep 100); echo > a.txt
                outs: [a.txt]
        """
    )
    fifo = project.path.parent / "fifo"
    env = {**os.environ, "FIFO": str(fifo)}
    project.dvc("repro", env=env)
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc_parallel", "validate", "-j", "2"],
        cwd=project.path,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    fifo.read_text()  # until it runs
    copies = project.path / ".dvc" / "tmp" / FOLDER
    assert copies.exists()
    process.send_signal(signum)
    output = finish(process)
    assert process.returncode == (252 if signum == signal.SIGINT else -signum)
    assert "reproducible" not in output
    assert not copies.exists()


def test_what_a_killed_one_has_left_is_removed(done):
    left = done.path / ".dvc" / "tmp" / FOLDER / "2147483646"
    (left / "workspace").mkdir(parents=True)
    validate_json(done, "one")
    assert not left.parent.exists()
