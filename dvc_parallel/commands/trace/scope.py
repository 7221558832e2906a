"""Which files matter to a pipeline, and what they are called.

Left out are programs, their libraries and settings, caches, and what git, DVC and
other tools keep for themselves.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Callable, Optional

from dvc_parallel.run.code_files import is_in

# Names of files and folders that are left out wherever they are, as patterns.
NAMES = (
    *(".git", ".hg", ".svn", ".gitignore", ".gitattributes", ".gitmodules"),
    *(".dvc", ".dvcignore", "dvc.yaml", "dvc.lock", "*.dvc"),
    *("__pycache__", "*.pyc", "*.pyo", "site-packages", "dist-packages"),
    *("*.egg-info", "*.dist-info", "node_modules", ".venv", ".tox", ".nox"),
    *(".cache", ".*_cache", ".ipynb_checkpoints", ".Rhistory", ".Rproj.user"),
    *(".DS_Store", ".nfs*"),
)
# Folders of the system.
SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/nix", "/opt", "/proc", "/run", "/sbin", "/snap", "/sys", "/usr", "/var"),
)
# Variables with folders or files of tools.
VARIABLES = (
    *("CONDA_PREFIX", "VIRTUAL_ENV", "PYTHONPYCACHEPREFIX", "PIP_CACHE_DIR"),
    *("UV_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "HF_HOME", "HF_HUB_CACHE"),
    *("HF_DATASETS_CACHE", "TRANSFORMERS_CACHE", "TORCH_HOME", "KERAS_HOME"),
    *("TFHUB_CACHE_DIR", "NLTK_DATA", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"),
    *("TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "CUDA_HOME", "JAVA_HOME", "R_HOME"),
    *("R_LIBS_USER", "R_LIBS", "JULIA_DEPOT_PATH", "GOPATH", "CARGO_HOME"),
    *("RUSTUP_HOME", "NVM_DIR", "PYENV_ROOT", "POETRY_CACHE_DIR", "MAMBA_ROOT_PREFIX"),
    *("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"),
)
# Files that only the root of a Python environment has.
MARKS = ("pyvenv.cfg", "conda-meta")
_PYTHON = re.compile(r"/lib/python\d")


class Scope:
    """Names the files that matter: by their paths in the user's workspace.

    Args:
        root, copy: roots of the workspace and of the copy in which stages run.
        is_ignored: whether DVC leaves out a path of the copy.
        patterns: of more that is left out: names, or paths as a user would give them.
    """

    def __init__(
        self,
        root: str,
        copy: str,
        is_ignored: Callable[[str], bool] = lambda _: False,
        patterns: Sequence[str] = (),
        folders: Iterable[str] = (),
    ):
        self._root, self._copy = root, copy
        self._is_ignored = is_ignored
        here = self.name(os.getcwd())
        self._names = (*NAMES, *(p for p in patterns if os.sep not in p))
        self._patterns = [
            os.path.normpath(os.path.join(here, os.path.expanduser(pattern)))
            for pattern in patterns
            if os.sep in pattern
        ]
        scratch = ("/tmp", "/var/tmp", tempfile.gettempdir())  # noqa: S108
        self._tmp = tuple({_inside(os.path.realpath(folder)) for folder in scratch})
        self._folders = tuple(set(map(_inside, (*_of_tools(), *folders))))
        self._home = _inside(os.path.expanduser("~"))

    @cache  # noqa: B019
    def place(self, path: str) -> Optional[str]:
        """The name of an absolute path, or None if it is left out."""
        if path in (self._copy, self._root):
            return self._root
        if not (is_in(path, self._copy) or is_in(path, self._root)):
            return self._place_outside(path)
        name = self.name(path)
        # NOTE: a stage that goes by absolute paths is not in the copy
        is_ignored = name != path and self._is_ignored(path)
        if is_ignored or self._is_left_out(name[len(self._root) :], name):
            return None
        return None if self._is_environment(os.path.dirname(path)) else name

    def name(self, path: str) -> str:
        """The name of an absolute path, left out or not."""
        return self._root + path[len(self._copy) :] if is_in(path, self._copy) else path

    def shown(self, name: str) -> str:
        """A name as users know it: from the current folder, if it is in the repo."""
        return os.path.relpath(self.in_copy(name)) if self.is_below_root(name) else name

    def is_below_root(self, name: str) -> bool:
        return name.startswith(_inside(self._root))

    def in_copy(self, name: str) -> str:
        """Where stages of the copy find what has a name."""
        return self._copy + name[len(self._root) :] if is_in(name, self._root) else name

    def is_scratch(self, name: str) -> bool:
        """Whether it is in a folder for what nobody keeps."""
        return name.startswith(self._tmp) and not self.is_below_root(name)

    def _place_outside(self, path: str) -> Optional[str]:
        is_left_out = (
            (path.startswith(self._home) and path[len(self._home)] == ".")
            or (not path.startswith(self._tmp) and path.startswith(self._folders))
            or (not path.startswith(self._tmp) and _PYTHON.search(path))
            or self._is_left_out(path, path)
            or self._is_environment(os.path.dirname(path))
        )
        return None if is_left_out else path

    def _is_left_out(self, below: str, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._patterns) or any(
            fnmatchcase(part, pattern)
            for part in below.split(os.sep)
            for pattern in self._names
        )

    @cache  # noqa: B019
    def _is_environment(self, folder: str) -> bool:
        if any(os.path.exists(os.path.join(folder, mark)) for mark in MARKS):
            return True
        above = os.path.dirname(folder)
        return folder not in (above, self._copy) and self._is_environment(above)


def _of_tools() -> Iterator[str]:
    yield from SYSTEM
    yield from (sys.prefix, sys.base_prefix)
    for name in VARIABLES:
        for path in os.environ.get(name, "").split(os.pathsep):
            if os.path.isabs(path):
                yield from (os.path.normpath(path), os.path.realpath(path))


def _inside(folder: str) -> str:
    return os.path.join(folder, "")
