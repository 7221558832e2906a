"""What is recorded in dvc.lock, and where."""

import subprocess

import pytest

from tests.project import assert_same

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
