"""Loading the stages of a dvc.yaml once.

``dvc repro`` reads each dvc.yaml that is asked for and its dvc.lock, and makes stages
of them, to find out which they are; then it does all of that again for the graph, whose
stages it runs.  Here the graph gets the same ones.
"""

import gc
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.stage.loader import StageLoader

from dvc_parallel.engine.file_stamp import signature_of

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

_local = threading.local()


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


def collect_stages(
    original: Callable,
    repo: "Repo",
    targets: Iterable[str],
    recursive: bool = False,
    glob: bool = False,
) -> list["Stage"]:
    """``dvc.repo.reproduce.collect_stages``: the stages that are asked for."""
    _local.files = _Files(repo)
    try:
        return original(repo, targets, recursive=recursive, glob=glob)
    except BaseException:
        forget()
        raise


def load_file(original: Callable, repo: "Repo", path: Any, **kwargs: Any) -> Any:
    """``dvc.dvcfile.load_file``: a dvc.yaml or .dvc file."""
    files: Optional[_Files] = getattr(_local, "files", None)
    if files is None or files.repo is not repo or kwargs:
        return original(repo, path, **kwargs)
    return files.load(original, path)


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
