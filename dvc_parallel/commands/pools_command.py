"""``dvc-parallel pools``: what there is, who takes it, and what stages should take."""

from collections.abc import Iterator, Mapping, Sequence

from dvc.cli.command import CmdBase
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.utils import relpath

from dvc_parallel.reporting.records import Runs
from dvc_parallel.scheduling.pools import MUTEX
from dvc_parallel.scheduling.resources import declared, machine_pools

from .shown import ShowsSafely, table, write
from .sizes import Use, group_name, uses
from .undeclared import entries_of

HEAD = """\
# What stages used at most in the runs that are recorded, and a tenth more memory.
# `mem` is in GiB. For a machine: `dvc config --local core.parallel_pools auto`."""


class CmdPools(ShowsSafely, CmdBase):
    def run(self) -> int:
        stages = [stage for stage in self.repo.index.stages if stage.cmd]
        if self.args.suggest:
            for line in _suggestions(self.repo, stages):
                write(line, force=True)
        else:
            _show(self.repo, stages)
        return 0


def _show(repo: Repo, stages: Sequence[Stage]) -> None:
    sizes = machine_pools(repo)
    takers: dict[str, dict[str, int]] = {name: {} for name in sizes}
    for stage in stages:
        group = group_name(stage.addressing)
        for name, amount in _taken(stage).items():
            by_group = takers.setdefault(name, {})
            by_group[group] = max(amount, by_group.get(group, 0))
    rows = []
    for name, by_group in takers.items():
        found = sizes.get(name, MUTEX)
        taken = ", ".join(f"{group}: {amount}" for group, amount in by_group.items())
        slots = ", ".join(found.names or ())
        rows.append((name, str(found.slots), slots or "-", taken or "-"))
    if rows:
        table(rows, headers=["pool", "size", "slots", "taken by"])
    else:
        write("There are no pools, and no stage takes one.")


def _taken(stage: Stage) -> Mapping[str, int]:
    needs = declared([stage])
    return needs[0].pools if needs else {}


def _suggestions(repo: Repo, stages: Sequence[Stage]) -> Iterator[str]:
    """Lines for each dvc.yaml, as they could be in it."""
    by_name = {stage.addressing: stage for stage in stages}
    known = uses(Runs(repo.tmp_dir).all(), by_name)
    if not known:
        raise DvcException(
            "it is not known what stages use, as none has run with more than one job "
            "yet: run `dvc repro -j`"
        )
    first = {group_name(name): stage for name, stage in reversed(by_name.items())}
    files: dict[str, list[Use]] = {}
    for use in known:
        if use.pools:
            files.setdefault(first[use.name].path, []).append(use)
    if not files:
        write("No stage uses so much that it needs a pool.")
        return
    yield HEAD
    for path, found in files.items():
        yield f"# {relpath(path)}"
        yield "stages:"
        for use in found:
            yield from _suggestion(use, first[use.name])


def _suggestion(use: Use, stage: Stage) -> Iterator[str]:
    (entry,) = entries_of([stage])
    yield f"  {entry.name}:  # {use}"
    indent = "    "
    if "do" in entry.definition:
        yield f"{indent}do:"
        indent += "  "
    pools = {**_taken(stage), **use.pools}
    listed = ", ".join(f"{pool}: {amount}" for pool, amount in pools.items())
    for line in ("meta:", "  parallel:", f"    pools: {{{listed}}}"):
        yield f"{indent}{line}"
