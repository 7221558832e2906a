"""Files that say which code a stage uses: ``meta.parallel.code`` in dvc.yaml.

::

    stages:
      train:
        cmd: python src/train.py
        deps:
          - .dvc-code/train.json
        meta:
          parallel:
            code: true               # or entries: [pkg.train:main, src/other.py]
                                     # or {trace: true}, with entries: [...] or not

Such a file is an ordinary dependency, of a stage or of all those of a template.  It has
a line for each definition that the command can come to, and for each package, so that
git shows what has changed, and merges it.  It is beside dvc.yaml, under version
control: a DVC without this plugin sees a file that has changed, or has not.  Entries
that a trace has found are in it, under "also" (see code_trace.py).

It is written before stages are compared with dvc.lock, by who has the repo locked, and
never while another process runs a stage that depends on it: what that stage has read is
what is to be recorded.

The fingerprints that ``kedro dvc update`` writes have such lines, too.  They are
refreshed without loading Kedro, from the entries that they name.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING, Any, Optional, Union

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.rwlock import rwlock

from dvc_parallel.code import Closure, CodeError, Project
from dvc_parallel.engine import logger
from dvc_parallel.engine.atomic import atomic_write
from dvc_parallel.engine.ordered_writes import names_of
from dvc_parallel.engine.own_files import OwnFolder

from .stage_code import Projects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dvc.repo import Repo
    from dvc.stage import Stage

FOLDER = ".dvc-code"
KEDRO_FOLDER = ".kedro-dvc"
# Digits of a digest that are kept.
DIGITS = 16
# Entries in the text of such a file.
_ALSO = re.compile(r'"also": \[(.*?)\]', re.DOTALL)
# Nothing that a trace leaves has as many bytes.
MOST_BYTES = 2**26


class StageCodeError(DvcException):
    """The code of a stage cannot be known; names the stage, and what would be right."""


def _asked(stage: "Stage") -> Any:
    """``meta.parallel.code`` of a stage, whatever it says."""
    meta = stage.meta
    parallel = meta.get("parallel") if isinstance(meta, dict) else None
    return parallel.get("code", False) if isinstance(parallel, dict) else False


def wanted(stage: "Stage") -> Union[bool, list[str]]:
    """What ``meta.parallel.code`` of a stage says: entries, or True for its command's.

    Raises:
        StageCodeError: it is neither.
    """
    said = value = _asked(stage)
    if isinstance(said, dict):
        known = said.keys() <= {"entries", "trace"}
        is_right = known and isinstance(said.get("trace", True), bool)
        value = said.get("entries", True) if is_right else None
    is_list = isinstance(value, list) and all(isinstance(it, str) for it in value)
    if value is None or not (isinstance(value, bool) or (is_list and value)):
        raise StageCodeError(
            f"stage '{stage.addressing}': meta.parallel.code: expected true, or a list "
            "such as [pkg.train:main, src/other.py], or {trace: true, entries: ...}, "
            f"got {said!r}"
        )
    return value


def is_traced(stage: "Stage") -> bool:
    """Whether a stage asks to have the code traced that it runs."""
    said = _asked(stage)
    return isinstance(said, dict) and said.get("trace") is True


def code_file(stage: "Stage") -> Optional[str]:
    """The path of the file that says which code a stage uses, if it depends on one."""
    paths = (dep.fs_path for dep in stage.deps if dep.protocol == "local")
    return next(filter(is_code_file, paths), None)


def is_code_file(path: str) -> bool:
    # NOTE: the names of stages of a template can have slashes
    return path.endswith(".json") and FOLDER in path.split(os.sep)[:-1]


def refresh(stages: "Iterable[Stage]") -> None:
    """Write the files of all stages that ask for it, where they have changed.

    The caller must have the repo locked.

    Raises:
        StageCodeError: the code of a stage cannot be known.
    """
    with_meta = [stage for stage in stages if stage.meta]
    _refresh_nodes(with_meta)
    asking = [stage for stage in with_meta if wanted(stage)]
    if not asking:
        return
    projects = Projects(asking[0].repo)
    for path, sharing in _files(asking).items():
        also: set[str] = set()
        closures = []
        for stage in sharing:
            entries = also_of(projects, stage)
            also.update(entries)
            closures += [it for _, it in code_of(projects, stage, entries)]
        for stage in sharing:
            _warn_of_scripts(stage, closures)
        if _write(asking[0].repo, path, _text(closures, also)):
            for stage in sharing:
                forget_traced(stage)


def track(stages: "Iterable[Stage]") -> None:
    """Have the files that have changed staged, or named as to be added to git.

    As dvc.lock is, which will have their hashes: who gets one needs the other.
    """
    for stage in stages:
        for dep in stage.deps if stage.meta and not stage.frozen else ():
            path = dep.fs_path
            if is_refreshed(path) and dep.workspace_status():
                stage.repo.scm_context.track_file(os.path.relpath(path))


def is_refreshed(path: str) -> bool:
    """Whether a file is written here, and not by the user."""
    return is_code_file(path) or _is_of_node(path)


def _is_of_node(path: str) -> bool:
    return os.path.basename(os.path.dirname(path)) == KEDRO_FOLDER


def _files(asking: "Iterable[Stage]") -> "dict[str, dict[Stage, None]]":
    """Paths of files, each with all stages that share it."""
    files: dict[str, dict[Stage, None]] = {}
    for stage in asking:
        path = code_file(stage)
        if path is None:
            raise StageCodeError(
                f"stage '{stage.addressing}' has meta.parallel.code, but no file in "
                f"'{FOLDER}' among its deps; `dvc-parallel deps --write` adds it"
            )
        if path not in files:
            files[path] = dict.fromkeys([*_siblings(stage), stage])
    return files


def _refresh_nodes(stages: "Iterable[Stage]") -> None:
    """Write what code is in the fingerprints of Kedro's nodes, where it has changed."""
    for stage, path, content, closure in _nodes(stages):
        content.update(code=closure.definitions, packages=closure.distributions)
        # NOTE: the form that `kedro dvc update` gives it
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
        _write(stage.repo, path, text + "\n")


