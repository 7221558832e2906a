"""Reading the records of runs, those that still go on included."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Optional

import psutil

from .logs import log_name

FORMAT = 1
JOURNAL = "journal.jsonl"
LOGS = "logs"

# Seconds by which the clocks of the system and of the journal may differ.
SLACK = 5.0


class RecordError(Exception):
    """There is no such record, or it cannot be read."""


@dataclass
class Stage:
    """A stage of a run.

    Attributes:
        name: as in DVC.
        upstream, after: places of the stages that it waits for.
        seconds: how long it took before this run, if that is known.
        log: where its output is, if it has printed anything.
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
        """Of the phase that it is in."""
        return self.phases[-1][2] if self.phases else {}

    @property
    def over(self) -> bool:
        return self.phase in ("done", "failed", "skipped", "stopped")

    @property
    def started(self) -> Optional[float]:
        """When it got a slot."""
        return next((t for t, phase, _ in self.phases if phase != "ready"), None)

    @property
    def ended(self) -> Optional[float]:
        return self.phases[-1][0] if self.over else None


@dataclass
class Run:
    """A run, as far as its journal goes.

    Attributes:
        folder: of its record.
        header: the first line of the journal.
        stages: in the order of serial DVC.
        end: "ok", "failed" or "interrupted"; None if the journal does not say.
        last: time of the last line, in seconds since the start.
    """

    folder: str
    header: dict[str, Any]
    stages: list[Stage]
    end: Optional[str] = None
    last: float = 0.0

    @property
    def id(self) -> str:
        return os.path.basename(self.folder)

    @property
    def started(self) -> datetime:
        return datetime.fromisoformat(self.header["started"])

    @property
    def goes_on(self) -> bool:
        return self.end is None and _is_alive(self.header)

    @property
    def state(self) -> str:
        """ "running", "ok", "failed", "interrupted" or "killed"."""
        return self.end or ("running" if self.goes_on else "killed")

    @property
    def now(self) -> float:
        """Seconds from its start to now, or to its end."""
        if not self.goes_on:
            return self.last
        return (datetime.now(timezone.utc) - self.started).total_seconds()


class Runs:
    """The records that there are of the runs of a repo.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
    """

    def __init__(self, tmp_dir: str):
        self._folder = os.path.join(tmp_dir, "parallel", "runs")

    def folder(self, run_id: str) -> str:
        return os.path.join(self._folder, run_id)

    def ids(self) -> list[str]:
        """IDs of runs, the oldest first."""
        try:
            return sorted(
                entry.name for entry in os.scandir(self._folder) if entry.is_dir()
            )
        except OSError:
            return []

    def load(self, run_id: Optional[str] = None) -> Run:
        """Read a record; without ``run_id`` the last one.

        Raises:
            RecordError: there is none, or it cannot be read.
        """
        ids = self.ids()
        if run_id is None:
            if not ids:
                raise RecordError(
                    "no run has been recorded yet; `dvc repro` with more than one job "
                    "does that"
                )
            run_id = ids[-1]
        elif run_id not in ids:
            known = f"those are {', '.join(ids)}" if ids else "there are none"
            raise RecordError(f"'{run_id}' is none of the recorded runs; {known}")
        return read(self.folder(run_id))

    def goes_on(self, run_id: str) -> bool:
        """Whether a run has not ended yet; one that cannot be read has."""
        try:
            return read(self.folder(run_id)).goes_on
        except RecordError:
            return False


def read(folder: str) -> Run:
    """Read the record in a folder.

    Lines that make no sense are left out, such as one that is being written.

    Raises:
        RecordError: not even its first line can be read.
    """
    path = os.path.join(folder, JOURNAL)
    try:
        with open(path, "rb") as fobj:
            entries = _entries(fobj.read())
        run = _begin(folder, next(entries))
    except OSError as exc:
        raise RecordError(f"cannot read {path}: {exc.strerror}") from exc
    except (StopIteration, KeyError, TypeError, ValueError, AttributeError):
        raise RecordError(f"{path} is not the journal of a run") from None
    if run.header.get("format") != FORMAT:
        raise RecordError(f"{path} was written by another version of dvc-parallel")
    for entry in entries:
        with suppress(KeyError, IndexError, TypeError, ValueError):
            _add(run, entry)
    return run


def _entries(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry


def _begin(folder: str, header: dict[str, Any]) -> Run:
    datetime.fromisoformat(header["started"])
    logs = os.path.join(folder, LOGS)
    stages = [
        Stage(
            str(stage["name"]),
            stage.get("upstream", []),
            stage.get("after", []),
            stage.get("seconds"),
            os.path.join(logs, log_name(rank, str(stage["name"]))),
        )
        for rank, stage in enumerate(header["stages"])
    ]
    return Run(folder, header, stages)


def _add(run: Run, entry: dict[str, Any]) -> None:
    time = float(entry["t"])
    if "end" in entry:
        run.end = str(entry["end"])
    else:
        details = {k: v for k, v in entry.items() if k not in ("t", "stage", "phase")}
        rank, phase = int(entry["stage"]), str(entry["phase"])
        if rank < 0:
            return
        run.stages[rank].phases.append((time, phase, details))
    run.last = time


def _is_alive(header: dict[str, Any]) -> bool:
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
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
