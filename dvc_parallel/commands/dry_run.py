"""Which stages a run would reproduce, and why.

DVC goes through the stages as usual and decides about each of them, forced ones
included; where it would run a stage, a note is taken instead.  DVC cannot know what
those stages would write, so a stage that depends on one of them only *may* run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from dvc.exceptions import DvcException, ReproductionError

from dvc_parallel.caches.bookkeeping import Bookkeeping, current_books
from dvc_parallel.engine import logger
from dvc_parallel.engine.path_conflicts import real_paths_of
from dvc_parallel.engine.path_locks import OthersPathLocks
from dvc_parallel.engine.plan import Plan
from dvc_parallel.engine.stage_paths import StagePaths
from dvc_parallel.remote.choose_runner import LOCAL, SLURM

from .shown import quiet

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

    from dvc_parallel.backport.repro import PendingRun
    from dvc_parallel.engine.real_paths import RealPaths
    from dvc_parallel.run.parallel_run import ParallelRun


MISSING = ("deleted", "not in cache")

# Kinds of reasons, by what the status of a stage calls them.
STATUS = {
    "changed command": "command",
    "changed checksum": "definition",
    "changed deps": "dependency",
    "changed outs": "output",
}

# What DVC's words for states stand for.
WORDS = {
    "modified": "changed",
    "deleted": "missing",
    "not in cache": "uncached",
    "new": "new",
}


@dataclass(frozen=True)
class Reason:
    """Why a stage would run.

    Attributes:
        kind: "forced", "never run", "command", "definition", "always changed",
            "dependency", "param", "output", or "upstream" for a stage that would run
            before it.
        name: of a dependency, an output, a param or a stage.
        state: of a dependency, an output or a param, in DVC's words.
        file: of a param.
    """

    kind: str
    name: Optional[str] = None
    state: Optional[str] = None
    file: Optional[str] = None

    def __str__(self) -> str:
        if self.kind in ("command", "definition"):
            return f"changed {self.kind}"
        if self.name is None:
            # NOTE: one that has failed is not there, either
            return "not in dvc.lock" if self.kind == "never run" else self.kind
        state = WORDS.get(self.state or "", self.state)
        return f"{state} {self.kind} {self.name}"


@dataclass
class Step:
    """A stage that a run would come to.

    Attributes:
        upstream: ranks of steps that it depends on, as far as they come before it.
        after: ranks of steps that it waits for without depending on them.
        certain: whether it runs whatever those before it will have written.
        reasons: why it runs, or may run; none if it does not.
    """

    stage: "Stage"
    upstream: set[int]
    after: set[int]
    certain: bool
    reasons: list[Reason]

    @property
    def runs(self) -> bool:
        return bool(self.reasons)

    @property
    def has_command(self) -> bool:
        """Whether its outputs may be others when it has run."""
        stage = self.stage
        return not stage.frozen and bool(stage.cmd or stage.is_import)


class DryRun:
    """A run that changes nothing: which stages it would reproduce, and why.

    Attributes:
        steps: the stages that it would come to, in the order of serial DVC.
        error (str): why it could not run with more than one job, if it cannot.
        make_plan: makes plans for its steps, which go by their ranks.
        growth: tells of a step what its attempts take of pools, where that differs.
    """

    def __init__(self) -> None:
        self.make_plan: Callable[..., Plan] = Plan
        self.growth: Callable[[int], dict[str, list[int]]] = lambda _: {}
        self.steps: list[Step] = []
        self.jobs = 1
        self.runner = LOCAL
        self.side_by_side = True
        self._pulls = False
        self.error: Optional[str] = None
        self._ranks: dict[Stage, int] = {}
        self._graph: Any = None
        self._after: list[set[int]] = []
        self._paths: RealPaths

    @classmethod
    def of(cls, repo: "Repo", **kwargs: Any) -> "DryRun":
        """Find out which stages a run would run, with arguments of ``Repo.reproduce``.

        Raises:
            DvcException: as ``Repo.reproduce``, before it comes to commands; or another
                process writes to what stages read.
        """
        dry_run = cls()
        # NOTE: what could be pulled is not known without asking the remote
        dry_run._pulls = bool(kwargs.get("pull") and not kwargs.get("allow_missing"))
        kwargs["allow_missing"] = kwargs.get("allow_missing") or kwargs.get("pull")
        kwargs.update(dry=True, interactive=False, pull=False)
        try:
            with quiet():
                repo.reproduce(**kwargs, instead=dry_run._take)
        except ReproductionError as exc:
            raise DvcException("cannot plan the run") from exc.__cause__ or exc
        return dry_run

    def _take(self, run: "PendingRun") -> None:
        self._paths = real_paths_of(run.repo)
        self.runner = run.runner
        parallel = self._side_by_side(run)
        if parallel is None:
            self.side_by_side = False
            self._graph = run.repo.index.graph
        else:
            self.jobs = run.jobs
            self.make_plan = parallel.provision.make_plan
            self.growth = parallel.provision.growth
            self._graph = parallel.graph
            self._after = [set(stage.after) for stage in parallel.info.stages]
        run.dry_run(_Books(self, run.repo.tmp_dir))

    def _side_by_side(self, run: "PendingRun") -> "Optional[ParallelRun]":
        try:
            return run.side_by_side(elsewhere=run.runner not in (LOCAL, SLURM))
        except DvcException as exc:
            # NOTE: with one job, DVC runs the stages by itself, whatever they ask for
            if run.jobs > 1:
                raise
            self.error = str(exc)
            logger.warning("with more than one job, this is an error: %s", exc)
            return None

    def begin(self, stage: "Stage") -> None:
        """Take note of a stage that DVC comes to."""
        # NOTE: a frozen stage does not depend on others
        others = () if stage.frozen else self._graph.successors(stage)
        upstream = {self._ranks[it] for it in others if it in self._ranks}
        rank = self._ranks[stage] = len(self.steps)
        after = self._after[rank] if self.side_by_side else set()
        self.steps.append(Step(stage, upstream, after, False, []))

    def cannot_skip(self, stage: "Stage") -> bool:
        """Whether a stage that lacks data is to be pulled, and never can have been."""
        return self._pulls and _has_never_run(stage)

    def would_run(
        self, stage: "Stage", *, force: bool = False, allow_missing: bool = False
    ) -> None:
        """Take note of a stage that DVC would run as things are now."""
        step = self.steps[-1]
        if force:
            step.reasons, step.certain = [Reason("forced")], True
            return
        writers = [self.steps[rank] for rank in self._that_run(step)]
        paths = [out.fs_path for writer in writers for out in writer.stage.outs]
        step.reasons = _reasons(stage, allow_missing) or [Reason("definition")]
        meet = self._paths.meet
        passing = {
            str(dep)
            for dep in stage.deps
            if dep.hash_info and any(meet(dep.fs_path, path) for path in paths)
        }
        step.certain = not all(
            reason.kind in ("dependency", "param")
            and (reason.file or reason.name) in passing
            for reason in step.reasons
        )

    def end(self) -> bool:
        """Whether the stage that DVC has just dealt with is certain to run."""
        step = self.steps[-1]
        if not step.certain and not step.stage.frozen:
            step.reasons += [
                Reason("upstream", self.steps[rank].stage.addressing)
                for rank in sorted(self._that_run(step))
            ]
        return step.certain

    def _that_run(self, step: Step) -> set[int]:
        """Ranks of steps that run before another and can change what it reads."""
        upstream = {rank for rank in step.upstream if self.steps[rank].has_command}
        return {rank for rank in upstream | step.after if self.steps[rank].runs}


def _has_never_run(stage: "Stage") -> bool:
    entries = [*stage.deps, *stage.outs]
    return bool(stage.cmd and entries) and not any(it.hash_info for it in entries)


def _reasons(stage: "Stage", allow_missing: bool) -> list[Reason]:
    """The reasons that DVC's status gives for a stage."""
    if _has_never_run(stage):
        return [Reason("never run")]
    status = stage.status().get(stage.addressing, ())
    reasons = [reason for entry in status for reason in _reasons_in(entry)]
    if stage.frozen:
        reasons = [reason for reason in reasons if reason.kind != "always changed"]
    there = [reason for reason in reasons if reason.state not in MISSING]
    return there if allow_missing and there else reasons


