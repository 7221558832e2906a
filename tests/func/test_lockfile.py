"""What is recorded in dvc.lock, and where."""

import json
import os
import subprocess

import pytest
from dvc.exceptions import ReproductionError
from ruamel.yaml import YAML

from tests.support.project import assert_same, finish

FAN = """
    stages:
      one:
        cmd: echo 1 > one.txt
        outs: [one.txt]
      two:
        cmd: echo 2 > two.txt
        outs: [two.txt]
"""


@pytest.fixture
def mount():
    """Mount a file system of its own at a folder."""
    mounted = []

    def mount(folder):
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"nothing can be mounted here: {result.stderr.strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_dvc_yaml_in_a_folder_that_is_a_mount_point(twins, mount, jobs):
    serial, parallel = twins("", {".gitignore": ""})
    for project in (serial, parallel):
        mount(project.path / "volume")
        project.write({"volume/dvc.yaml": FAN})

    expected = serial.reproduce(targets=["volume/dvc.yaml"])
    assert parallel.reproduce(jobs=jobs, targets=["volume/dvc.yaml"]) == expected
    assert_same(serial, parallel)


# The first of the stages is the last to end; it can only once there is `go`.
LATE = """
    stages:
      late:
        cmd: {late}; echo 1 > late.txt
        deps: [in.txt]
        outs: [late.txt]
      early2:
        cmd: echo 2 > early2.txt
        deps: [in.txt]
        outs: [early2.txt]
      early1:
        cmd: echo 1 > early1.txt
        deps: [in.txt]
        outs: [early1.txt]
      last:
        cmd: cat late.txt early1.txt > last.txt
        deps: [late.txt, early1.txt]
        outs: [last.txt]
"""
WAIT = "until grep -qs early1 dvc.lock && grep -q early2 dvc.lock; do sleep 0.02; done"
FILES = {"in.txt": "in\n", ".gitignore": "/mine\n", "add.txt": "added\n"}


def texts(project):
    return project.read("dvc.lock"), project.read(".gitignore")


@pytest.mark.parametrize("jobs", [1, 3])
def test_order_after_a_kill(twins, jobs):
    late = "test -e go || { touch waits; cat fifo; }"
    serial, parallel = twins(LATE.format(late=late), FILES)
    serial.write({"go": ""})
    serial.reproduce()

    os.mkfifo(parallel.path / "fifo")
    process = parallel.start("repro", "-j", 3)
    parallel.wait_for("waits")
    parallel.run(["sh", "-c", WAIT])
    process.kill()
    process.communicate()
    os.unlink(parallel.path / "fifo")
    parallel.write({"go": ""})
    parallel.reproduce(jobs=jobs)
    lock, gitignore = texts(parallel)
    assert lock == serial.read("dvc.lock")
    if jobs > 1:
        assert gitignore == serial.read(".gitignore")
    assert not parallel.exists(".dvc/tmp/parallel/order.jsonl")


def test_order_after_a_failure(twins):
    late = f"test -e go || {{ {WAIT}; exit 1; }}"
    serial, parallel = twins(LATE.format(late=late), FILES)
    serial.write({"go": ""})
    serial.reproduce()

    with pytest.raises(ReproductionError):
        parallel.reproduce(jobs=3)
    parallel.write({"go": ""})
    parallel.reproduce(jobs=3)
    assert parallel.read("dvc.lock") == serial.read("dvc.lock")


def test_order_of_what_dvc_adds_in_a_command(twins):
    late = f"test -e go || {{ {WAIT}; }}; dvc add -q add.txt"
    serial, parallel = twins(LATE.format(late=late), FILES)
    serial.write({"go": ""})
    serial.reproduce()
    parallel.reproduce(jobs=3)
    assert texts(parallel) == texts(serial)
    assert "/mine\n/add.txt\n/late.txt\n/early" in parallel.read(".gitignore")


VALUES = """
    stages:
      first:
        cmd: >-
          echo one                                 two                          three  4
        params: [lr, options]
        deps: [in.txt]
      second:
        cmd: echo 2
        deps: [in.txt]
      third:
        cmd: echo 3
        params: [small.txt]
        deps: [in.txt]
"""
PARAMS = {
    "lr": 2.448519270213934e-07,
    "options": {"text": 12 * "two  spaces ", "small": [5.800000000000001e-13, 5e-324]},
}


def test_values_are_recorded_as_they_are(make_project):
    texts = []
    for jobs in (1, 3):
        project = make_project(
            f"jobs{jobs}", VALUES.replace("small.txt", "options.small")
        )
        project.write({"params.yaml": json.dumps(PARAMS), "in.txt": ""})
        project.reproduce(jobs=jobs)
        texts.append(project.read("dvc.lock"))
        first = YAML(typ="safe").load(texts[-1])["stages"]["first"]
        assert first["params"] == {"params.yaml": PARAMS}
        assert first["cmd"].count("  ") > 2

        assert project.reproduce() == project.reproduce(jobs=jobs) == []
        project.write({"in.txt": "changed"})
        for target in ("third", "second"):
            assert project.reproduce(jobs=jobs, targets=[target]) == [target]
        first = YAML(typ="safe").load(project.read("dvc.lock"))["stages"]["first"]
        assert first["params"] == {"params.yaml": PARAMS}
    assert texts[0] == texts[1]


def test_dvc_lock_is_whole_at_every_instant(make_project):
    project = make_project(
        "whole",
        f"""
        stages:
          leaf:
            foreach: {list(range(15))}
            do: {{cmd: echo ${{item}} > ${{item}}.txt, outs: ["${{item}}.txt"]}}
        """,
    )
    process = project.start("repro", "-j", 4)
    path = project.path / "dvc.lock"
    seen = set()
    while process.poll() is None:
        if path.exists():
            seen.add(path.read_text())
    finish(process)
    for text in seen:
        assert text.startswith("schema: '2.0'\nstages:\n")
        assert text.endswith("\n")
        blocks = text.split("\n  leaf@")[1:]
        assert all("      size: " in block.splitlines()[-1] for block in blocks)
