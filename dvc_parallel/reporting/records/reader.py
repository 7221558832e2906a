"""Reading the records of runs, those that still go on included."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from difflib import get_close_matches
from itertools import islice
from typing import Any, Optional

import psutil
from dvc.exceptions import DvcException

from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.reporter_events import FINAL, Phase
from dvc_parallel.engine.terminal import visible
from dvc_parallel.engine.usage import Usage, together, usage_of

from .log_files import log_name

FORMAT = 2
JOURNAL = "journal.jsonl"
LOGS = "logs"
IDLE = "idle"  # a file beside the runs, with the ID of one in which no stage has run
# Bytes of a journal, and of a line of it.
MOST_BYTES = 2**28
MOST_LINE = 2**25
# What fits into a pid_t; no run takes as many seconds, or has as many jobs.
MOST_PID = 2**31 - 1
MOST_SECONDS = 1e9
MOST_JOBS = 100_000
TEXTS = ("id", "on_error", "command", "dvc", "dvc_parallel")
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9A-Za-z]{4}", re.ASCII)

# Phases in which a stage does something itself.
BUSY = ("check", "command", "retry", "save")

# How a run can end.
ENDS = ("ok", "failed", "interrupted")
# What is raised by a journal that makes no sense.
NONSENSE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
# Names that an error lists.
SHOWN = 10


class RecordError(DvcException):
    """There is no such record, or it cannot be read."""


@dataclass
class Stage:
    """A stage of a run.

    Attributes:
        name: as in DVC.
        upstream, after: places of the stages that it waits for.
        seconds: how long it took before this run, if that is known.
        log: name of the file with its output, if it has printed anything.
        phases: when each phase has begun, in seconds since the start of the run, which
            it was, and its details.
    """

    name: str
    upstream: list[int]
    after: list[int]
    seconds: Optional[float]
    log: str
    phases: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)

    @property
    def phase(self) -> Optional[str]:
        """The one that it is in or has ended with; None if it waits for others."""
        return self.phases[-1][1] if self.phases else None

    @property
    def details(self) -> dict[str, Any]:
        """The details of its phase."""
        return self.phases[-1][2] if self.phases else {}

    @property
    def has_run(self) -> bool:
        """Whether it has begun to run a command, or failed without one."""
        return any(phase in ("command", "failed") for _, phase, _ in self.phases)

    @property
    def worker(self) -> Optional[str]:
        """Where its last command ran, if not on the machine that DVC ran on."""
        workers = (details.get("worker") for *_, details in reversed(self.phases))
        return next(filter(None, workers), None)

    @property
    def exit(self) -> Optional[int]:
        """Status of its last command, if it has failed for that."""
        return self.details.get("exit")

    @property
    def used(self) -> Optional[Usage]:
        """What its commands have used, of all attempts; None if that is not known."""
        return together(d["used"] for *_, d in self.phases if "used" in d)

    @property
    def over(self) -> bool:
        return self.phase in FINAL

    @property
    def started(self) -> Optional[float]:
        """When it got a slot; None if it did not run."""
        if self.phase == Phase.NOT_RUN:
            return None
        return next((t for t, phase, _ in self.phases if phase != "ready"), None)

    @property
    def took(self) -> Optional[float]:
        """Seconds that it took, without those in which it waited; None if not over."""
        if not self.over or self.started is None:
            return None
        if (seconds := self.details.get("seconds")) is not None:
            return seconds
        return self.seconds_in(*BUSY)

    def seconds_in(self, *phases: str) -> float:
        """How long it has been in any of some phases, up to the last one."""
        return sum(
            max(0.0, end - start)
            for (start, phase, _), (end, *_) in zip(self.phases, self.phases[1:])
            if phase in phases
        )


@dataclass
class Run:
    """A run, as far as its journal goes.

    Attributes:
        header: the first line of the journal.
        stages: in the order of serial DVC.
        end: "ok", "failed" or "interrupted"; None if the journal does not say.
        seconds: that it took, by its own clock; None if the journal does not say.
        goes_on: whether it had not ended when the journal was read.
        last: time of the last line, in seconds since the start.
        offset: bytes of the journal that have been read.
    """

    folder: OwnFolder
    header: dict[str, Any]
    stages: list[Stage]
    end: Optional[str] = None
    seconds: Optional[float] = None
    goes_on: bool = False
    last: float = 0.0
    offset: int = 0

    @property
    def journal(self) -> str:
        return self.folder.path_of(JOURNAL)

    @property
    def logs(self) -> OwnFolder:
        return self.folder.folder(LOGS)

    @property
    def id(self) -> str:
        return os.path.basename(self.folder.path)

    @property
    def started(self) -> datetime:
        return datetime.fromisoformat(self.header["started"])

    @property
    def state(self) -> str:
        """ "running", "ok", "failed", "interrupted" or "killed"."""
        return self.end or ("running" if self.goes_on else "killed")

    @property
    def now(self) -> float:
        """Seconds from its start to now, or to its end."""
        if not self.goes_on:
            return self.last if self.seconds is None else self.seconds
        return (datetime.now(timezone.utc) - self.started).total_seconds()

    def find(self, name: str) -> list[Stage]:
        """The stage of a name, or those of a foreach or matrix; maybe none."""
        exact = [stage for stage in self.stages if stage.name == name]
        group = (stage for stage in self.stages if stage.name.startswith(f"{name}@"))
        return exact or list(group)

    def get(self, name: str) -> list[Stage]:
        """The same.

        Raises:
            RecordError: there is none.
        """
        if found := self.find(name):
            return found
        names = [stage.name for stage in self.stages]
        known = _listed(get_close_matches(name, names) or names, len(names))
        name = visible(name)
        raise RecordError(f"run {self.id} has no stage '{name}'; it has {known}")

    def update(self) -> None:
        """Read what has been added to the journal.

        Lines that make no sense are left out, and so is one that is being written.
        Stages of a run that is over have an outcome, even if it was killed.

        Raises:
            RecordError: the journal cannot be read any more.
        """
        self._read()
        self.goes_on = self.end is None and is_alive(self.header)
        if self.end is None and not self.goes_on:
            # NOTE: what it has written between that and its end
            self._read()
        if not self.goes_on:
            for stage in self.stages:
                if not stage.over:
                    begun = stage.started is not None
                    outcome = Phase.INTERRUPTED if begun else Phase.NOT_RUN
                    stage.phases.append((self.last, outcome.value, {}))

    def _read(self) -> None:
        for entry in _entries(self):
            with suppress(*NONSENSE):
                _add(self, entry)


class Runs:
    """The records of the runs of a repo."""

    @classmethod
    def of_repo(cls) -> "Runs":
        """The records of the repo that the current folder is in.

        Raises:
            NotDvcRepoError: it is in none.
        """
        from dvc.repo import Repo

        return cls(os.path.join(Repo.find_root(), Repo.DVC_DIR, "tmp"))

    def __init__(self, tmp_dir: str):
        self._folder = OwnFolder(tmp_dir, "parallel", "runs")

    def folder(self, run_id: str) -> OwnFolder:
        return self._folder.folder(run_id)

    def size(self, run_id: str) -> int:
        """Bytes of a record, as far as they can be counted."""
        size = 0
        for folder in (self.folder(run_id), self.folder(run_id).folder(LOGS)):
            with suppress(OSError):
                size += sum(folder.files().values())
        return size

    def remember_idle(self, run_id: str) -> None:
        """Take note that no stage has run in a run, so that it does not last.

        Raises:
            OSError: that cannot be written down.
        """
        self.remove_idle()
        with self._folder.replace(IDLE) as fobj:
            fobj.write(run_id)

    def remove_idle(self) -> None:
        """Remove the record of the last run in which no stage has run."""
        with suppress(OSError, UnicodeDecodeError):
            with self._folder.read(IDLE, MOST_LINE) as fobj:
                run_id = fobj.read().decode()
            self._folder.remove(IDLE)
            if RUN_ID.fullmatch(run_id):
                self.remove(run_id)

    def remove(self, run_id: str) -> None:
        """Remove a record, as much of it as can be."""
        with suppress(OSError):
            self._folder.remove(run_id)

    def ids(self) -> list[str]:
        """IDs of runs, the oldest first.

        Raises:
            RecordError: their folder cannot be read.
        """
        try:
            return sorted(filter(RUN_ID.fullmatch, self._folder.folders()))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise RecordError(f"cannot read '{exc.filename}': {exc.strerror}") from None

    def load(self, run_id: Optional[str] = None) -> Run:
        """Read a record; without ``run_id`` the last one that can be read.

        A run that is killed, or that is just beginning, may have no journal.

        Args:
            run_id: the ID of a run or the beginning of one.

        Raises:
            RecordError: there is none, or it cannot be read.
        """
        ids = self.ids()
        if not ids:
            raise RecordError(
                "no run has been recorded yet; run `dvc repro` with more than one job"
            )
        if run_id is None:
            # NOTE: if none can be read, that of the last one says why
            return next(self.all(newest_first=True), None) or read(self.folder(ids[-1]))
        matching = [known for known in ids if known.startswith(run_id)]
        if run_id in ids:
            matching = [run_id]
        if not matching:
            known = ", ".join(ids)
            raise RecordError(
                f"there is no run '{visible(str(run_id))}'; there are {known}"
            )
        if len(matching) > 1:
            raise RecordError(
                f"'{run_id}' matches more than one run: {', '.join(matching)}"
            )
        return read(self.folder(matching[-1]))

    def last_at_work(self) -> Run:
        """The last run in which any stage has run, if there is one, or the last run.

        Raises:
            RecordError: there is none.
        """
        at_work = (
            run
            for run in self.all(newest_first=True)
            if any(stage.has_run for stage in run.stages)
        )
        return next(at_work, None) or self.load()

    def last_of(self, name: str, goes_on: bool = False) -> tuple[Run, list[Stage]]:
        """The last run in which a stage, or one of a group, has run, and these stages.

        If there is none, that is the last run that knows them.

        Args:
            goes_on: whether a run that goes on and has yet to run them will do.

        Raises:
            RecordError: no run knows them.
        """
        known: list[tuple[Run, list[Stage]]] = []
        for run in self.all(newest_first=True):
            if stages := run.find(name):
                known.append((run, stages))
                to_come = goes_on and run.goes_on and not all(s.over for s in stages)
                if to_come or any(stage.has_run for stage in stages):
                    return known[-1]
        if not known:
            last = self.load()
            return last, last.get(name)
        return known[0]

    def all(self, newest_first: bool = False) -> Iterator[Run]:
        """The runs that can be read, the oldest first, or the last.

        Raises:
            RecordError: their folder cannot be read.
        """
        for run_id in sorted(self.ids(), reverse=newest_first):
            with suppress(RecordError):
                yield read(self.folder(run_id))

    def state(self, run_id: str) -> Optional[str]:
        """The state of a run; None if it cannot be read."""
        with suppress(RecordError):
            return read(self.folder(run_id)).state
        return None


def read(folder: OwnFolder) -> Run:
    """Read the record in a folder.

    Raises:
        RecordError: it cannot be read, or was written by a newer version of this.
    """
    run = Run(folder, {}, [])
    header = next(_entries(run, 1), {})
    try:
        if header["format"] != FORMAT:
            raise ValueError("another format")
        run.header = _checked_header(header)
        run.stages += _stages(header["stages"])
    except NONSENSE:
        raise RecordError(f"{run.journal} is not a readable journal") from None
    run.update()
    return run


def _entries(run: Run, count: Optional[int] = None) -> Iterator[dict[str, Any]]:
    """New lines of a journal, or the next few of them."""
    try:
        with run.folder.read(JOURNAL, MOST_BYTES) as fobj:
            fobj.seek(run.offset)
            lines = iter(lambda: fobj.readline(MOST_LINE), b"")
            for line in islice(lines, count):
                if not line.endswith(b"\n"):
                    return
                run.offset += len(line)
                with suppress(ValueError, RecursionError):
                    entry = json.loads(line)
                    if isinstance(entry, dict):
                        yield entry
    except OSError as exc:
        raise RecordError(f"cannot read '{exc.filename}': {exc.strerror}") from None


def _stages(stages: list[dict[str, Any]]) -> Iterator[Stage]:
    for rank, stage in enumerate(stages):
        name = str(stage["name"])
        known = stage.get("seconds")
        yield Stage(
            name,
            [int(other) for other in stage.get("upstream", [])],
            [int(other) for other in stage.get("after", [])],
            None if known is None else _seconds(known),
            log_name(rank, name),
        )


def _add(run: Run, entry: dict[str, Any]) -> None:
    time = _seconds(entry["t"])
    if "end" in entry:
        if entry["end"] not in ENDS:
            raise ValueError(entry["end"])
        if "seconds" in entry:
            run.seconds = _seconds(entry["seconds"])
        run.end = entry["end"]
    else:
        details = {k: v for k, v in entry.items() if k not in ("t", "stage", "phase")}
        for name in ("seconds", "owned"):
            if name in details:
                details[name] = _seconds(details[name])
        if "exit" in details:
            details["exit"] = int(details["exit"])
        if "used" in details:
            details["used"] = usage_of(details["used"])
        rank, phase = int(entry["stage"]), str(entry["phase"])
        if rank < 0:
            return
        run.stages[rank].phases.append((time, phase, details))
    run.last = time


def _checked_header(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The first line of a journal, but for its stages."""
    started = datetime.fromisoformat(entry["started"])
    if started.tzinfo is None:
        raise ValueError("no time zone")
    started.astimezone()  # fails for the first and the last days of the calendar
    texts = {name: str(entry[name]) for name in TEXTS if name in entry}
    numbers = {
        name: _between(1, int(entry[name]), most)
        for name, most in (("jobs", MOST_JOBS), ("pid", MOST_PID))
        if name in entry
    }
    return {**texts, **numbers, "started": entry["started"]}


def _seconds(value: Any) -> float:
    """Seconds since the start of the run, or that something took."""
    return float(_between(0, float(value), MOST_SECONDS))


def _between(least: float, value: Any, most: float) -> Any:
    if not least <= value <= most:
        raise ValueError(f"{value} is out of range")
    return value


def _listed(names: Sequence[str], count: int) -> str:
    """Some names, and how many more there are."""
    shown = [visible(name) for name in names[:SHOWN]]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return ", ".join(shown) + more


# Seconds by which the clocks of the system and of the journal may differ.
SLACK = 5.0


def is_alive(header: Mapping[str, Any]) -> bool:
    """Whether the process that writes a journal is there."""
    try:
        process = psutil.Process(header["pid"])
        started = datetime.fromisoformat(header["started"]).timestamp()
        # NOTE: a younger process has got the same number
        return (
            process.create_time() <= started + SLACK
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.AccessDenied:
        return True
    except (psutil.Error, KeyError):
        return False
