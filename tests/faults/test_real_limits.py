"""Limits that the system itself enforces: full and read-only disks, few descriptors.

Only some of them, if ``DVC_PARALLEL_FAULTS`` is not set.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
from pwd import getpwall

import pytest

from tests.dvc_suite.__main__ import as_ordinary_user
from tests.support.fault_runs import FAULTS, in_any_order, processes_in, recorded
from tests.support.project import Project, assert_same

if sys.platform != "linux":
    pytest.skip("needs mount(8) of Linux", allow_module_level=True)

PIPELINE = """\
stages:
  many:
    foreach: [1, 2, 3, 4, 5, 6]
    do:
      cmd: head -c 100000 in.txt > ${item}.txt; echo done
      deps: [in.txt]
      outs: ["${item}.txt"]
  all:
    cmd: cat ?.txt | wc -c > all
    deps: [1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt]
    outs: [all]
"""
FILES = {"dvc.yaml": PIPELINE, "in.txt": "0123456789" * 10_000}


def some(*values):
    return values if FAULTS else values[:1]


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(*args):
        done = subprocess.run(
            ["mount", *args, folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.decode()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", folder], check=True)


def serial(tmp_path):
    project = Project(tmp_path / "serial")
    project.write(FILES)
    project.reproduce()
    return project


def check(result, project, expected, reason):
    """A run has failed for a reason, and has lost nothing."""
    output = result.stdout + result.stderr
    assert result.returncode == 255, output
    assert re.search(reason, output), output
    assert "Traceback" not in output
    assert list(processes_in(project.path)) == []
    known, right = recorded(project), recorded(expected)
    assert known == {name: right[name] for name in known}


@pytest.mark.parametrize("room", some(150, 20, 400, 900))
def test_a_full_disk(tmp_path, disk, monkeypatch, room):
    expected = serial(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    project = Project(disk("-t", "tmpfs", "-o", "size=8m", "tmpfs") / "project")
    project.write(FILES)
    filler = project.path.parent / "filler"
    free = shutil.disk_usage(filler.parent).free
    filler.write_bytes(b"x" * (free - room * 1024))

    result = project.dvc("repro", "-j", 3, check=False)
    if not result.returncode:
        assert room > 500
    else:
        check(result, project, expected, "No space left on device")
    filler.unlink()
    project.dvc("repro", "-j", 3)
    left, right = in_any_order(project), in_any_order(expected)
    assert left.pop(".gitignore") <= right.pop(".gitignore")
    assert left == right


@pytest.mark.parametrize("where", some(".", ".dvc/cache", ".dvc/tmp"))
def test_a_read_only_disk(tmp_path, where):
    expected = serial(tmp_path)
    project = Project(tmp_path / "project")
    project.write(FILES)
    folder = project.path / where
    folder.mkdir(exist_ok=True)
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, folder]
    probe = project.run([*command, "true"], check=False)
    if probe.returncode:
        pytest.skip(f"mounting is not allowed here: {probe.stderr}")
    one = project.run([*command, *project.command("repro")], check=False)
    result = project.run([*command, *project.command("repro", "-j", 3)], check=False)
    check(result, project, expected, "Read-only file system")
    assert one.returncode == 255
    project.dvc("repro", "-j", 3)
    assert_same(expected, project)


def test_folders_without_permission(tmp_path):
    if os.geteuid() == 0 and not as_ordinary_user():
        pytest.skip("root may write everywhere, and there is no setpriv")
    expected = serial(tmp_path)
    project = Project(tmp_path / "project")
    project.write(FILES)
    cache = project.path / ".dvc" / "cache"
    cache.mkdir(exist_ok=True)
    cache.chmod(0o500)
    command = [*as_ordinary_user(), *project.command("repro", "-j", 3)]
    result = project.run(command, check=False)
    check(result, project, expected, "Permission denied")
    assert str(cache) in result.stderr
    cache.chmod(0o755)
    project.dvc("repro", "-j", 3)
    assert_same(expected, project)


@pytest.mark.parametrize("files", some(32, 28, 40, 56))
def test_few_descriptors(tmp_path, files):
    expected = serial(tmp_path)
    project = Project(tmp_path / "project")
    project.write(FILES)

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    result = project.dvc("repro", "-j", 6, check=False, preexec_fn=limit)
    if result.returncode:
        check(result, project, expected, "ny open files|unable to open database file")
    project.dvc("repro", "-j", 3)
    left, right = in_any_order(project), in_any_order(expected)
    assert left.pop(".gitignore") <= right.pop(".gitignore")
    assert left == right


# One who exists, as DVC asks, and has no process.
IDLE_USER = next((user.pw_name for user in getpwall() if user.pw_uid == 5), None)


@pytest.mark.parametrize("processes", some(2, 1, 4, 7))
def test_few_processes(tmp_path, processes):
    if os.geteuid() or not IDLE_USER or not shutil.which("setpriv"):
        pytest.skip("needs root, to become a user that has no process")
    expected = serial(tmp_path)
    project = Project(tmp_path / "project")
    project.write(FILES)
    # NOTE: the limit is not for root, but Python may be in a folder of root
    caps = "+dac_override,+dac_read_search,+fowner"
    user = [f"--reuid={IDLE_USER}", f"--inh-caps={caps}", f"--ambient-caps={caps}"]
    user.insert(0, "setpriv")
    limit = ["prlimit", f"--nproc={processes}"]
    command = [*user, *limit, *project.command("repro", "-j", 3)]
    result = project.run(command, check=False)
    if result.returncode:
        words = "can't start new thread|Resource temporarily unavailable|Cannot fork"
        check(result, project, expected, words)
    project.dvc("repro", "-j", 3)
    left, right = in_any_order(project), in_any_order(expected)
    assert left.pop(".gitignore") <= right.pop(".gitignore")
    assert left == right