def _reasons_in(entry: Union[str, dict]) -> Iterator[Reason]:
    if isinstance(entry, str):
        yield Reason(STATUS.get(entry, entry))
        return
    for part, states in entry.items():
        for name, state in states.items():
            if isinstance(state, dict):
                for param, what in state.items():
                    yield Reason("param", param, what, name)
            else:
                yield Reason(STATUS.get(part, part), name, state)


class _Books(Bookkeeping):
    def __init__(self, dry_run: DryRun, tmp_dir: str):
        super().__init__(tmp_dir)
        self.dry_run = dry_run
        self.path_locks = OthersPathLocks()
        self.paths = StagePaths(self.path_locks, looks_first=False, goes_back=False)


def reproduce(original: Callable, stage: "Stage", *args: Any, **kwargs: Any) -> Any:
    books = current_books()
    if not isinstance(books, _Books):
        return original(stage, *args, **kwargs)
    books.dry_run.begin(stage)
    if books.dry_run.cannot_skip(stage):
        kwargs["allow_missing"] = False
    original(stage, *args, **kwargs)
    return stage if books.dry_run.end() else None


def run(original: Callable, stage: "Stage", *args: Any, **kwargs: Any) -> None:
    books = current_books()
    if not isinstance(books, _Books):
        original(stage, *args, **kwargs)
        return
    books.dry_run.would_run(
        stage,
        force=kwargs.get("force", False),
        allow_missing=kwargs.get("allow_missing", False),
    )
