"""Modules that stages import, and do not declare."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from dvc.parsing import JOIN
from dvc.utils.serialize import load_yaml

from dvc_parallel.code import CodeError
from dvc_parallel.run.code_files import (
    FOLDER,
    StageCodeError,
    closures_of,
    code_file,
    declared_scripts,
    is_in,
    wanted,
)
from dvc_parallel.run.stage_code import Projects

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

    # Dependencies that a stage lacks, and what is not understood of it.
    Missing = Callable[["Stage"], tuple[list[str], list[str]]]


@dataclass
class Entry:
    """An entry of ``stages`` in a dvc.yaml; a template, if it makes several stages.

    Attributes:
        stages: those that were asked for.
        missing: dependencies to add, as they would be in dvc.yaml.
        notes: what has to be done by hand, and what was not understood.
    """

    dvcfile: str
    name: str
    definition: Any
    stages: list["Stage"] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """As a target of DVC."""
        path = os.path.relpath(self.dvcfile)
        return self.name if path == "dvc.yaml" else f"{path}:{self.name}"

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def find_undeclared(repo: "Repo", stages: Iterable["Stage"]) -> list[Entry]:
    """What stages do not declare of the code that they use.

    Nothing is an error: what is not understood is said of each entry.
    """
    projects = Projects(repo)
    entries = entries_of(stages)
    for entry in entries:
        try:
            has_file = wanted(entry.stages[0])
        except StageCodeError as exc:
            entry.note(str(exc))
            continue
        if has_file:
            _look_at_file(projects, entry)
        else:
            _look_for_missing(entry, lambda stage: _missing(projects, repo, stage))
    return entries


def entries_lacking(stages: Iterable["Stage"], missing: "Missing") -> list[Entry]:
    """Entries of dvc.yaml, with the dependencies that all of their stages lack."""
    entries = entries_of(stages)
    for entry in entries:
        _look_for_missing(entry, missing)
    return entries


def _look_for_missing(entry: Entry, missing: "Missing") -> None:
    found: list[dict[str, None]] = []
    for stage in entry.stages:
        paths, unclear = missing(stage)
        found.append(dict.fromkeys(paths))
        for text in unclear:
            entry.note(f"not understood: {text}")
    for path in dict.fromkeys(path for paths in found for path in paths):
        having = [s for s, paths in zip(entry.stages, found) if path in paths]
        if len(having) == len(found):
            entry.missing.append(path)
        else:
            names = ", ".join(stage.name for stage in having)
            entry.note(
                f"only {names} uses '{path}': add it by hand, with the variable that "
                "it depends on"
            )


def _look_at_file(projects: Projects, entry: Entry) -> None:
    """Find out whether stages depend on the file that says which code they use."""
    codes = []
    for stage in entry.stages:
        try:
            closures = closures_of(projects, stage)
        except StageCodeError as exc:
            entry.note(str(exc))
            return
        codes.append(closures)
        for path in declared_scripts(stage, closures):
            entry.note(
                f"to be removed from deps: {path}, as any change of it, such as a "
                "comment, runs the stage"
            )
    if all(code_file(stage) for stage in entry.stages):
        return
    name = entry.name
    if any(code != codes[0] for code in codes):
        variable = (
            "item" if isinstance(entry.definition.get("foreach"), list) else "key"
        )
        name += f"@${{{variable}}}"
    path = os.path.join(os.path.dirname(entry.dvcfile), FOLDER, f"{name}.json")
    paths = {os.path.relpath(path, stage.wdir) for stage in entry.stages}
    if len(paths) == 1:
        entry.missing.append(paths.pop().replace(os.sep, "/"))
    else:
        path = os.path.relpath(path)
        entry.note(f"to be added by hand, relative to each wdir: '{path}'")


def entries_of(stages: Iterable["Stage"]) -> list[Entry]:
    """Entries of dvc.yaml that stages come from, in their order."""
    entries: dict[tuple[str, str], Entry] = {}
    definitions: dict[str, Any] = {}
    for stage in stages:
        if not (getattr(stage, "name", None) and stage.cmd):
            continue
        path = stage.path
        if path not in definitions:
            definitions[path] = load_yaml(path).get("stages", {})
        name = stage.name
        if name not in definitions[path]:
            name = name.partition(JOIN)[0]
        entry = entries.setdefault(
            (path, name), Entry(path, name, definitions[path][name])
        )
        entry.stages.append(stage)
    return list(entries.values())


def _missing(
    projects: Projects, repo: "Repo", stage: "Stage"
) -> tuple[list[str], list[str]]:
    """Files that a stage uses and does not declare, relative to its folder."""
    code = projects.code_of(stage)
    unclear = list(code.unclear)
    files: dict[str, None] = {}
    for entry, roots in code.entries:
        project = projects.of(roots)
        try:
            closure = project.closure([entry])
        except CodeError as exc:
            unclear.append(str(exc))
            continue
        files.update(dict.fromkeys(project.with_code(closure.files)))
    top = os.path.realpath(repo.root_dir)
    wdir = os.path.realpath(stage.wdir)
    declared = [
        os.path.realpath(item.fs_path)
        for item in (*stage.deps, *stage.outs)
        if item.protocol == "local"
    ]
    missing = [
        os.path.relpath(path, wdir).replace(os.sep, "/").replace("${", "\\${")
        for path in files
        if is_in(path, top) and not any(is_in(path, it) for it in declared)
    ]
    return missing, unclear
