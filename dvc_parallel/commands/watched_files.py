"""The files whose changes lead to one more run of ``dvc-parallel repro --watch``.

These are the files of DVC, wherever it looks for them, and the dependencies that are
in them, with files of params, values and code.  Outputs of commands and what DVC writes
itself are not: a run must not lead to the next one.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Union

from dvc_parallel.engine.path_conflicts import real_paths_of

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

    from dvc_parallel.engine.real_paths import RealPaths

# What DVC and Python write beside files that stages depend on.
WRITTEN = frozenset({"dvc.lock", ".gitignore", "__pycache__", ".git", ".dvc"})
# What editors have beside a file while they edit it, and what Python writes.
_PASSING = re.compile(r"~\Z|^\.#|^4913\Z|\.sw[a-z]\Z|\.py[co]\Z")
# What DVC writes to a .dvc file when it records data.  NOTE: after `git pull`, a run
# would put the hashes of the data that are still there in place of those that came.
_RECORDED = re.compile(
    rb"^[ -]*(?:md5|etag|checksum|size|nfiles|hash|isexec|version_id|rev_lock):.*\n?",
    re.MULTILINE,
)

# What tells that a file has changed: its time, size and inode, or what it says.
Stamps = dict[str, Union[tuple[int, int, int], bytes]]


class WatchedFiles:
    """The files whose changes count.

    Args:
        root: of the repo.
    """

    def __init__(self, root: str):
        self._root = root
        self._deps: set[str] = set()
        self._outs: set[str] = set()
        self._data: set[str] = set()
        self._knows_code = True
        self._repo: Any = None
        self._git_ignores: dict[str, bool] = {}

    def load(self) -> None:
        """Read which files these are.

        Those of before stay while DVC cannot read all of its files.

        Raises:
            DvcException: not even the config can be read, and never could.
        """
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            repo = Repo(self._root)
        except DvcException:
            if self._repo is None:
                raise
            return
        if self._repo is not None:
            self._repo.close()
        self._repo, self._git_ignores = repo, {}
        errors: list[Exception] = []
        repo.stage_collection_error_handler = lambda _, exc: errors.append(exc)
        stages = list(repo.index.stages)
        code, self._knows_code = _code_of(repo, stages)
        files = {it.path: it.dvcfile for it in stages}
        deps = {path for it in stages for path in _deps_of(it)}
        deps.update(code, *(_vars_of(path, file) for path, file in files.items()))
        paths = real_paths_of(repo)
        # NOTE: what `dvc add` tracks belongs to the user
        outs = {
            name
            for stage in stages
            if stage.cmd
            for out in stage.outs
            for name in (out.fs_path, *paths.route(out.fs_path).names)
        }
        data = {out.fs_path for stage in stages for out in stage.outs}
        if errors or not self._knows_code:
            deps, outs, data = deps | self._deps, outs | self._outs, data | self._data
        self._outs, self._data = outs, data
        self._deps = {it for it in deps if not self._is_written(it, paths)}

    def look(self) -> tuple[Stamps, set[str]]:
        """How these files are now, and folders in which they appear and disappear."""
        paths = real_paths_of(self._repo)
        stamps: Stamps = {}
        folders: set[str] = set()
        for path in self._files_of_dvc(folders):
            with suppress(OSError):
                stamps[path] = _stamp(path) if path.endswith(".py") else _text(path)
        for root in self._deps:
            folders.update(map(_folder_of, (root, *paths.route(root).names)))
            for path in self._files_of(root, folders):
                if os.path.islink(path):
                    if self._is_written(path, paths):
                        continue
                    folders.update(map(_folder_of, paths.route(path).names))
                with suppress(OSError):
                    stamps.setdefault(path, _stamp(path))
        return stamps, folders

    def _files_of_dvc(self, folders: set[str]) -> Iterator[str]:
        """Files that DVC reads, and code if need be; adds where they may appear."""
        from dvc.dvcfile import is_valid_filename
        from dvc.ignore import DvcIgnore

        for top, names, files in os.walk(self._root):
            folders.add(top)
            names[:] = [it for it in names if self._is_searched(os.path.join(top, it))]
            for name in files:
                is_code = not self._knows_code and name.endswith(".py")
                is_dvcignore = name == DvcIgnore.DVCIGNORE_FILE
                if is_code or is_dvcignore or is_valid_filename(name):
                    yield os.path.join(top, name)

    def _is_searched(self, path: str) -> bool:
        """Whether DVC looks for its files in a folder."""
        if os.path.basename(path) in WRITTEN or path in self._data:
            return False
        if self._repo.dvcignore.is_ignored_dir(path):
            return False
        if path not in self._git_ignores:
            is_ignored = self._repo.scm.is_ignored(os.path.join(path, ""))
            self._git_ignores[path] = is_ignored
        return not self._git_ignores[path]

    def _files_of(self, root: str, folders: set[str]) -> Iterator[str]:
        """A dependency, or the files in it; adds the folders in which they are."""
        if not os.path.isdir(root):
            yield root
        real_root = os.path.realpath(root)
        for top, names, files in os.walk(root):
            folders.add(top)
            tops = top, real_root + top[len(root) :]
            names[:] = [it for it in names if self._counts(tops, it, is_folder=True)]
            for name in files:
                if self._counts(tops, name, is_folder=False):
                    yield os.path.join(top, name)

    def _counts(self, tops: Sequence[str], name: str, is_folder: bool) -> bool:
        if name in WRITTEN or _PASSING.search(name):
            return False
        if any(os.path.join(top, name) in self._outs for top in tops):
            return False
        ignores = self._repo.dvcignore
        is_ignored = ignores.is_ignored_dir if is_folder else ignores.is_ignored_file
        return not is_ignored(os.path.join(tops[0], name))

    def _is_written(self, path: str, paths: "RealPaths") -> bool:
        """Whether a path leads to an output of a command, or into one."""
        return any(
            it in self._outs
            for name in (path, *paths.route(path).names)
            for it in (name, *_above(name))
        )


def _above(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


def _folder_of(path: str) -> str:
    """The folder of a file, or that above it which is there."""
    return next(it for it in _above(path) if os.path.isdir(it))


def _stamp(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


def _text(path: str) -> bytes:
    """What the user says in a file of DVC."""
    with open(path, "rb") as file:
        text = file.read()
    return _RECORDED.sub(b"", text) if path.endswith(".dvc") else text


def _deps_of(stage: "Stage") -> Iterator[str]:
    from dvc_parallel.run.code_files import is_refreshed

    for dep in stage.deps:
        if getattr(dep, "protocol", None) != "local":
            continue
        # NOTE: those are written by the run
        if not is_refreshed(dep.fs_path):
            yield dep.fs_path


def _vars_of(path: str, file: Any) -> Iterator[str]:
    """The files with the values in a dvc.yaml."""
    if os.path.basename(path) != "dvc.yaml":
        return
    folder = os.path.dirname(path)
    yield os.path.join(folder, "params.yaml")
    stages = (file.contents.get("stages") or {}).values()
    for scope in [file.contents, *stages, *(it.get("do") or {} for it in stages)]:
        where = os.path.join(folder, scope.get("wdir") or "")
        for it in scope.get("vars") or ():
            if isinstance(it, str):
                yield os.path.normpath(os.path.join(where, it.partition(":")[0]))


def _code_of(repo: "Repo", stages: "Sequence[Stage]") -> tuple[set[str], bool]:
    """The Python files of stages that know their code, and of nodes of Kedro.

    Returns:
        files, and whether these are all: some cannot be found where one cannot be read.
    """
    from dvc_parallel.run import code_files
    from dvc_parallel.run.stage_code import Projects

    projects, are_all = Projects(repo), True
    files: set[str] = set()
    try:
        files.update(code_files.files_of_nodes(stages))
    except code_files.StageCodeError:
        are_all = False
    for stage in stages:
        try:
            if stage.cmd and code_files.wanted(stage):
                also = code_files.also_of(projects, stage)
                for _, closure in code_files.code_of(projects, stage, also):
                    files.update(closure.files)
        except code_files.StageCodeError:
            are_all = False
    return files, are_all
