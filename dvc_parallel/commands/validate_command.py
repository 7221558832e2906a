"""``dvc-parallel validate``: are stages reproducible?

Each stage is run again in a copy, from its recorded inputs, in the order of a run, side
by side, as in ``dvc repro --force``.  But it finds what dvc.lock says in its
dependencies, whatever those before it have made this time: the recorded outputs are put
aside while a stage runs, and come back if they are not what it has made.  So a stage is
to blame for its own outputs only.
"""

import os
from collections.abc import Iterable
from copy import copy
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Optional

import shortuuid
from dvc.cli.command import CmdBase
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.ui import ui

from dvc_parallel.backport.repro import PendingRun
from dvc_parallel.engine.terminal import plural, visible
from dvc_parallel.remote.clones.leaves import remove
from dvc_parallel.run.parallel_run import ParallelRun

from .dry_run import Step
from .shown import ShowsSafely, error_write, stdout_for, write
from .workspace_copy import copy_of, plain_lines, rerun

# Version of what `Validation.as_dict` returns; new keys do not change it.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Difference:
    """An output that is not as recorded.

    Attributes:
        path: of the output, from the current folder.
        recorded: its hash in dvc.lock.
        found: its hash now; None if there is no output.
    """

    path: str
    recorded: str
    found: Optional[str]

    def __str__(self) -> str:
        """In words; ``--json`` has the whole hashes."""
        found = f"has hash {self.found[:8]}" if self.found else "is missing"
        recorded = self.recorded[:8] if self.recorded else "none"
        return f"{visible(self.path)} {found}, dvc.lock has {recorded}"


@dataclass
class Verdict:
    """The result for a stage.

    Attributes:
        error: why it failed, if it did.
    """

    name: str
    differences: list[Difference] = field(default_factory=list)
    error: Optional[str] = None

    @property
    def state(self) -> str:
        if self.error is not None:
            return "failed"
        return "different" if self.differences else "reproducible"


