"""The power goes at a random moment: what was announced is there, and is not damaged.

The repo is on a file system in a file. That is shut down at once, so that what it has
in memory is lost, and mounted again.

``DVC_PARALLEL_CUTS`` is how many times on each, ``DVC_PARALLEL_SEED`` where to start.
"""

import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
from collections import Counter

import psutil
import pytest

from tests import HANGS
from tests.support import rounds
from tests.support.processes import DvcProcess, commands_in

if sys.platform != "linux":
    pytest.skip("needs loop devices", allow_module_level=True)

# EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN, without flushing the log.
SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("I", 2)
SIZE = 320 * 2**20


class Disk:
    """A file system in a file, without those that have been made on it before.

    Args:
        image: path of the file.
        kind: of file system.
        mount_point: where to mount it.
    """

    def __init__(self, image, kind, mount_point):
        self._image, self._kind = image, kind
        self.path = mount_point
        self._device = None  # while it is mounted

    def make(self):
        with open(self._image, "wb") as fobj:
            fobj.truncate(SIZE)
        self._run(f"mkfs.{self._kind}", "-q", self._image)
        self.path.mkdir(exist_ok=True)
        self.mount()

    def mount(self):
        # NOTE: a new device, as whoever has copied the mounts in between keeps the old
        # one with what is shut down on it
        device = self._run("losetup", "-f", "--show", self._image).strip()
        self._run("mount", "-t", self._kind, device, self.path)
        self._device = device

    def cut(self):
        """Lose what is not on the disk; nothing gets there any more."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(fd)

    def unmount(self):
        """End what uses it."""
        processes = commands_in(self.path)
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=HANGS)
        self._run("umount", self.path)
        self._run("losetup", "-d", self._device)
        self._device = None

    def remove(self):
        if self._device is not None:
            self.unmount()

    def _run(self, *command):
        try:
            result = subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip(f"there is no {command[0]}")
        except subprocess.CalledProcessError as exc:
            if command[0] == "umount":
                raise
            pytest.skip(f"no {self._kind} in a file: {exc.stderr}")
        return result.stdout


@pytest.fixture(params=["ext4", "xfs"])
def disk(tmp_path, request, monkeypatch):
    if os.getuid() != 0:
        pytest.skip("only root can mount a file system")
    disk = Disk(tmp_path / "image", request.param, tmp_path / "disk")
    try:
        disk.make()
        # NOTE: so that what DVC knows of files is lost or kept as they are
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(disk.path / "site_cache"))
        yield disk
    finally:
        disk.remove()


def cut(disk, process, project):
    """Cut the power during a run or after it; return what was announced until then."""
    announced = rounds.announced(project)
    disk.cut()
    process.send_signal(signal.SIGKILL)
    process.wait(HANGS)
    disk.unmount()
    disk.mount()
    return announced


@pytest.mark.parametrize("seed, cuts", rounds.rounds("DVC_PARALLEL_CUTS", 1))
@pytest.mark.timeout(7200)
def test_power_cuts(tmp_path, disk, seed, cuts, record_property):
    pipeline = rounds.Pipeline(tmp_path, random.Random(seed), (10, 20))
    hit = Counter()
    for number in range(cuts):
        rng = random.Random(f"{seed} {number}")
        project = pipeline.project(f"round{number}", disk.path)
        # NOTE: what had been there before the run
        os.sync()
        process = DvcProcess(project, "repro", "-j", rng.randint(1, 6))
        if rng.random() < 0.7:
            pipeline.wait(process, project, rng)
        else:
            process.wait(300)
        over = process.returncode is not None
        announced = cut(disk, process, project)
        hit["after the run" if over else "during the run"] += 1
        hit.update(stages=len(announced))

        entries = rounds.recorded(project)
        assert announced <= set(entries)
        pipeline.assert_has_data(project)
        by = rng.choice([("repro",), ("repro", "-j", "3")])
        if "-j" in by:
            # NOTE: as DVC alone may leave it; see `DAMAGED` of the path locks
            project.write({".dvc/tmp/rwlock": ""})
        process = DvcProcess(project, *by)
        output = process.finish()
        assert process.returncode == 0, output
        pipeline.assert_as_serial(project)
        shutil.rmtree(project.path.parent)
    record_property("hit", json.dumps(hit))
