"""Loading the stages of a dvc.yaml once.

``dvc repro`` reads each dvc.yaml that is asked for and its dvc.lock, and makes stages
of them, to find out which they are; then it does all of that again for the graph, whose
stages it runs.  Here the graph gets the same ones.  And what stages depend on together
is looked at once.
"""

import gc
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.annotations import Annotation
from dvc.dependency import Dependency
from dvc.fs import LocalFileSystem
from dvc.stage.loader import StageLoader
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta

from dvc_parallel.engine.file_stamp import signature_of

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

_local = threading.local()

# A path that is no URL, and has nothing in it that may be a part of one
_PATH = re.compile(r"(?!//)[^:?#]+")


class _StagesOnce(StageLoader):
    """Loads each of its stages when it is first asked for it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._loaded: dict[str, Stage] = {}

    def __getitem__(self, name: str) -> "Stage":
        if name not in self._loaded:
            self._loaded[name] = super().__getitem__(name)
        return self._loaded[name]


class _Files:
    """The files that a thread has loaded for a run that is about to begin."""

    def __init__(self, repo: "Repo"):
        self.repo = repo
        self._known: dict[str, tuple[list, Any]] = {}
        self._dependencies: dict[tuple[str, str], Dependency] = {}
        self._local: Optional[tuple[Any, Any]] = None  # with a config

    def load(self, original: Callable, path: str) -> Any:
        path = os.path.abspath(path)
        lock = os.path.splitext(path)[0] + ".lock"
        signatures = [signature_of(path), signature_of(lock)]
        known, file = self._known.get(path, (None, None))
        if known != signatures:
            file = original(self.repo, path)
            if getattr(file, "LOADER", None) is StageLoader:
                file.LOADER = _StagesOnce
                self._known[path] = signatures, file
        return file

    def dependency(self, original: Callable, stage: "Stage", path: str) -> "Dependency":
        """A dependency like the one that the first stage with it has."""
        found = self._dependencies.get((path, stage.wdir))
        if found is None:
            found = original(stage, path, {})
            if type(found) is not Dependency or found.meta != Meta():
                return found
            self._dependencies[path, stage.wdir] = found
        dep = Dependency.__new__(Dependency)
        vars(dep).update(vars(found))
        dep.stage = stage
        # NOTE: what may be changed is each stage's own
        dep.annot, dep.meta = Annotation(labels=[], meta={}), Meta()
        dep.hash_info = HashInfo(found.hash_info.name)
        return dep

    def get_cloud_fs(self, original: Callable, config: Any, url: str) -> tuple:
        """What a local path has in common with all others: its file system."""
        if self._local is None or self._local[0] is not config:
            cls, kwargs, path = original(config, url=url)
            fs = cls(**kwargs)
            if cls is not LocalFileSystem or cls._strip_protocol(url) != path:
                return partial(_given, fs), {}, path
            self._local = config, partial(_given, fs)
        return self._local[1], {}, LocalFileSystem._strip_protocol(url)


def _given(it: Any) -> Any:
    return it


def collect_stages(
    original: Callable,
    repo: "Repo",
    targets: Iterable[str],
    recursive: bool = False,
    glob: bool = False,
) -> list["Stage"]:
    """``dvc.repo.reproduce.collect_stages``: the stages that are asked for."""
    _local.files = _Files(repo)
    # NOTE: nearly all that is made here stays, see `over`
    collects = gc.isenabled()
    gc.disable()
    try:
        return original(repo, targets, recursive=recursive, glob=glob)
    except BaseException:
        forget()
        raise
    finally:
        if collects:
            gc.enable()


def load_file(original: Callable, repo: "Repo", path: Any, **kwargs: Any) -> Any:
    """``dvc.dvcfile.load_file``: a dvc.yaml or .dvc file."""
    files: Optional[_Files] = getattr(_local, "files", None)
    if files is None or files.repo is not repo or kwargs:
        return original(repo, path, **kwargs)
    return files.load(original, path)


def get_dependency(
    original: Callable, stage: "Stage", path: Any, info: Any, **kwargs: Any
) -> Any:
    """``dvc.dependency._get``: a dependency; stages have many in common."""
    files: Optional[_Files] = getattr(_local, "files", None)
    is_plain = type(path) is str and not info and not any(kwargs.values())
    if files is None or not is_plain or files.repo is not stage.repo:
        return original(stage, path, info, **kwargs)
    return files.dependency(original, stage, path)


def get_cloud_fs(original: Callable, repo_config: Any, **kwargs: Any) -> tuple:
    """``dvc.output.get_cloud_fs``: the file system of a path."""
    files: Optional[_Files] = getattr(_local, "files", None)
    url = kwargs.get("url")
    is_plain = len(kwargs) == 1 and type(url) is str and _PATH.fullmatch(url)
    if files is None or not is_plain:
        return original(repo_config, **kwargs)
    return files.get_cloud_fs(original, repo_config, kwargs["url"])


def forget() -> None:
    """Load anew what is loaded from now on."""
    _local.files = None


@contextmanager
def over() -> Iterator[None]:
    """The graph is there, and stages run: what has been loaded stays to the end.

    Else Python's collector goes through all of the stages again and again.
    """
    forget()
    is_ours = not gc.get_freeze_count()
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()