@dataclass(frozen=True)
class Validation:
    """The results for all stages.

    Attributes:
        verdicts: on those that were run, in the order of serial DVC.
        skipped: why others were not, by their names.
    """

    verdicts: list[Verdict]
    skipped: dict[str, str]

    @property
    def passed(self) -> bool:
        return all(verdict.state == "reproducible" for verdict in self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for ``--json``; described in docs/validate.md."""
        return {
            "version": SCHEMA_VERSION,
            "reproducible": self.passed,
            "stages": [
                {
                    "name": verdict.name,
                    "state": verdict.state,
                    "differences": [asdict(one) for one in verdict.differences],
                    "error": verdict.error,
                }
                for verdict in self.verdicts
            ],
            "skipped": [
                {"name": name, "reason": reason}
                for name, reason in self.skipped.items()
            ],
        }


class CmdValidate(ShowsSafely, CmdBase):
    def run(self) -> int:
        with stdout_for(scripts=self.args.json):
            validation = validate(
                self.repo,
                targets=self.args.targets,
                jobs=self.args.jobs,
                recursive=self.args.recursive,
                glob=self.args.glob,
                all_pipelines=self.args.all_pipelines,
                tell=error_write,
            )
        if self.args.json:
            ui.write_json(validation.as_dict())
        else:
            _show(validation)
        return 0 if validation.passed else 1


def _show(validation: Validation) -> None:
    for name, reason in validation.skipped.items():
        write(f"skipped {visible(name)}: {reason}")
    verdicts = validation.verdicts
    bad = [verdict for verdict in verdicts if verdict.state != "reproducible"]
    for verdict in bad:
        what = verdict.error or "; ".join(map(str, verdict.differences))
        write(f"{visible(verdict.name)}: {what}")
    are = "is" if len(verdicts) == 1 else "are"
    total = plural(len(verdicts), "stage")
    write(f"{len(verdicts) - len(bad)} of {total} {are} reproducible.")


def validate(
    repo: Repo,
    *,
    tell: Callable[[str], None] = lambda _: None,
    **kwargs: Any,
) -> Validation:
    """Run stages again in a copy of the workspace, and compare their outputs.

    Args:
        repo: a repo whose stages are up to date; nothing in it is changed.
        tell: called with what is done next, in words.
        kwargs: which stages and how, as for ``Repo.reproduce``.

    Raises:
        DvcException: stages have not run, or are not up to date, or their inputs are
            missing from the cache.
    """
    skipped: dict[str, str] = {}

    def choose(steps: list[Step]) -> list[Stage]:
        unfit = ((step.stage.addressing, _unfit(step.stage)) for step in steps)
        skipped.update({name: reason for name, reason in unfit if reason})
        chosen = [step for step in steps if step.stage.addressing not in skipped]
        _check_that_all_are_up_to_date(chosen)
        return [step.stage for step in chosen]

    with copy_of(repo, choose, tell, "again", **kwargs) as copied:
        if copied is None:
            return Validation([], skipped)
        _, other, stages = copied
        names = [stage.addressing for stage in stages]
        validator = _Validator(other, set(names))
        validator.run(**kwargs)
    return Validation([validator.verdicts[name] for name in names], skipped)


def _unfit(stage: Stage) -> Optional[str]:
    """Why a stage cannot be validated; None if it can."""
    reasons = {
        "has no command": not stage.cmd,
        "is frozen": stage.frozen,
        "always runs": stage.always_changed or stage.is_callback,
        "has no outputs": not stage.outs,
    }
    for out in stage.outs:
        grows = out.persist or getattr(out, "checkpoint", False)
        reasons[f"'{out}' builds on its previous content"] = grows
        elsewhere = out.protocol != "local" or not out.is_in_repo
        reasons[f"'{out}' is outside of the repo"] = elsewhere
    return next((reason for reason, holds in reasons.items() if holds), None)


def _check_that_all_are_up_to_date(steps: Iterable[Step]) -> None:
    stale = {}
    for step in steps:
        # NOTE: it does not matter that something before it always runs
        reasons = [str(reason) for reason in step.reasons if reason.kind != "upstream"]
        if reasons:
            stale[step.stage.addressing] = ", ".join(reasons)
    if stale:
        lines = [f"{name}: {why}" for name, why in stale.items()]
        raise DvcException(
            "these stages are not up to date, so there is nothing to compare with; "
            "run `dvc repro` (or `dvc checkout`) first:\n  " + "\n  ".join(lines)
        )


class _Validator:
    """Runs the stages of a copy.

    Attributes:
        verdicts: on stages that have ended; written by the owner of the repo.
    """

    _run: ParallelRun

    def __init__(self, repo: Repo, names: set[str]):
        self._repo = repo
        self._names = names
        self._kept = os.path.join(repo.tmp_dir, "recorded")
        self.verdicts: dict[str, Verdict] = {}

    def run(self, **kwargs: Any) -> None:
        self._repo.reproduce(
            force=True, no_commit=True, run_cache=False, instead=self._take, **kwargs
        )

    def _take(self, run: PendingRun) -> None:
        parallel = run.side_by_side(repro_fn=self._check, reporters=[plain_lines()])
        if parallel is None:
            raise DvcException("stages with checkpoints cannot be validated")
        self._run = parallel
        run.perform(parallel)

    def _check(self, stage: Stage, **kwargs: Any) -> Optional[Stage]:
        """Run a stage, if it is one of those asked for, and see what it makes."""
        if stage.addressing not in self._names:
            return None
        verdict = Verdict(stage.addressing)
        recorded = [copy(out) for out in stage.outs]
        kept = [self._put_aside(out) for out in recorded]
        verdict.error = _changed_input(stage) or rerun(self._run, stage, **kwargs)
        if verdict.error is None:
            changed = [out for out in recorded if out.workspace_status()]
            verdict.differences = [_difference(out) for out in changed]
        for out, path in zip(recorded, kept):
            _bring_back(out, path)
        self.verdicts[verdict.name] = verdict
        # NOTE: a stage that has failed is not shown as one that ran
        return stage if verdict.error is None else None

    def _put_aside(self, out: Output) -> Optional[str]:
        if not os.path.lexists(out.fs_path):
            return None
        os.makedirs(self._kept, exist_ok=True)
        path = os.path.join(self._kept, shortuuid.uuid())
        os.rename(out.fs_path, path)
        return path


def _changed_input(stage: Stage) -> Optional[str]:
    """What is wrong with a dependency that another stage has changed, if one has."""
    for dep in stage.deps:
        if dep.protocol == "local" and dep.status():
            return (
                f"dependency '{dep}' of '{stage.addressing}' is not as recorded: "
                "another stage has changed it"
            )
    return None


def _difference(out: Output) -> Difference:
    found = out.get_hash().value if out.exists else None
    return Difference(str(out), out.hash_info.value, found)


def _bring_back(out: Output, kept: Optional[str]) -> None:
    """Restore an output as recorded, for the stages that depend on it."""
    if kept is None:
        return
    if out.workspace_status():
        remove(out.fs_path)
        os.rename(kept, out.fs_path)
    else:
        remove(kept)