def files_of_nodes(stages: "Iterable[Stage]") -> set[str]:
    """The Python files that nodes of Kedro use.

    Raises:
        StageCodeError: the code of a node cannot be known.
    """
    return {file for *_, closure in _nodes(stages) for file in closure.files}


def _has_kedro() -> bool:
    try:
        distribution("kedro")
    except PackageNotFoundError:
        return False
    return True


def _nodes(
    stages: "Iterable[Stage]",
) -> "Iterator[tuple[Stage, str, dict[str, Any], Closure]]":
    """Nodes of Kedro: with the path and content of the fingerprint, and the code.

    Where Kedro is installed elsewhere, the versions of packages are not known here.
    """
    nodes = [it for it in stages if isinstance(it.meta, dict) and "kedro" in it.meta]
    if not nodes or not _has_kedro():
        return
    projects: dict[str, Project] = {}
    for stage in nodes:
        for path in (it.fs_path for it in stage.deps if _is_of_node(it.fs_path)):
            try:
                with open(path, encoding="utf-8") as file:
                    content = json.loads(file.read())
                entries = [*content["entries"], *content.get("also", ())]
                source = content["source"]
            except (OSError, ValueError, TypeError, KeyError):
                continue  # `kedro dvc run` says what is wrong with it
            root = os.path.join(os.path.dirname(os.path.dirname(path)), source)
            if root not in projects:
                cache = os.path.join(stage.repo.tmp_dir, "parallel", "code")
                projects[root] = Project([root], cache)
            try:
                yield stage, path, content, projects[root].closure(entries)
            except CodeError as exc:
                raise StageCodeError(
                    f"stage '{stage.addressing}': {exc} (where a node has changed, "
                    "run `kedro dvc update`)"
                ) from None


def _siblings(stage: "Stage") -> "Iterator[Stage]":
    """Stages of the same template, which may share its file."""
    name = getattr(stage, "name", None) or ""
    if "@" not in name:
        return
    path = code_file(stage)
    for other in stage.dvcfile.stages.values():
        if other.meta and wanted(other) and code_file(other) == path:
            yield other


def also_of(projects: Projects, stage: "Stage") -> list[str]:
    """Entries of a stage that a trace has found, and that are still there.

    Raises:
        StageCodeError: a file of them cannot be read.
    """
    path, text = code_file(stage), ""
    with suppress(OSError, UnicodeDecodeError):
        with open(path or "", encoding="utf-8") as file:
            text = file.read()
    # NOTE: it may be in the midst of a merge, and then all count
    found = {
        json.loads(it)
        for names in _ALSO.findall(text)
        for it in re.findall(r'"[^"\n]*"', names)
    }
    found.update(load_traced(stage))
    if not found:
        return []
    entries = projects.named(stage, sorted(found), projects.code_of(stage))
    try:
        return [
            name
            for name, (entry, roots) in zip(sorted(found), entries)
            if projects.of(roots).has(entry)
        ]
    except CodeError as exc:
        raise StageCodeError(f"stage '{stage.addressing}': {exc}") from None


