"""Where released DVC is patched, in one place.

There are three kinds of seams.  ``IN_DVC`` give DVC the command and the option, a quick
way to read dvc.lock and one to lock the repo beside a run; the import hook installs
them with their modules.
``IN_RUNS`` make DVC's bookkeeping cheap while stages are reproduced, and ``IN_JOBS``
change what DVC does in a job of a parallel run; both are there only as long.
"""

import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from importlib import import_module
from typing import Any, Callable, Optional

# DVC releases that the seams have been tested with: from, and up to.
OLDEST = (3, 67, 1)
NEWEST = (3, 67, 1)


@dataclass(frozen=True)
class Seam:
    """A function of DVC that one of ours stands in for.

    Attributes:
        module: module that holds it.
        name: its name there, with the class before a dot if it is a method.
        stand_in: "module:name" of the function that gets it as first argument.
    """

    module: str
    name: str
    stand_in: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    def _find(self, module: Any) -> tuple[Any, str]:
        owner, _, name = self.name.rpartition(".")
        return (getattr(module, owner) if owner else module), name

    def current(self) -> Any:
        """The function as it is now.

        Raises:
            AttributeError: DVC has none of that name.
            ImportError: DVC has no such module.
        """
        owner, name = self._find(import_module(self.module))
        return getattr(owner, name)

    def replace(self, module: Any, func: Any) -> None:
        owner, name = self._find(module)
        setattr(owner, name, func)

    def install(self) -> Callable:
        """Put the stand-in in; return what was there before."""
        original = self.current()
        module, _, name = self.stand_in.partition(":")
        stand_in = getattr(import_module(module), name)

        is_property = isinstance(original, property)
        func = original.fget if is_property else original

        @wraps(func)
        def patched(*args, **kwargs):
            return stand_in(func, *args, **kwargs)

        patched.dvc_parallel_seam = self  # type: ignore[attr-defined]
        new = property(patched) if is_property else patched
        self.replace(import_module(self.module), new)
        return original

    @property
    def installed(self) -> bool:
        current = self.current()
        func = current.fget if isinstance(current, property) else current
        return getattr(func, "dvc_parallel_seam", None) is self


CLI = "dvc_parallel.backport.cli"
STAND_INS = "dvc_parallel.stand_ins"
SAVING = "dvc_parallel.saving"

IN_DVC = (
    Seam("dvc.repo.reproduce", "_reproduce", "dvc_parallel.backport.repro:reproduce"),
    Seam("dvc.commands.repro", "add_parser", f"{CLI}:add_parser"),
    Seam("dvc.commands.repro", "CmdRepro._repro_kwargs", f"{CLI}:repro_kwargs"),
    Seam("dvc.commands.config", "CmdConfig.run", f"{CLI}:run_config"),
    Seam("dvc.utils.strictyaml", "parse_yaml", f"{STAND_INS}:parse_yaml"),
    Seam("dvc.lock", "Lock.lock", "dvc_parallel.patience:lock"),
)

IN_JOBS = (
    Seam("dvc.stage.run", "_run", f"{STAND_INS}:run"),
    Seam("dvc.stage.run", "display_command", f"{STAND_INS}:display_command"),
    Seam(
        "scmrepo.git",
        "Git._add_entry_to_gitignore",
        f"{STAND_INS}:add_entry_to_gitignore",
    ),
    Seam("dvc.prompt", "ask", f"{STAND_INS}:ask"),
    Seam("dvc.output", "Output._checkout", f"{SAVING}:checkout"),
    Seam("dvc.output", "otransfer", f"{SAVING}:transfer"),
    Seam("dvc.stage", "Stage.commit", f"{SAVING}:commit"),
    Seam("dvc.stage.cache", "StageCache._cache_type_copy", f"{SAVING}:copy_links"),
)

IN_RUNS = (
    Seam("dvc.output", "Output._build", f"{SAVING}:build"),
    Seam("dvc.stage.run", "unlocked_repo", f"{STAND_INS}:unlocked_repo"),
    Seam("dvc.repo", "Repo._reset", f"{STAND_INS}:reset"),
    Seam("dvc.dependency.param", "load_path", f"{STAND_INS}:load_path"),
    Seam("dvc.dependency.param", "read_param_file", f"{STAND_INS}:read_param_file"),
    Seam("dvc.rwlock", "rwlock", f"{STAND_INS}:rwlock"),
    Seam("dvc.dvcfile", "modify_yaml", f"{STAND_INS}:modify_yaml"),
    Seam("dvc.utils.serialize", "dump_yaml", f"{STAND_INS}:dump_yaml"),
    Seam("dulwich.ignore", "Pattern", f"{STAND_INS}:pattern"),
    Seam(
        "scmrepo.git.backend.dulwich",
        "DulwichBackend.is_ignored",
        f"{STAND_INS}:is_ignored",
    ),
    Seam(
        "scmrepo.git.backend.dulwich",
        "DulwichBackend.is_tracked",
        f"{STAND_INS}:is_tracked",
    ),
    Seam("dvc_data.hashfile.checkout", "test_links", f"{STAND_INS}:test_links"),
    Seam("dvc_data.hashfile.checkout", "_checkout_file", f"{STAND_INS}:checkout_file"),
    Seam("dvc_objects.fs.system", "reflink", f"{STAND_INS}:reflink"),
)

_guard = threading.Lock()
_originals: dict[Seam, Any] = {}
_users: Counter[Seam] = Counter()


@contextmanager
def installed(seams: Sequence[Seam]) -> Iterator[None]:
    """Have seams in place; runs in several threads share them."""
    with _guard:
        for seam in seams:
            if not _users[seam]:
                _originals[seam] = seam.install()
            _users[seam] += 1
    try:
        yield
    finally:
        with _guard:
            for seam in seams:
                _users[seam] -= 1
                if not _users[seam]:
                    seam.replace(sys.modules[seam.module], _originals.pop(seam))


def install(module: Any) -> None:
    """Install the seams that are in a module as it is imported."""
    for seam in IN_DVC:
        if seam.module == module.__name__:
            seam.install()


def install_refusal(module: Any, reason: str) -> None:
    """Let ``repro --jobs`` say why there is none."""
    from .cli import refuse_jobs

    original = module.add_parser
    module.add_parser = partial(refuse_jobs, original, reason)


def unsupported(dvc: Any) -> Optional[str]:
    """Say why this DVC cannot be patched, if it cannot."""
    if OLDEST <= dvc.version_tuple[:3] <= NEWEST:
        return None
    versions = " to ".join(
        ".".join(map(str, version)) for version in dict.fromkeys((OLDEST, NEWEST))
    )
    return f"dvc-parallel supports DVC {versions}, this is {dvc.__version__}"


def missing() -> list[Seam]:
    """Seams that the installed DVC does not have."""
    lost = []
    for seam in (*IN_DVC, *IN_RUNS, *IN_JOBS):
        try:
            seam.current()
        except (AttributeError, ImportError):
            lost.append(seam)
    return lost
