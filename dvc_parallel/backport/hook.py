"""The import hook: patches modules of DVC when they are imported.

``dvc_parallel.pth`` puts a finder of one line into every interpreter of the
environment, which imports this module when somebody imports ``dvc``; so one that never
does pays for that line alone.  Whatever goes wrong here must leave ``dvc`` as it is.

A user may have a ``dvc.py`` or a package ``dvc`` that is not DVC: it is none of ours.
"""

import os
import sys

# Module -> function of this module that patches it.
PATCHES = {
    "dvc": "_check_version",
    "dvc.config_schema": "_add_options",
    "dvc.repo.reproduce": "_install_seams",
    "dvc.repo.commit": "_install_seams",
    "dvc.repo.status": "_install_seams",
    "dvc.commands.repro": "_install_seams",
    "dvc.commands.config": "_install_seams",
    "dvc.dvcfile": "_install_seams",
    "dvc.utils.strictyaml": "_install_seams",
    "dvc.lock": "_install_seams",
    "scmrepo.git": "_install_seams",
}

# The finder of dvc_parallel.pth.
PTH = "DvcParallel"
# Modules of every release of DVC, which nobody else's package of its name has.
MODULES = ("config", "repo", "stage")

problem = None  # what has gone wrong here, in one line
unsupported = None  # why this DVC is left alone, in one line
own_jobs = False  # whether it is because DVC has the option itself


class _Finder:
    """Finds nothing itself, but wraps the loader of what others find."""

    def __init__(self):
        self._busy = set()

    def find_spec(self, name, _path=None, _target=None):
        if name not in PATCHES or name in self._busy or problem:
            return None
        from importlib.util import find_spec

        package = sys.modules.get("dvc")
        if name != "dvc" and not is_dvc(getattr(package, "__spec__", None)):
            return None
        self._busy.add(name)
        try:
            spec = find_spec(name)
        finally:
            self._busy.discard(name)
        if name == "dvc" and not is_dvc(spec):
            return None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """A loader that patches the module that it has loaded."""

    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if problem is None:
            try:
                globals()[PATCHES[module.__name__]](module)
            except Exception as exc:  # noqa: BLE001
                if unsupported is None:
                    fail(f"{type(exc).__name__} in {module.__name__}: {exc}")


def is_dvc(spec):
    """Whether what is found under the name ``dvc`` is DVC; imports nothing of it."""
    from importlib.machinery import PathFinder

    path = spec.submodule_search_locations if spec and spec.loader else None
    return bool(path) and all(
        PathFinder.find_spec(f"dvc.{name}", path) for name in MODULES
    )


def stranger():
    """What is found under the name ``dvc`` instead of DVC, in one line, if anything."""
    from importlib.util import find_spec

    spec = sys.modules["dvc"].__spec__ if "dvc" in sys.modules else find_spec("dvc")
    if is_dvc(spec):
        return None
    if spec is None:
        return "this Python has no DVC; install it with `pip install dvc`"
    where = spec.origin or ", ".join(spec.submodule_search_locations or ())
    return f"`dvc` is {where} here, not DVC; rename it, or change to another folder"


def fail(reason):
    """Step aside, and say why in one line, on stderr and in the doctor."""
    global problem  # noqa: PLW0603
    problem = reason
    if sys.stderr:
        sys.stderr.write(f"dvc-parallel is off, and dvc works as usual: {reason}\n")


def _check_version(module):
    global own_jobs, unsupported  # noqa: PLW0603
    from .seam import NEWEST, OLDEST

    # NOTE: no word about it yet, most commands have nothing to do with us
    own_jobs = has_own_jobs(module)
    version = getattr(module, "version_tuple", ())[:3]
    if own_jobs:
        unsupported = "this DVC has its own `repro --jobs`"
    elif not OLDEST <= version <= NEWEST:
        oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEWEST))
        unsupported = (
            f"dvc-parallel supports DVC {oldest} to {newest}, but this is "
            f"{getattr(module, '__version__', 'an unknown version')}"
        )


def has_own_jobs(dvc):
    """Whether ``dvc repro`` of a DVC, in the code that adds its options, has ours."""
    path = os.path.join(os.path.dirname(dvc.__file__), "commands", "repro.py")
    try:
        # NOTE: which may be in a zip file
        code = dvc.__loader__.get_data(path)
    except (AttributeError, OSError):  # a DVC of another layout
        return False
    return b'"--jobs"' in code or b"'--jobs'" in code


def _add_options(module):
    # NOTE: where DVC is not supported, too: an option that is set in a config must not
    # stop each of its commands
    if not own_jobs:
        from . import config

        config.add_options(module.SCHEMA)


def _install_seams(module):
    if unsupported is None:
        from . import seams

        seams.install(module)
    elif module.__name__ == "dvc.commands.repro" and not own_jobs:
        from . import dvc_cli

        dvc_cli.install_refusal(module, unsupported)


def install():
    """Put the hook in; harmless when it is there already."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    # NOTE: behind that of the .pth file, which is looking for `dvc` right now: Python
    # goes on from there
    names = [getattr(finder, "__name__", None) for finder in sys.meta_path]
    sys.meta_path.insert(names.index(PTH) + 1 if PTH in names else 0, _Finder())


install()