def code_of(
    projects: Projects, stage: "Stage", also: Sequence[str]
) -> list[tuple[Project, Closure]]:
    """The code of a stage that asks for it.

    Args:
        also: more entries of it.

    Raises:
        StageCodeError: it cannot be known.
    """
    code = projects.code_of(stage)
    entries, unclear = code.entries, code.unclear
    value = wanted(stage)
    if isinstance(value, list):
        entries, unclear = projects.named(stage, value, code), []
    where = f"stage '{stage.addressing}': meta.parallel.code"
    advice = "; give a list of entries, such as [pkg.train:main], in place of `true`"
    if unclear:
        raise StageCodeError(f"{where}: {unclear[0]}{advice}")
    if not entries:
        raise StageCodeError(f"{where}: its command runs no Python script{advice}")
    found = [(projects.of(roots), entry) for entry, roots in entries]
    found += [(projects.of(it), e) for e, it in projects.named(stage, also, code)]
    try:
        return [(project, project.closure([entry])) for project, entry in found]
    except CodeError as exc:
        # NOTE: DVC would show what it is made of, once more
        raise StageCodeError(f"{where}: {exc}") from None


def closures_of(projects: Projects, stage: "Stage") -> list[Closure]:
    """The code of a stage, with what a trace has found.

    Raises:
        StageCodeError: it cannot be known.
    """
    return [it for _, it in code_of(projects, stage, also_of(projects, stage))]


def declared_scripts(stage: "Stage", closures: Iterable[Closure]) -> list[str]:
    """Dependencies of a stage that run it at each change of a file of its code."""
    files = {path for closure in closures for path in closure.files}
    return [
        dep.def_path
        for dep in stage.deps
        if dep.protocol == "local"
        and any(is_in(path, os.path.realpath(dep.fs_path)) for path in files)
    ]


def is_in(path: str, folder: str) -> bool:
    """Whether a path is a folder, or in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _warn_of_scripts(stage: "Stage", closures: Iterable[Closure]) -> None:
    for path in declared_scripts(stage, closures):
        logger.warning(
            "stage '%s' has meta.parallel.code, but also '%s' in its deps: any change "
            "of that, such as a comment, runs it. Remove it from deps.",
            stage.addressing,
            path,
        )


def _text(closures: Iterable[Closure], also: Iterable[str]) -> str:
    """The content of a file; in order, so that it says the same whoever writes it."""
    digests: dict[str, set[str]] = {}
    packages: dict[str, str] = {}
    for closure in closures:
        for name, digest in closure.definitions.items():
            digests.setdefault(name, set()).add(digest[:DIGITS])
        packages.update(closure.distributions)
    # NOTE: scripts in two folders may have one name
    definitions = {name: " ".join(sorted(it)) for name, it in digests.items()}
    data: dict[str, Any] = {"definitions": definitions, "packages": packages}
    if found := sorted(also):
        data["also"] = found
    return json.dumps(data, indent=2, sort_keys=True) + "\n"


def _write(repo: "Repo", path: str, text: str) -> bool:
    """Write a file if it has changed; tell whether it has that text now."""
    with suppress(OSError, UnicodeDecodeError):
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return True
    hardlink = repo.config["core"].get("hardlink_lock", False)
    try:
        with rwlock(repo.tmp_dir, repo.fs, "code", [], [path], hardlink):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with atomic_write(path, repo.tmp_dir) as output:
                output.write(text)
        return True
    except LockError:
        logger.warning(
            "'%s' is not refreshed, as another process runs a stage that depends on it",
            os.path.relpath(path),
        )
        return False


def _traces(stage: "Stage") -> OwnFolder:
    return OwnFolder(stage.repo.tmp_dir, "parallel", "trace")


def trace_name(stage: "Stage") -> str:
    """The name of the file of what a trace has found of a stage."""
    key = os.fsencode(names_of([stage])[0])
    return f"{blake2b(key, digest_size=16).hexdigest()}.json"


def load_traced(stage: "Stage") -> list[str]:
    """Entries that a trace has found, and that are in no file yet."""
    try:
        with _traces(stage).read(trace_name(stage), MOST_BYTES) as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return []
    return [it for it in found if isinstance(it, str)] if type(found) is list else []


def save_traced(stage: "Stage", entries: Sequence[str]) -> None:
    """Keep what a trace has found until the file of a stage is written.

    Raises:
        OSError: it cannot be kept.
    """
    with _traces(stage).replace(trace_name(stage)) as output:
        json.dump(entries, output)


def forget_traced(stage: "Stage") -> None:
    with suppress(OSError):
        _traces(stage).remove(trace_name(stage))
