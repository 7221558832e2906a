"""Files of our own in ``.dvc/tmp`` that are cut off, garbled, or no files at all.

``DVC_PARALLEL_FAULTS`` is how many random changes of each are tried, a few by default,
or ``all`` for thousands; ``DVC_PARALLEL_SEED`` where to start.
"""

import json
import logging
import os
import random
import shutil
from contextlib import suppress

import pytest
from dvc.exceptions import DvcException, ReproductionError
from dvc.fs import localfs
from dvc.rwlock import RWLockFileCorruptedError, RWLockFileFormatError

from dvc_parallel.commands import cli
from dvc_parallel.engine.path_locks import PathLocks
from dvc_parallel.reporting.records import Runs
from dvc_parallel.reporting.records.reader import RecordError
from dvc_parallel.scheduling.durations import Durations
from tests.support.project import Project

FAULTS = os.environ.get("DVC_PARALLEL_FAULTS", "12")
COUNT = 5000 if FAULTS == "all" else int(FAULTS)
SEED = int(os.environ.get("DVC_PARALLEL_SEED", "0"))

PIPELINE = """\
stages:
  one: {cmd: echo one | tee one.txt, outs: [one.txt]}
  two: {cmd: echo two > two.txt, outs: [two.txt]}
  three: {cmd: cat one.txt two.txt, deps: [one.txt, two.txt]}
  four: {cmd: "false", deps: [one.txt]}
"""
COMMANDS = [
    ["logs"],
    ["logs", "--json"],
    ["logs", "--list"],
    ["logs", "one"],
    ["report"],
    ["report", "--json"],
    ["report", "-o", "trace.json"],
]
ODD = [None, True, -1, 1e308, 10**400, "", "x", "\ud800", [], [[]], {}, {"a": {}}]


def garbled(data, rng):
    """Bytes with a few errors in them."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(data))
        what = rng.randrange(5)
        if what == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[place : place + rng.randint(1, 9)] = b"\0" * rng.randint(1, 9)
        elif what == 2:
            data[place:place] = bytes([rng.randrange(128, 256)])
        elif what == 3:
            del data[place : place + rng.randint(1, 40)]
        else:
            data[place:place] = data[: rng.randint(1, 40)]
    return bytes(data)


def odd(value, rng):
    """JSON of which a part is of another type."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.2:
        return rng.choice(ODD)
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    changed = value.copy()
    changed[key] = odd(value[key], rng)
    return changed


def odd_lines(data, rng):
    """A journal of which a line is odd."""
    lines = data.splitlines()
    number = rng.choice([0, rng.randrange(len(lines))])
    lines[number] = json.dumps(odd(json.loads(lines[number]), rng)).encode()
    return b"".join(line + b"\n" for line in lines)


def not_a_file(path, kind):
    if os.path.lexists(path):
        (shutil.rmtree if os.path.isdir(path) else os.unlink)(path)
    if kind == "folder":
        os.mkdir(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling link":
        os.symlink("/nonexistent/file", path)
    elif kind == "loop":
        os.symlink(path, path)
    else:
        path.write_text("")


KINDS = ["folder", "pipe", "dangling link", "loop", "empty file"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    project = Project(tmp_path / "project")
    project.write({"dvc.yaml": PIPELINE})
    with pytest.raises(ReproductionError):
        project.reproduce(jobs=2)
    monkeypatch.chdir(project.path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    return project


@pytest.fixture
def journal(project):
    (path,) = project.path.glob(".dvc/tmp/parallel/runs/*/journal.jsonl")
    return path


class Errors(logging.Handler):
    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        self.found.append(record)


@pytest.fixture
def run(capfd, monkeypatch):
    """Run a command in this process; it may say that something is wrong, in a line."""
    # NOTE: not by caplog: pytest-xdist cannot send what garbled names may consist of
    logger = logging.getLogger("dvc")
    monkeypatch.setattr(logger, "propagate", False)
    handler = Errors()

    def run(*argv):
        handler.found.clear()
        status = cli.main(list(argv))
        _, err = capfd.readouterr()
        errors = handler.found
        for record in errors:
            # NOTE: where DVC did not expect it, it shows "unexpected error"
            assert isinstance(record.exc_info[1], DvcException), record.exc_info
        assert "Traceback" not in err
        assert status == (255 if errors else 0)

    logger.addHandler(handler)
    yield run
    logger.removeHandler(handler)


def test_a_journal_that_is_cut_off(journal, run):
    data = journal.read_bytes()
    whole = Runs(str(journal.parents[3])).load()
    step = 1 if FAULTS == "all" else len(data) // COUNT
    for size in range(0, len(data), step):
        journal.write_bytes(data[:size])
        run("logs")
        run("report", "--json")
        try:
            cut = Runs(str(journal.parents[3])).load()
        except RecordError:
            assert b"\n" not in data[:size]
        else:
            for stage, all_of_it in zip(cut.stages, whole.stages):
                assert stage.phases == all_of_it.phases[: len(stage.phases)]


@pytest.mark.parametrize("change", [garbled, odd_lines])
def test_a_garbled_journal(journal, run, change):
    data = journal.read_bytes()
    for seed in range(SEED, SEED + COUNT):
        journal.write_bytes(change(data, random.Random(seed)))
        for command in COMMANDS:
            try:
                run(*command)
            except BaseException as exc:
                raise AssertionError(f"seed {seed}: {command}") from exc


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["journal", "log", "run"])
def test_no_file(project, journal, run, where, kind):
    path = {
        "journal": journal,
        "log": next(journal.parent.glob("logs/*one.log")),
        "run": journal.parent,
    }[where]
    not_a_file(path, kind)
    for command in COMMANDS:
        run(*command)
    project.reproduce(jobs=2, targets=["three"])


def test_garbled_durations(project, run):
    durations = Durations(str(project.path / ".dvc" / "tmp"))
    path = project.path / ".dvc" / "tmp" / "parallel" / "durations.json"
    data = path.read_bytes()
    texts = [data[:size] for size in range(len(data))]
    for seed in range(SEED, SEED + COUNT):
        rng = random.Random(seed)
        texts.append(garbled(data, rng))
        texts.append(json.dumps(odd(json.loads(data), rng)).encode())
    for text in texts:
        path.write_bytes(text)
        known = durations.load()
        assert all(0 <= seconds < float("inf") for seconds in known.values()), text
    run("plan")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["durations", "parallel"])
def test_no_durations(project, run, where, kind):
    path = project.path / ".dvc" / "tmp" / "parallel"
    not_a_file(path / "durations.json" if where == "durations" else path, kind)
    run("plan")
    project.reproduce(jobs=2, targets=["three"], force=True)
    run("doctor")


def test_a_garbled_rwlock(tmp_path):
    data = b'{"write": {"/a": {"pid": 1, "cmd": "x"}}, '
    data += b'"read": {"/b": [{"pid": 1, "cmd": "x"}]}}'
    path = tmp_path / "rwlock"
    texts = [data[:size] for size in range(len(data))]
    for seed in range(SEED, SEED + COUNT):
        rng = random.Random(seed)
        texts.append(garbled(data, rng))
        texts.append(json.dumps(odd(json.loads(data), rng)).encode())
    for text in texts:
        path.write_bytes(text)
        for locks in (PathLocks(), PathLocks(lambda: True)):
            lock = locks.hold(str(tmp_path), localfs, "cmd", ["/in"], ["/out"], False)
            with suppress(RWLockFileCorruptedError, RWLockFileFormatError), lock:
                pass
