"""``kedro dvc update``: dvc.yaml and fingerprints as the pipelines are now."""

import difflib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

from dvc_parallel.engine.atomic import atomic_write

from . import FOLDER, KedroError
from .dvc_yaml import DvcYaml
from .fingerprint import Fingerprints, path_of, text_of
from .free_inputs import FreeInputs
from .project import DEFAULT, find, project_of, registered_pipelines, selected
from .stages import GROUPS, NodeStage, StageMaker, smallest_pipeline

OPTIONS = f"{FOLDER}/options.json"


class Options(NamedTuple):
    """What an update is about; the same for the next one unless it says otherwise."""

    pipelines: list[str]
    env: Optional[str]
    group_by: str

    @classmethod
    def of(
        cls,
        root: Path,
        pipelines: Sequence[str],
        env: Optional[str],
        group_by: Optional[str],
    ) -> "Options":
        """Those given, and those of the last update for what is not given."""
        last: dict[str, Any] = {}
        path = root / OPTIONS
        if path.exists():
            try:
                last = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as exc:
                raise KedroError(f"{OPTIONS} is not JSON: {exc}; delete it") from exc
        group_by = group_by or last.get("group_by", GROUPS[0])
        if group_by not in GROUPS:
            raise KedroError(
                f"{OPTIONS} has an unknown group_by '{group_by}'; delete it"
            )
        return cls(
            list(pipelines) or last.get("pipelines", [DEFAULT]),
            env or os.environ.pop("KEDRO_ENV", None) or last.get("env"),
            group_by,
        )

    @property
    def text(self) -> str:
        """What is kept of them; nothing if they are what nobody has asked for."""
        default = Options([DEFAULT], None, GROUPS[0])
        changed = {
            key: value
            for key, value in self._asdict().items()
            if value != default._asdict()[key]
        }
        return json.dumps(changed, indent=1) + "\n" if changed else ""


def update(
    pipelines: Sequence[str] = (),
    env: Optional[str] = None,
    group_by: Optional[str] = None,
    check: bool = False,
    add: bool = False,
) -> None:
    """Write dvc.yaml and fingerprints, all of them or none.

    Args:
        check: write nothing, and print what would change.
        add: have DVC track inputs that neither git nor DVC knows.

    Raises:
        KedroError: the project cannot be had in DVC, or with ``check`` something would
            change.
    """
    root = find(Path.cwd())
    repo_root = _repo_root(root)
    options = Options.of(root, pipelines, env, group_by)
    with project_of(root, options.env) as project:
        registered = registered_pipelines(root)
        pipeline = selected(registered, options.pipelines)
        fingerprints = Fingerprints(project)
        maker = StageMaker(
            pipeline,
            fingerprints,
            repo_root,
            options.group_by,
            options.env,
            smallest_pipeline(registered, options.pipelines),
        )
        stages = maker.stages()
    changes = _changes(root, stages, options)
    for stage in stages:
        for text in stage.warnings:
            sys.stderr.write(f"WARNING: {text}\n")
    if check:
        for change in changes:
            sys.stdout.write(change.diff())
        if changes:
            raise KedroError(
                "dvc.yaml or fingerprints are not those of today's code; "
                "run `kedro dvc update`"
            )
        return
    tmp_dir = repo_root / ".dvc" / "tmp"
    tmp_dir.mkdir(exist_ok=True)
    for change in changes:
        change.make(tmp_dir)
    for stage in stages:
        fingerprints.forget_traced(stage.name)
    files = {path_of(stage.name) for stage in stages}
    changed = len([change for change in changes if change.name in files])
    print(f"{len(stages)} stages, {changed} of their fingerprints changed")  # noqa: T201
    FreeInputs(root, repo_root, stages).tell(add)


def _repo_root(root: Path) -> Path:
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        return Path(Repo.find_root(str(root)))
    except NotDvcRepoError:
        raise KedroError(
            f"'{root}' is in no DVC repo; run `git init` and `dvc init` there"
        ) from None


class _Change(NamedTuple):
    """A file that is to have another text; none at all if it is empty."""

    root: Path
    name: str
    old: str
    new: str

    def diff(self) -> str:
        lines = difflib.unified_diff(
            self.old.splitlines(keepends=True),
            self.new.splitlines(keepends=True),
            self.name,
            self.name,
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)

    def make(self, tmp_dir: Path) -> None:
        path = self.root / self.name
        if not self.new:
            path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(str(path), str(tmp_dir), newline="") as file:
            file.write(self.new)


def _changes(
    root: Path, stages: Sequence[NodeStage], options: Options
) -> list[_Change]:
    """All files to change, dvc.yaml last: it is what makes stages of the others."""
    file = DvcYaml(_text(root / "dvc.yaml"))
    old = {name: _text(root / path_of(name)) for name in file.ours}
    before = {name: written_paths(name, text) for name, text in old.items()}
    text = file.with_stages(stages, before)
    wanted = {path_of(stage.name): text_of(stage.fingerprint) for stage in stages}
    wanted.update({path_of(name): "" for name in old if path_of(name) not in wanted})
    wanted[OPTIONS] = options.text
    wanted["dvc.yaml"] = text
    found = [
        _Change(root, name, _text(root / name), new) for name, new in wanted.items()
    ]
    return [change for change in found if change.old != change.new]


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8") if path.is_file() else ""


def written_paths(name: str, fingerprint: str) -> list[str]:
    """Paths and keys of parameters that the stage of a fingerprint has in dvc.yaml."""
    found = [path_of(name)]
    # NOTE: it may be in the midst of a merge
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        content = json.loads(fingerprint)
        for said in content["data"].values():
            found += [said["path"], said.get("place", said["path"])]
        for sources in content["parameters"].values():
            found += sources
    return found
