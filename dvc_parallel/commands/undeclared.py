"""Modules that stages import, and do not declare."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.parsing import JOIN
from dvc.utils.serialize import load_yaml

from dvc_parallel.code import CodeError
from dvc_parallel.run.stage_code import Projects

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import PipelineStage, Stage


@dataclass
class Entry:
    """An entry of ``stages`` in a dvc.yaml; a template, if it makes several stages.

    Attributes:
        dvcfile: path of the file.
        name: of the entry.
        stages: those that were asked for.
        missing: dependencies to add, as they would be in dvc.yaml.
        unclear: what was not understood, and why.
    """

    dvcfile: str
    name: str
    stages: list["Stage"] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """As a target of DVC."""
        path = os.path.relpath(self.dvcfile)
        return self.name if path == "dvc.yaml" else f"{path}:{self.name}"


def find_undeclared(repo: "Repo", stages: Iterable["Stage"]) -> list[Entry]:
    """What stages do not declare of the code that they use.

    Nothing is an error: what is not understood is said of each entry.
    """
    projects = Projects(repo)
    return entries_lacking(stages, lambda stage: _missing(projects, repo, stage))


def entries_lacking(
    stages: Iterable["Stage"], missing: Callable[["Stage"], tuple[list[str], list[str]]]
) -> list[Entry]:
    """Entries of dvc.yaml, with the dependencies that all of their stages lack.

    Args:
        missing: dependencies that a stage lacks, and what is not understood of it.
    """
    entries = _entries(stages)
    for entry in entries:
        found: list[dict[str, None]] = []
        for stage in entry.stages:
            paths, unclear = missing(stage)
            found.append(dict.fromkeys(paths))
            entry.unclear += [text for text in unclear if text not in entry.unclear]
        for path in dict.fromkeys(path for paths in found for path in paths):
            having = [s for s, paths in zip(entry.stages, found) if path in paths]
            if len(having) == len(found):
                entry.missing.append(path)
            else:
                names = ", ".join(stage.name for stage in having)
                entry.unclear.append(
                    f"only {names} uses '{path}': add it by hand, with the variable "
                    "that it depends on"
                )
    return entries


def _entries(stages: Iterable["Stage"]) -> list[Entry]:
    """Entries of dvc.yaml that stages come from, in their order."""
    entries: dict[tuple[str, str], Entry] = {}
    definitions: dict[str, Any] = {}
    for stage in stages:
        if not (getattr(stage, "name", None) and stage.cmd):
            continue
        path = stage.path
        if path not in definitions:
            definitions[path] = load_yaml(path).get("stages", {})
        name = entry_name(stage, definitions[path])
        entry = entries.setdefault((path, name), Entry(path, name))
        entry.stages.append(stage)
    return list(entries.values())


def entry_name(stage: "PipelineStage", definitions: Any) -> str:
    """The name of the entry of dvc.yaml that a stage comes from."""
    name = stage.name
    return name if name in definitions else name.partition(JOIN)[0]


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
    declared = [_real(dep) for dep in stage.deps]
    outs = [_real(out) for out in stage.outs]
    missing = [
        os.path.relpath(path, wdir).replace(os.sep, "/")
        for path in files
        if _is_in(path, [top]) and not _is_in(path, [*declared, *outs])
    ]
    return missing, unclear


def _real(item: Any) -> Optional[str]:
    return os.path.realpath(item.fs_path) if item.protocol == "local" else None


def _is_in(path: str, folders: Sequence[Optional[str]]) -> bool:
    """Whether a path is one of some, or in one."""
    return any(
        folder and (path == folder or path.startswith(folder.rstrip(os.sep) + os.sep))
        for folder in folders
    )
