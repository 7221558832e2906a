"""Runs stages one after the other in a copy, and sees what they do to files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

import networkx as nx
from dvc.exceptions import DvcException

from dvc_parallel.commands.dry_run import Step
from dvc_parallel.commands.workspace_copy import (
    WorkspaceCopy,
    copy_of,
    plain_lines,
    rerun,
)
from dvc_parallel.engine.local_runner import LocalRunner
from dvc_parallel.engine.runner import Command, OnStart, Output, Runner, ignore_start
from dvc_parallel.engine.terminal import plural, visible
from dvc_parallel.processes.supervisor import RunSupervisor
from dvc_parallel.run.code_files import is_in
from dvc_parallel.run.missing_files import save_written
from dvc_parallel.run.parallel_run import ParallelRun
from dvc_parallel.run.stage_run import current_stage_run

from .audit_hook import AuditHook
from .findings import Finding, StageTrace, find
from .scope import Scope
from .strace import Strace
from .used_files import UsedFiles

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dvc.repo import Repo
    from dvc.stage import Stage

    from dvc_parallel.backport.repro import PendingRun

    Tracer = Union[Strace, AuditHook]

LIMITED = (
    "Seen by Python's audit hooks, as {}: what programs other than Python read and "
    "write is not known."
)
CALLED_OFF = "not run, as '{}' has failed"


@dataclass
class Tracing:
    """What was found.

    Attributes:
        traces: what the stages that were run have done, in the order of serial DVC.
        skipped: why other stages were not run, by their names.
        tracer: by what it was seen: "strace" or "Python's audit hooks".
        limits: why not by strace.
        root: of the workspace.
    """

    traces: list[StageTrace] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    tracer: str = Strace.name
    limits: str = ""
    root: str = ""

    @property
    def findings(self) -> list[Finding]:
        return [finding for one in self.traces for finding in one.findings]

    @property
    def passed(self) -> bool:
        """Whether stages can run side by side, as far as is known."""
        return not any(finding.is_error for finding in self.findings)

    def missing_deps(self, stage: "Stage") -> tuple[list[str], list[str]]:
        """What is to be added to the dependencies of a stage, as dvc.yaml has paths."""
        wdir = os.path.realpath(stage.wdir)
        found = [
            finding.dep
            for one in self.traces
            for finding in one.findings
            if one.name == stage.addressing and finding.dep
        ]
        return [
            os.path.relpath(dep, wdir).replace(os.sep, "/")
            if is_in(dep, self.root)
            else dep
            for dep in dict.fromkeys(found)
        ], []

    def lines(self) -> Iterator[str]:
        """All of it, in words."""
        for name, reason in self.skipped.items():
            yield f"skipped {visible(name)}: {reason}"
        errors = 0
        for one in self.traces:
            if one.findings:
                yield f"{visible(one.name)}:"
            for finding in one.findings:
                errors += finding.is_error
                begin = "error: " if finding.is_error else ""
                yield f"  {begin}{visible(str(finding))}"
        stages = plural(len(self.traces), "stage")
        others = plural(len(self.findings) - errors, "other finding")
        yield f"{stages}: {plural(errors, 'error')}, {others}."
        if self.limits:
            yield LIMITED.format(self.limits)


def trace(
    repo: "Repo",
    *,
    tell: Callable[[str], None] = lambda _: None,
    ignore: Sequence[str] = (),
    **kwargs: Any,
) -> Tracing:
    """Run stages in a copy of the workspace, and compare what they do with dvc.yaml.

    Args:
        tell: called with what is done next, in words.
        ignore: patterns of files that do not matter.
        kwargs: which stages, as for ``Repo.reproduce``.

    Raises:
        DvcException: inputs of stages are missing from the cache, or it fails for
            another reason than a stage.
    """
    tracing = Tracing()

    def choose(steps: list[Step]) -> list["Stage"]:
        stages = [step.stage for step in steps if step.stage.cmd]
        frozen = [stage.addressing for stage in stages if stage.frozen]
        tracing.skipped = dict.fromkeys(frozen, "is frozen")
        return [stage for stage in stages if not stage.frozen]

    with copy_of(
        repo, choose, tell, "with their files watched", anew=True, **kwargs
    ) as copied:
        if copied is None:
            return tracing
        place, other, stages = copied
        tracing.root = place.root
        strace, tracing.limits = Strace.find()
        tracer = strace or AuditHook(place.own_file("hook"))
        tracing.tracer = tracer.name
        scope = Scope(
            place.root,
            place.copy,
            is_ignored=other.dvcignore.is_ignored_file,
            patterns=ignore,
            folders=[repo.cache.local.path] if repo.cache.local is not None else [],
        )
        names = {stage.addressing for stage in stages}
        tracing.traces = _Run(other, place, tracer, scope, names).run(**kwargs)
        find(tracing.traces, other, scope)
        with suppress(OSError):
            save_written(repo.tmp_dir, _undeclared(tracing.traces, stages, place))
    return tracing


def _raise_error(cause: Optional[Exception], *_stages: "Stage") -> None:
    """Stands in for DVC's, which older releases do not have; stages do not fail."""
    if cause:
        raise cause


