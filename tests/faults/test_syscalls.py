"""Each call to the system that dvc-parallel makes fails, in each way in which it can.

``DVC_PARALLEL_FAULTS`` is how many failures of each command are tried, which depends on
``DVC_PARALLEL_SEED``, or ``all``; without it, those that have lost something once.
"""

import errno
import os
import random
import re
import shutil
import sys
from collections import Counter
from typing import NamedTuple

import pytest

from tests.support.fault_runs import (
    FAULTS,
    Server,
    in_any_order,
    processes_in,
    recorded,
)
from tests.support.injection import ERRORS, LASTING
from tests.support.project import Project, assert_same

if sys.platform != "linux":
    pytest.skip("needs /proc and pidfd_open", allow_module_level=True)

SEED = int(os.environ.get("DVC_PARALLEL_SEED", "0"))

# NOTE: the second stage ends first, so that the line of the first one does not come to
# the end of .gitignore; it prints more than is kept
PIPELINE = """\
stages:
  one:
    cmd: >
      for i in $(seq 200); do test -e two.txt || sleep 0.05; done;
      echo one; cat in.txt > one.txt
    deps: [in.txt]
    outs: [one.txt]
    meta: {parallel: {timeout: 60}}
  two:
    cmd: printf '%09000d\\n' 2; cat in.txt > two.txt
    deps: [in.txt]
    outs: [two.txt]
  three:
    cmd: mkdir three && cp one.txt two.txt three
    deps: [one.txt, two.txt]
    outs: [three]
"""
REPRO = ("repro", "-j", "2")
COMMANDS = {
    "first run": REPRO,
    "second run": (*REPRO, "--force"),
    "plan": ("plan",),
    "validate": ("validate", "-j", "2"),
    "logs": ("logs",),
    "logs of a stage": ("logs", "one"),
    "page": ("report",),
    "trace": ("report", "-o", "trace.json"),
}
NO_THREAD = "can't start new thread"
# Where the order of changes is known, and elsewhere.
SYNC_OF_CONTENTS = (
    r"sync_file_range: durable._call < .* < durable.write_out$|syncfs: durable._call"
)
# What has gone wrong once, or may: the command, a part of the site, and the error.
KNOWN = [
    ("first run", r"start of a thread: thread_pool", 2, "EAGAIN"),
    ("first run", r"write: lock_wait._take < .* < lock_wait.wait_for", 1, "EIO"),
    ("first run", r"write: overrides.dump_yaml", 2, "EDQUOT"),
    ("first run", r"fsync: durable.sync_folder < atomic", 1, "ENOSPC"),
    ("first run", r"fork_exec: local_runner", 1, "EAGAIN"),
    ("first run", r"close: lock_wait.unlock < .* < repo_lock", 1, "EIO"),
    ("first run", r"close: lock_wait.unlock < .* < lock_wait.unlock", 1, "ENOSPC"),
    ("first run", r"write: records.writer", 3, "ENOSPC lasting"),
    ("first run", r"write: records.log_files._append", 2, "ENOSPC"),
    (
        "first run",
        r"unlink: own_files.remove < records.log_files._begin_end",
        1,
        "EACCES",
    ),
    ("first run", r"write: ordered_writes._append", 1, "ENOSPC"),
    ("first run", SYNC_OF_CONTENTS, 1, "EIO"),
    ("page", r"write: report_command", 1, "ENOSPC"),
    ("validate", r"fork_exec: .* < workspace_copy", 1, "EAGAIN"),
    ("validate", r"close: workspace_copy._copy", 1, "ENOSPC"),
]
if os.geteuid() == 0:
    KNOWN.append(("first run", r"chown: atomic._take_over", 1, "EPERM"))


class Fault(NamedTuple):
    site: str
    number: int
    error: str
    lasting: bool = False

    @classmethod
    def all_of(cls, calls):
        for site, count in calls.items():
            call = site.partition(":")[0]
            for error in ERRORS[call]:
                yield from (cls(site, number, error) for number in {1, count})
                if call in LASTING.get(error, ()):
                    yield cls(site, 1, error, lasting=True)

    @property
    def call(self):
        return self.site.partition(":")[0]

    @property
    def may_keep_folders(self):
        """Whether temporary folders cannot be removed, which opens what is in them."""
        if self.lasting and self.error in {"EMFILE", "EROFS"}:
            return True
        return re.match("(open for reading|scandir|unlink): run_cache.save ", self.site)

    @property
    def refuses_threads(self):
        return self.lasting and "start of a thread" in LASTING[self.error]

    @property
    def reason(self):
        # NOTE: DVC has words of its own for one of them, and pipes have no names
        if self.error in {"EMFILE", "ENFILE"}:
            return "(?i)too many open files"
        if self.call == "start of a thread" and not self.lasting:
            return NO_THREAD
        # NOTE: with the name of a file
        reason = re.escape(os.strerror(getattr(errno, self.error)))
        named = rf"{reason}: '[^']|cannot \w+ '[^']+': {reason}"
        return f"{named}|{NO_THREAD}" if self.refuses_threads else named


