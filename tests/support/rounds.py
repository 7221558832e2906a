"""What rounds of faults have in common: a pipeline, and what has to hold after each."""

import hashlib
import json
import os
import random
import re
import shutil
import time
from collections import Counter
from zlib import crc32

from ruamel.yaml import YAML

from dvc_parallel.engine.reporter_events import GOOD
from dvc_parallel.reporting.records.reader import JOURNAL, RecordError, Runs
from tests import wait_until
from tests.support.pipeline import write_pipeline
from tests.support.processes import DvcProcess, commands_in
from tests.support.project import Project

ROUNDS_OF_ONE = 50
# NOTE: all workers of a run have to collect the same tests
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
SEED = int(os.environ.get("DVC_PARALLEL_SEED", crc32(_RUN.encode())))
# Seconds from one look at a journal to the next.
POLL = 0.005
OBJECT = re.compile(r"/([0-9a-f]{2})/([0-9a-f]{30})(\.dir)?$")


def rounds(variable: str, default: int) -> list[tuple[int, int]]:
    """Seeds, each with the number of rounds to go with it.

    Args:
        variable: of the environment, says how many rounds there are.
        default: how many there are without it.
    """
    total = int(os.environ.get(variable, default))
    starts = range(0, total, ROUNDS_OF_ONE)
    return [
        (SEED + place, min(ROUNDS_OF_ONE, total - start))
        for place, start in enumerate(starts)
    ]


class Pipeline:
    """A random pipeline.

    Args:
        folder: for the projects.
        rng: decides what it is like.
        stages: how many it has at least, and at most; mostly few, as what serial DVC
            takes grows with the square.
        wild: whether its commands are hard to stop.

    Attributes:
        lines (int): that a parallel run of it writes into its journal.
        seconds (float): how long it takes from the first one on.
        before (float): how long until then.
    """

    def __init__(self, folder, rng: random.Random, stages, *, wild: bool = False):
        self._folder = folder
        self._pristine = folder / "pristine"
        serial = Project(folder / "serial" / "project")
        least, most = stages
        count = least + int((most - least + 1) * rng.random() ** 3)
        write_pipeline(serial, rng, count, wild=wild)
        shutil.copytree(serial.path, self._pristine)
        serial.reproduce()
        self._left = left(serial)
        self._ordered = ordered(serial)
        self._cached = dict(cached(serial))

        whole = self.project("whole")
        start = time.monotonic()
        process = DvcProcess(whole, "repro", "-j", 4)
        output = process.finish()
        assert process.returncode == 0, output
        run = Runs(_tmp_dir(whole)).load()
        self.seconds = run.last
        self.before = time.monotonic() - start - run.last
        self.lines = len(_lines(run.journal))
        self.assert_as_serial(whole)
        self.assert_in_order(whole)

    def project(self, name, folder=None) -> Project:
        """Make a project in which nothing has run, if need be on another disk."""
        project = Project((folder or self._folder) / name / "project")
        shutil.copytree(self._pristine, project.path, dirs_exist_ok=True)
        return project

    def wait(self, process, project, rng: random.Random) -> bool:
        """Wait for a random moment of a run; return whether it has come.

        It is some time after a line of the journal, so that the same one comes with the
        same ``rng`` as far as that can be.
        """
        if rng.random() < 0.1:
            return not process.wait(rng.uniform(0, self.before))
        line = rng.randint(1, self.lines)
        delay = rng.uniform(0, 2 * self.seconds / self.lines)
        while _lines_of(process.pid, project) < line:
            if process.wait(POLL):
                return False
        return not process.wait(delay)

    def assert_sound(self, project):
        """Nothing that was announced is lost, and nothing is taken for what it is not.

        That is, dvc.lock can be read and its entries are right, and so is all that is
        in the cache and in the run cache.
        """
        entries = recorded(project)
        expected = self._left["dvc.lock"]
        assert entries == {name: expected[name] for name in entries}
        assert announced(project) <= set(entries)
        for name, content in cached(project):
            # NOTE: nobody takes one of the other names for an object
            if name in self._cached:
                assert content == self._cached[name], name
            elif match := OBJECT.search(name):
                digest = hashlib.md5(content).hexdigest()
                assert digest == match[1] + match[2], name
            else:
                assert is_temporary(name), name

    def assert_has_data(self, project):
        """All that the entries of dvc.lock name is in the cache, and whole."""
        objects = dict(cached(project))
        wanted = [
            out["md5"]
            for entry in recorded(project).values()
            for out in entry["outs"]
            if out.get("cache", True)
        ]
        while wanted:
            oid = wanted.pop()
            name = f"/files/md5/{oid[:2]}/{oid[2:]}"
            if name in self._cached:  # NOTE: those of metrics are in the run cache only
                assert objects.get(name) == self._cached[name], name
                if oid.endswith(".dir"):
                    wanted += [file["md5"] for file in json.loads(objects[name])]

    def assert_as_serial(self, project, but_for=()):
        found, expected = left(project), dict(self._left)
        for name in but_for:
            found.pop(name, None)
            del expected[name]
        assert found == expected
        objects = {n: c for n, c in cached(project) if not is_temporary(n)}
        assert objects == self._cached

    def assert_in_order(self, project):
        """Entries and lines are where serial DVC would have put them."""
        assert ordered(project) == self._ordered


