"""Stages that use one file under several names run in the order of serial DVC."""

import os
import shlex
import subprocess
import textwrap

import pytest

from tests.support.capabilities import needs_order
from tests.support.project import assert_same

# Has others go first, if they can.
SLOW = "sleep 0.2;"


def same_as_serial(twins, dvc_yaml, prepare=None, runs=1):
    """Run a pipeline serially and in parallel, some times in a row."""
    serial, parallel = twins(dvc_yaml)
    for project in (serial, parallel):
        if prepare:
            prepare(project)
    for _ in range(runs):
        assert serial.reproduce() == parallel.reproduce(jobs=4)
        assert_same(serial, parallel)


def linked(project):
    (project.path / "store").mkdir()
    (project.path / "data").symlink_to("store")


LINKED = f"""
    stages:
      c: {{cmd: "{SLOW} echo c > data/c.txt", outs: [data/c.txt]}}
      d: {{cmd: cp store/c.txt d.txt, deps: [store/c.txt], outs: [d.txt]}}
    """


def test_a_linked_folder(twins):
    same_as_serial(twins, LINKED, prepare=linked)


def test_a_linked_folder_that_is_not_there_yet(twins):
    dvc_yaml = f"""
        stages:
          c: {{cmd: "{SLOW} mkdir -p store; echo > store/c", outs: [store/c]}}
          d: {{cmd: cp data/c d.txt, deps: [data/c], outs: [d.txt]}}
        """
    same_as_serial(twins, dvc_yaml, lambda p: (p.path / "data").symlink_to("store"))


def test_two_writers_of_one_file(twins):
    dvc_yaml = f"""
        stages:
          c: {{cmd: "{SLOW} echo c > data/x", outs: [data/x]}}
          d: {{cmd: echo d > store/x, outs: [store/x]}}
        """
    same_as_serial(twins, dvc_yaml, linked, runs=2)


def test_an_absolute_path_through_a_linked_home(twins, tmp_path):
    (tmp_path / "home").symlink_to(tmp_path)
    serial, parallel = twins("")
    for project in (serial, parallel):
        path = tmp_path / "home" / project.path.name / "c.txt"
        dvc_yaml = f"""
            stages:
              c: {{cmd: "{SLOW} echo c > c.txt", outs: [c.txt]}}
              d: {{cmd: "cp {path} d.txt", deps: ["{path}"], outs: [d.txt]}}
            """
        project.write({"dvc.yaml": textwrap.dedent(dvc_yaml)})
        project.path = tmp_path / "home" / project.path.name
    assert serial.reproduce() == parallel.reproduce(jobs=4)
    assert parallel.read("d.txt") == "c\n"


def test_a_working_folder_through_a_link(twins):
    dvc_yaml = f"""
        stages:
          c: {{cmd: "{SLOW} echo c > c.txt", wdir: data, outs: [c.txt]}}
          d: {{cmd: "cat store/c.txt > d.txt", deps: [store/c.txt], outs: [d.txt]}}
        """
    same_as_serial(twins, dvc_yaml, linked)


def test_dots_behind_a_link(twins):
    """What a command takes for the folder above is not what DVC takes for it."""
    dvc_yaml = f"""
        stages:
          c: {{cmd: "{SLOW} echo c > deep/x", outs: [deep/x]}}
          d: {{cmd: cp ../x x.txt, wdir: data, deps: [../x], outs: [x.txt]}}
        """

    def prepare(project):
        (project.path / "deep" / "store").mkdir(parents=True)
        (project.path / "data").symlink_to("deep/store")
        project.write({"x": "of DVC"})

    same_as_serial(twins, dvc_yaml, prepare)


def test_a_dependency_that_is_a_link_to_an_output(twins):
    dvc_yaml = f"""
        stages:
          c: {{cmd: "{SLOW} echo c > c.txt", outs: [c.txt]}}
          d: {{cmd: cp link d.txt, deps: [link], outs: [d.txt]}}
          e: {{cmd: cat in/* > e.txt, deps: [in], outs: [e.txt]}}
        """

    def prepare(project):
        project.write({"in/here": "in\n"})
        (project.path / "link").symlink_to("c.txt")
        (project.path / "in" / "link").symlink_to("../c.txt")

    same_as_serial(twins, dvc_yaml, prepare)


def test_a_hard_link_to_an_output_that_persists(twins):
    dvc_yaml = f"""
        stages:
          c:
            cmd: "{SLOW} echo c >> c.txt"
            outs: [c.txt: {{persist: true, cache: false}}]
          d: {{cmd: cp link d.txt, deps: [link], outs: [d.txt]}}
        """

    def prepare(project):
        project.write({"c.txt": "old\n"})
        os.link(project.path / "c.txt", project.path / "link")

    same_as_serial(twins, dvc_yaml, prepare)


def test_what_an_earlier_stage_makes_and_does_not_say(twins):
    dvc_yaml = f"""
        stages:
          a: {{cmd: "{SLOW} echo a > hidden; echo > a.txt", outs: [a.txt]}}
          b: {{cmd: cp hidden b.txt, deps: [hidden], outs: [b.txt]}}
          c: {{cmd: cp hidden c.txt, deps: [hidden], outs: [c.txt]}}
        """
    same_as_serial(twins, dvc_yaml)


def test_links_that_a_stage_makes(twins):
    dvc_yaml = f"""
        stages:
          mk: {{cmd: "mkdir store; ln -s store data; echo > made", outs: [made]}}
          c: {{cmd: "{SLOW} echo c > data/x", deps: [made], outs: [data/x]}}
          d: {{cmd: "echo d > store/x", deps: [made], outs: [store/x]}}
        """
    same_as_serial(twins, dvc_yaml)


def can_mount():
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@needs_order
@pytest.mark.skipif(not can_mount(), reason="cannot mount, needs root on Linux")
def test_bind_mounts(twins):
    dvc_yaml = f"""
        stages:
          c: {{cmd: "{SLOW} echo c > data/c.txt", outs: [data/c.txt]}}
          d: {{cmd: cp store/c.txt d.txt, deps: [store/c.txt], outs: [d.txt]}}
          e: {{cmd: "{SLOW} echo e > other/e.txt", outs: [other/e.txt]}}
          f: {{cmd: cat above/in/e.txt > f.txt, deps: [above], outs: [f.txt]}}
        """
    serial, parallel = twins(dvc_yaml)
    for project, jobs in ((serial, ()), (parallel, ("-j", 4))):
        for folder in ("data", "store", "other", "above/in"):
            (project.path / folder).mkdir(parents=True)
        mounts = "mount --bind store data && mount --bind other above/in"
        dvc = shlex.join(project.command("repro", *jobs))
        project.run(["unshare", "-m", "sh", "-c", f"{mounts} && {dvc}"])
    assert_same(serial, parallel)
    assert parallel.read("d.txt") + parallel.read("f.txt") == "c\ne\n"