def _undeclared(
    traces: Sequence[StageTrace], stages: Sequence["Stage"], place: WorkspaceCopy
) -> dict["Stage", list[str]]:
    """What stages write and do not declare, from the root of the repo."""
    by_name = {stage.addressing: stage for stage in stages}
    found = {}
    for one in traces:
        stage = by_name[one.name]
        top = os.path.relpath(stage.repo.root_dir, place.copy)
        root = os.path.normpath(os.path.join(place.root, top))
        left = one.used.left.difference(*(entry.names for entry in one.outs))
        found[stage] = [os.path.relpath(it, root) for it in left if is_in(it, root)]
    return found


class _TracingRunner(Runner):
    """Has each command of a runner traced.

    Args:
        new_trace: called with each command, in the thread of its stage; gives the path
            of its trace.
    """

    def __init__(
        self, runner: Runner, tracer: "Tracer", new_trace: Callable[[Command], str]
    ):
        self._runner = runner
        self._tracer = tracer
        self._new_trace = new_trace

    def run(
        self, command: Command, output: Output, on_start: OnStart = ignore_start
    ) -> int:
        traced = self._tracer.wrap(command, self._new_trace(command))
        return self._runner.run(traced, output, on_start)

    def signal(self, signum: int) -> None:
        self._runner.signal(signum)

    def stopped(self) -> "AbstractContextManager[None]":
        return self._runner.stopped()

    def close(self) -> None:
        self._runner.close()


class _Run:
    """Runs the stages of a copy that have some names."""

    def __init__(
        self,
        repo: "Repo",
        place: WorkspaceCopy,
        tracer: "Tracer",
        scope: Scope,
        names: set[str],
    ):
        self._repo = repo
        self._place = place
        self._tracer = tracer
        self._scope = scope
        self._names = names
        self._upstream: nx.DiGraph
        self._run: ParallelRun
        # of the stage that runs: the commands so far, each with its trace and folder
        self._files: list[tuple[str, str]] = []
        self._traces: dict[str, StageTrace] = {}

    def run(self, **kwargs: Any) -> list[StageTrace]:
        self._repo.reproduce(
            force=True, no_commit=True, run_cache=False, instead=self._take, **kwargs
        )
        return [*self._traces.values()]

    def _take(self, run: "PendingRun") -> None:
        parallel = run.side_by_side()
        if parallel is None:
            raise DvcException("stages with checkpoints cannot be traced")
        self._upstream = parallel.graph
        steps = [s for s in parallel.steps if s.addressing in self._names]
        # NOTE: one after the other, as serial DVC has them: what is not declared may
        # depend on that
        chain = nx.DiGraph(zip(steps[1:], steps))
        chain.add_nodes_from(steps)
        runner = LocalRunner(RunSupervisor(self._repo.tmp_dir))
        self._run = ParallelRun(
            steps,
            chain,
            1,
            repro_fn=self._reproduce,
            raise_error=_raise_error,
            reporters=[plain_lines()],
            runner=_TracingRunner(runner, self._tracer, self._new_trace),
            force=True,
            no_commit=True,
            run_cache=False,
        )
        run.perform(self._run)

    def _new_trace(self, command: Command) -> str:
        stage_run = current_stage_run()
        assert stage_run
        path = self._place.own_file(f"trace{len(self._files)}")
        self._files.append((path, command.cwd or os.getcwd()))
        return path

    def _reproduce(self, stage: "Stage", **kwargs: Any) -> Optional["Stage"]:
        used = UsedFiles(self._scope.place)
        rank = self._run.steps.index(stage)
        pools = self._run.provision.needs(rank).pools
        found = StageTrace(stage, used, self._scope, pools)
        self._traces[stage.addressing] = found
        for above in nx.descendants(self._upstream, stage):
            before = self._traces.get(above.addressing)
            if before and before.error:
                found.error = CALLED_OFF.format(before.name)
                return None
        self._files = []
        begun = self._place.now()
        found.error = rerun(self._run, stage, **kwargs)
        for path, folder in self._files:
            self._read(found, path, folder)
        used.settle(
            partial(self._is_changed, begun),
            lambda name: os.path.isdir(self._scope.in_copy(name)),
        )
        # NOTE: a stage that has failed is not shown as one that ran
        return stage if found.error is None else None

    def _read(self, found: StageTrace, path: str, folder: str) -> None:
        try:
            lost, line = self._tracer.read(path, folder, found.used)
            os.unlink(path)
        except FileNotFoundError:
            lost, line = 1, "none"
        found.lost += lost
        found.lost_line = found.lost_line or line

    def _is_changed(self, since: int, name: str) -> bool:
        try:
            return os.stat(self._scope.in_copy(name)).st_mtime_ns >= since
        except OSError:
            return True  # it has been removed
