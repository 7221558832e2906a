"""Which DVC the plugin is for."""

import os
import re
from typing import Any, Optional

from .seam import NEWEST, OLDEST

# The option, in the code that adds it to the command.
OWN_JOBS = re.compile(rb"""["']--jobs["']""")


def unsupported(dvc: Any) -> Optional[str]:
    """Say why a DVC is to be left alone, if it is.

    Args:
        dvc: the package, which may be all that has been imported of it.
    """
    version = getattr(dvc, "version_tuple", ())[:3]
    if not OLDEST <= version <= NEWEST:
        oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEWEST))
        return (
            f"dvc-parallel supports DVC {oldest} to {newest}, this is "
            f"{getattr(dvc, '__version__', 'one without a version')}"
        )
    return None


def has_own_jobs(dvc: Any) -> bool:
    """Whether ``dvc repro`` of a DVC has a ``--jobs`` of its own."""
    path = os.path.join(os.path.dirname(dvc.__file__), "commands", "repro.py")
    try:
        # NOTE: which may be in a zip file
        return bool(OWN_JOBS.search(dvc.__loader__.get_data(path)))
    except (AttributeError, OSError):  # a DVC of another layout
        return False