def recorded(project) -> dict:
    """The entries of dvc.lock."""
    if not project.exists("dvc.lock"):
        return {}
    with open(project.path / "dvc.lock") as fobj:
        return dict(YAML(typ="safe").load(fobj)["stages"])


def _tmp_dir(project) -> str:
    return str(project.path / ".dvc" / "tmp")


def _lines(path) -> list[bytes]:
    with open(path, "rb") as fobj:
        return fobj.readlines()


def _lines_of(pid, project) -> int:
    """How many lines there are in the journal of a process."""
    runs = Runs(_tmp_dir(project))
    for run_id in runs.ids()[-1:]:
        try:
            lines = _lines(os.path.join(runs.folder(run_id).path, JOURNAL))
            if json.loads(lines[0])["pid"] == pid:
                return len(lines)
        except (OSError, ValueError, IndexError):
            continue
    return 0


def announced(project) -> set[str]:
    """The stages that the last run has said to be done."""
    return {stage.name for stage in journal(project) if stage.phase in GOOD}


def journal(project) -> list:
    """The stages of the last run, as far as it has told of them."""
    try:
        return Runs(_tmp_dir(project)).load().stages
    except RecordError:
        return []


def where(project):
    """Where a run was when it ended: how many stages were in which phase."""
    phases = Counter(stage.phase or "waiting" for stage in journal(project))
    return phases or {"before the first stage": 1}


def left(project) -> dict:
    """What is left, in whatever order stages have been recorded."""
    # NOTE: DVC copies an output from the cache to a temporary file beside it
    files = {
        name: value
        for name, value in project.left().items()
        if ".dvc/" not in name and not is_temporary(name)
    }
    del files["dvc.lock"]
    # NOTE: with the lines that a failed run takes back, DVC removes a file of its own
    if ".gitignore" in files:
        mode, ignored = files[".gitignore"]
        files[".gitignore"] = mode, sorted(ignored.splitlines())
    return {**files, "dvc.lock": recorded(project)}


def ordered(project) -> dict:
    """The names of the entries of dvc.lock, and the lines of .gitignore."""
    lines = project.read(".gitignore").splitlines()
    return {"dvc.lock": list(recorded(project)), ".gitignore": lines}


def cached(project):
    """Names and contents of the files in the cache, and in the run cache."""
    folder = project.path / ".dvc" / "cache"
    for path in folder.rglob("*"):
        if path.is_file():
            yield "/" + path.relative_to(folder).as_posix(), path.read_bytes()


def is_temporary(name) -> bool:
    return any(part.endswith(".tmp") for part in name.split("/"))


def assert_no_commands(project):
    """See that the commands of a run are gone, or go while one waits."""
    wait_until(lambda: not commands_in(project.path))
