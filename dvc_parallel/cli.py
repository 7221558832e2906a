"""``dvc-parallel``, and ``python -m dvc_parallel``."""

import sys
from typing import Optional

from . import __version__

USAGE = """\
usage: dvc-parallel repro ...   the same as `dvc repro ...`, with --jobs; so is
                                any other command of dvc
       dvc-parallel plan ...    tell what would run, why, and how long it takes
       dvc-parallel validate ...
                                run stages again in a copy, tell which differ
       dvc-parallel doctor      tell whether everything is in place
       dvc-parallel --version
"""


def main(argv: Optional[list[str]] = None) -> int:
    """Run a command of our own, or one of DVC's with the hook in place.

    Returns:
        int: exit status; that of ``dvc`` for its commands.
    """
    argv = sys.argv[1:] if argv is None else argv
    command = argv[0] if argv else "--help"
    if command in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    if command == "--version":
        sys.stdout.write(f"{__version__}\n")
        return 0

    # NOTE: where .pth files are not read, this is what installs the hook
    from .backport import hook

    if command == "doctor":
        from .backport.doctor import main as doctor

        return doctor(hook)

    from dvc.cli import main as dvc

    from .commands import add_to_dvc

    add_to_dvc()
    return dvc(argv)
