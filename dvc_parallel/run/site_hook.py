"""Modules of ours in the Python processes of commands, whichever Python that is.

A copy of this module, called ``sitecustomize``, is in a folder that comes first in
PYTHONPATH; each process imports it as it starts.  It imports its neighbour, a copy of
another module, and calls its ``install``.  Both need nothing but the standard library.
"""

import os
import sys

MODULE = "sitecustomize"
HOOK = "dvc_parallel_hook"


def sources(module_file: str) -> "dict[str, str]":
    """The files of such a folder, by their names.

    Args:
        module_file: path of the other module.
    """
    found = {}
    for name, path in ((MODULE, __file__), (HOOK, module_file)):
        with open(path, encoding="utf-8") as file:
            found[f"{name}.py"] = file.read()
    return found


def environment(folder: str, before: "str | None") -> "dict[str, str]":
    """Variables that have processes look into a folder first.

    Args:
        before: PYTHONPATH without it.
    """
    return {"PYTHONPATH": os.pathsep.join([folder, *filter(None, [before])])}


def _begin() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        __import__(HOOK).install()
    except Exception:  # noqa: BLE001, S110
        pass  # the program is not to fail for it
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    # NOTE: there may be another such folder, and the one that it stands before
    sys.modules.pop(HOOK, None)
    mine = sys.modules.pop(MODULE)
    try:
        __import__(MODULE)
    except ImportError:
        sys.modules[MODULE] = mine


if __name__ == MODULE:
    _begin()
