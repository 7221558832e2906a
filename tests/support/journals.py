"""Records of runs that never were: plans carried out on a virtual clock."""

import heapq
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from dvc_parallel.engine import plan
from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.plan import Plan
from dvc_parallel.reporting.records.reader import read
from dvc_parallel.reporting.report.summary import Summary
from dvc_parallel.reporting.report.timeline import timeline

STARTED = "2026-11-21T09:30:00.000+01:00"


@dataclass
class Journal:
    """Carries out a plan, and writes down what a run would have.

    Attributes:
        upstream: stages that each stage depends on, by their places.
        commands: seconds that the command of each takes, None for an unchanged one.
        names: of the stages.
        failing: stages that fail at the end of their command.
        lock, check, save: seconds that each of these takes.
        used: what the commands of stages use.
        command: what was called.
        pool: stages that are told to wait for a pool, not for a slot.
        killed_at: when the records end.
    """

    upstream: Mapping[int, list[int]]
    commands: list
    jobs: int = 2
    names: list = field(default_factory=list)
    failing: frozenset = frozenset()
    on_error: str = "fail"
    lock: float = 0.0
    check: float = 0.0
    save: float = 0.0
    used: Mapping[int, dict] = field(default_factory=dict)
    pool: frozenset = frozenset()
    id: str = "20261121-083000-test"
    command: str = ""
    killed_at: float = float("inf")

    def __post_init__(self):
        count = len(self.commands)
        self.names = self.names or [f"s{stage}" for stage in range(count)]
        self.plan = Plan(
            range(count), self.upstream, jobs=self.jobs, on_error=self.on_error
        )
        self.entries: list[dict] = []
        self._now = 0.0
        self._order = 0
        self._events: list = []

    @property
    def header(self) -> dict:
        return {
            "format": 2,
            "id": self.id,
            "started": STARTED,
            "jobs": self.jobs,
            "on_error": self.on_error,
            "command": self.command or f"dvc repro -j {self.jobs}",
            "pid": 2**30,
            "dvc": "3.67.1",
            "dvc_parallel": "0.1.0",
            "stages": [
                {
                    "name": name,
                    "upstream": sorted(self.upstream.get(stage, ())),
                    "after": [],
                    "seconds": None,
                }
                for stage, name in enumerate(self.names)
            ],
        }

    def _at(self, when, what, *args) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, what, args))

    def _tell(self, stage, phase, **details) -> None:
        entry = {"t": round(self._now, 6), "stage": stage, "phase": phase}
        self.entries.append({**entry, **details})

    def _carry_out(self, instructions) -> None:
        for instruction in instructions:
            stage = instruction.stage
            if isinstance(instruction, plan.Wait):
                pool = {"pool": "gpu"} if stage in self.pool else {}
                self._tell(stage, "ready", **pool)
            elif isinstance(instruction, plan.Skip):
                self._tell(stage, "not run", failed=instruction.failed)
            else:
                self._start(stage)

    def _start(self, stage) -> None:
        when = self._now
        for phase, seconds in (("lock", self.lock), ("check", self.check)):
            self._at(when, self._tell, stage, phase)
            when += seconds
        seconds = self.commands[stage]
        if seconds is None:
            self._at(when, self._over, stage, False)
            return
        self._at(when, lambda: self._tell(stage, "command", cmd=f"python {stage}.py"))
        self._at(when + seconds, self._command_ended, stage)

    def _command_ended(self, stage) -> None:
        if stage in self.failing:
            error = f"failed to reproduce '{self.names[stage]}'"
            self._tell(stage, "failed", error=error)
            self._carry_out(self.plan.handle(plan.Failed(stage)))
            return
        used = {"used": self.used[stage]} if stage in self.used else {}
        self._tell(stage, "lock", **used)
        self._at(self._now + self.lock, self._tell, stage, "save")
        self._at(self._now + self.lock + self.save, self._over, stage, True)
        self._carry_out(self.plan.handle(plan.CommandEnded(stage)))

    def _over(self, stage, changed) -> None:
        owned = self.check + (self.save if changed else 0.0)
        self._tell(stage, "ran" if changed else "unchanged", owned=owned)
        self._carry_out(self.plan.handle(plan.Finished(stage, changed)))

    def lines(self) -> list[dict]:
        """All entries of the journal, header and end included."""
        self._carry_out(self.plan.handle(plan.Begun()))
        while self._events and self._events[0][0] <= self.killed_at:
            self._now, _, what, args = heapq.heappop(self._events)
            what(*args)
        lines: list[dict] = [self.header, *self.entries]
        if not self._events:
            failed = any(entry["phase"] == "failed" for entry in self.entries)
            end = "failed" if failed else "ok"
            lines.append({"t": round(self._now, 6), "end": end})
        return lines

    def write(self, runs):
        """Write the record of the run into a folder of runs."""
        folder = runs / self.id
        (folder / "logs").mkdir(parents=True)
        text = "".join(f"{json.dumps(line)}\n" for line in self.lines())
        (folder / "journal.jsonl").write_text(text)
        return folder


def large(count=3000, jobs=16, seed=0, **kwargs) -> Journal:
    """A pipeline of many stages, each with a few upstreams among the last ones."""
    rng = random.Random(seed)
    upstream: dict[int, list[int]] = {}
    commands: list = []
    names = []
    for stage in range(count):
        last = range(max(0, stage - 120), stage)
        ups = rng.sample(last, min(len(last), rng.choice((0, 1, 1, 2, 3))))
        upstream[stage] = sorted(ups)
        commands.append(None if rng.random() < 0.05 else rng.lognormvariate(1, 1))
        kind = rng.choice(("prepare", "features", "train", "evaluate"))
        names.append(f"{kind}@{stage:04}")
    settings = {"lock": 0.02, "check": 0.05, "save": 0.3, **kwargs}
    return Journal(upstream, commands, jobs, names, **settings)


def summed_up(journal, folder):
    """A run with a journal, as it is read from a folder, and its summary."""
    run = read(OwnFolder(str(journal.write(folder))))
    return run, Summary(timeline(run.stages, journal.jobs, run.last))
