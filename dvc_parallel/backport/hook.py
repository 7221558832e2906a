"""The import hook: patches modules of DVC when they are imported.

``dvc_parallel.pth`` imports this module at the start of every interpreter of the
environment, so it imports next to nothing, and whatever goes wrong here must
leave ``dvc`` as it is.
"""

import sys

# Module -> function of this module that patches it.
PATCHES = {
    "dvc": "_check_version",
    "dvc.config_schema": "_add_options",
    "dvc.repo.reproduce": "_install_seams",
    "dvc.commands.repro": "_install_seams",
    "dvc.commands.config": "_install_seams",
    "dvc.utils.strictyaml": "_install_seams",
    "dvc.lock": "_install_seams",
}

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

        self._busy.add(name)
        try:
            spec = find_spec(name)
        finally:
            self._busy.discard(name)
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


def fail(reason):
    """Step aside, and say why in one line, on stderr and in the doctor."""
    global problem  # noqa: PLW0603
    problem = reason
    if sys.stderr:
        sys.stderr.write(f"dvc-parallel is off, dvc works as ever: {reason}\n")


def _check_version(module):
    global own_jobs, unsupported  # noqa: PLW0603
    from . import support

    # NOTE: no word about it yet, most commands have nothing to do with us
    own_jobs = support.has_own_jobs(module)
    unsupported = support.unsupported(module)
    if own_jobs:
        unsupported = "this DVC has `repro --jobs` of its own"


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
        from . import cli

        cli.install_refusal(module, unsupported)


def install():
    """Put the hook in; harmless when it is there already."""
    if not active():
        sys.meta_path.insert(0, _Finder())


def active():
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


install()
