"""``dvc-parallel deps``: do stages declare the code that they use?"""

import os
from collections.abc import Iterable
from itertools import chain
from typing import Any, Optional

from dvc.cli.command import CmdBase
from dvc.exceptions import InvalidArgumentError
from dvc.repo import lock_repo
from dvc.ui import ui

from dvc_parallel.engine import logger
from dvc_parallel.engine.terminal import plural
from dvc_parallel.run.code_files import code_file, refresh, wanted

from .shown import ShowsSafely, error_write, stdout_for, write
from .stage_edits import add_deps
from .trace.findings import Finding
from .trace.run import Tracing, trace
from .undeclared import Entry, entries_lacking, find_undeclared

# Version of the JSON; new keys do not change it.
SCHEMA_VERSION = 1
IGNORED = (
    "git ignores '%s', which belongs to git; add the line '!.dvc-code/*.json' to the "
    "end of .gitignore"
)


class CmdDeps(ShowsSafely, CmdBase):
    def run(self) -> int:
        if self.args.trace:
            return self._trace()
        if self.args.ignore:
            raise InvalidArgumentError("--ignore needs --trace")
        with lock_repo(self.repo):
            entries = find_undeclared(self.repo, self._stages())
            if self.args.write:
                self._write(entries)
        if self.args.json:
            ui.write_json(_as_dict(entries if self.args.write else (), entries))
        else:
            _show(entries, written=self.args.write)
        missing = any(entry.missing for entry in entries)
        return 1 if self.args.check and missing else 0

    def _trace(self) -> int:
        with stdout_for(scripts=self.args.json):
            tracing = trace(
                self.repo,
                ignore=self.args.ignore,
                tell=error_write,
                targets=self.args.targets or None,
                recursive=self.args.recursive,
                glob=self.args.glob,
                all_pipelines=not self.args.targets,
            )
        if not self.args.json:
            for line in tracing.lines():
                write(line)
        entries: list[Entry] = []
        if self.args.write:
            with lock_repo(self.repo):
                entries = entries_lacking(self._stages(), tracing.missing_deps)
                self._write(entries)
        if self.args.json:
            ui.write_json(_as_dict(entries, tracing=tracing))
        else:
            _show_changes(entries)
        lacks = self.args.check and any(it.dep for it in tracing.findings)
        return 0 if tracing.passed and not lacks else 1

    def _stages(self) -> list:
        how = {"recursive": self.args.recursive, "glob": self.args.glob}
        targets = self.args.targets or [None]
        found = (self.repo.stage.collect(target, **how) for target in targets)
        return list(dict.fromkeys(chain.from_iterable(found)))

    def _write(self, entries: list[Entry]) -> None:
        files: dict[str, dict[str, list[str]]] = {}
        for entry in entries:
            if entry.missing:
                files.setdefault(entry.dvcfile, {})[entry.name] = entry.missing
        for path, deps in files.items():
            add_deps(path, self.repo.tmp_dir, deps)
        self.repo._reset()
        # NOTE: where the code of a stage is not understood, it has no file yet, and a
        # note says why
        stages = [it for it in self._stages() if code_file(it) or not wanted(it)]
        refresh(stages)
        for path in dict.fromkeys(filter(None, map(code_file, stages))):
            if self.repo.scm.is_ignored(path):
                logger.warning(IGNORED, os.path.relpath(path))


def _show(entries: list[Entry], written: bool) -> None:
    for entry in entries:
        if entry.missing or entry.notes:
            write(f"{entry.address}:")
        verb = "added" if written else "not declared"
        for path in entry.missing:
            write(f"  {verb}: {path}")
        for text in entry.notes:
            write(f"  {text}")
    count = sum(len(entry.missing) for entry in entries)
    if not count and not any(entry.notes for entry in entries):
        total = sum(len(entry.stages) for entry in entries)
        write(f"All modules are declared ({plural(total, 'stage')}).")
    elif count and not written:
        write(f"\n{plural(count, 'module')} not declared. Add with --write.")


def _as_dict(
    added: Iterable[Entry],
    entries: Iterable[Entry] = (),
    tracing: Optional[Tracing] = None,
) -> dict[str, Any]:
    """All of it, for ``--json``; described in docs/code.md."""
    found = {
        entry.address: [
            *(Finding("undeclared", path, dep=path) for path in entry.missing),
            *(Finding("note", detail=text) for text in entry.notes),
        ]
        for entry in entries
    }
    if tracing:
        found.update({one.name: one.findings for one in tracing.traces})
    skipped = tracing.skipped.items() if tracing else ()
    return {
        "version": SCHEMA_VERSION,
        "safe": tracing.passed if tracing else None,
        "seen_by": tracing.tracer if tracing else None,
        "stages": [
            {"name": name, "findings": list(map(_finding, them))}
            for name, them in found.items()
        ],
        "skipped": [{"name": name, "reason": reason} for name, reason in skipped],
        "added": [
            {"name": it.address, "deps": it.missing} for it in added if it.missing
        ],
    }


def _finding(it: Finding) -> dict[str, Any]:
    return {
        "kind": it.kind,
        "text": str(it),
        "path": it.path or None,
        "add": it.dep is not None,
        "error": it.is_error,
        "count": it.count,
        "others": list(it.others),
    }


def _show_changes(entries: list[Entry]) -> None:
    for entry in entries:
        for path in entry.missing:
            write(f"Added to the deps of {entry.address}: {path}")
        for text in entry.notes:
            write(f"{entry.address}: {text}")