class Trial:
    """A command that runs again and again, each time with another fault."""

    def __init__(self, folder, server, name):
        self._folder = folder
        self._server = server
        self.argv = COMMANDS[name]
        self._pristine = Project(folder / "pristine")
        self._pristine.write(
            {"dvc.yaml": PIPELINE, "in.txt": "in\n", ".gitignore": "/x\n"}
        )
        self.expected = self._copy("expected")
        self.expected.reproduce()
        if name != "first run":
            assert server.run(self._pristine, REPRO)["status"] == 0
        self.calls = self._run(None)["calls"]
        assert self.calls

    def _copy(self, name):
        project = Project(self._folder / name)
        shutil.copytree(self._pristine.path, project.path, dirs_exist_ok=True)
        if os.geteuid() == 0:
            # NOTE: else there would be no owner to keep
            os.chown(project.path / ".gitignore", 1, 1)
        return project

    def _run(self, fault):
        project = self._copy("project")
        result = self._server.run(project, self.argv, fault)
        assert result["status"] is not None, "does not end"
        self._check(project, fault, result)
        if self.argv[0] in ("repro", "validate"):
            again = self._server.run(project, REPRO)
            assert again["status"] == 0, again["output"]
        if result["status"] == 0 and self.argv[0] == "repro":
            assert_same(self.expected, project)
        else:
            left, expected = in_any_order(project), in_any_order(self.expected)
            # NOTE: a failed run of DVC takes lines from .gitignore that it has added
            assert left.pop(".gitignore") <= expected.pop(".gitignore")
            assert left == expected
        shutil.rmtree(project.path)
        return result

    def _check(self, project, fault, result):
        output = result["output"]
        assert "Traceback" not in output
        assert list(processes_in(project.path)) == []
        # NOTE: nothing can be removed from a disk that has become read-only
        if not (fault and fault.lasting and fault.error == "EROFS"):
            assert list((project.path / ".dvc" / "tmp").rglob("*.tmp")) == []
        if fault and fault.may_keep_folders:
            for path in (project.path / ".dvc" / "cache").glob(".*.tmp"):
                shutil.rmtree(path)
        known, right = recorded(project), recorded(self.expected)
        assert known == {name: right[name] for name in known}
        if ran := self.argv[0] == "repro" and re.search(r"(\d+) ran[,;]", output):
            assert int(ran[1]) <= len(known)
        if result["status"]:
            assert fault.error != "SHORT"
            assert re.search(fault.reason, output)
        elif self.argv[0] == "repro":
            assert_same(self.expected, project)

    def run(self, fault):
        """Return what is wrong after a fault, in a word or two."""
        try:
            return self._run(fault).get("failed", 0), None
        except AssertionError as exc:
            return 1, f"{fault}\n{exc}"
        finally:
            shutil.rmtree(self._folder / "project", ignore_errors=True)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.skipif(FAULTS is not None, reason="there are more of them")
@pytest.mark.timeout(7200)
def test_calls_that_fail(tmp_path, server):
    trials = {}
    problems = []
    for name, pattern, number, error in KNOWN:
        if name not in trials:
            (tmp_path / name).mkdir()
            trials[name] = Trial(tmp_path / name, server, name)
        sites = [s for s in trials[name].calls if re.match(pattern, s)]
        assert sites, pattern
        fault = Fault(sites[0], number, error.split()[0], error.endswith("lasting"))
        problems.append(trials[name].run(fault)[1])
    assert not any(problems), "\n\n".join(filter(None, problems))


@pytest.mark.skipif(FAULTS is None, reason="takes long")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", COMMANDS)
def test_all_calls_fail(tmp_path, server, name, record_property):
    trial = Trial(tmp_path, server, name)
    faults = sorted(Fault.all_of(trial.calls))
    if FAULTS != "all":
        count = min(int(FAULTS), len(faults))
        faults = random.Random(SEED).sample(faults, count)
    results = [trial.run(fault) for fault in faults]
    problems = [problem for _, problem in results if problem]
    hits = sum(bool(failed) for failed, _ in results)
    record_property("faults", len(faults))
    record_property("kinds", dict(Counter(fault.call for fault in faults)))
    record_property("hits", hits)
    assert not problems, f"seed {SEED}\n" + "\n\n".join(problems)
    assert hits > len(faults) / 2
