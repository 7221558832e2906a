"""What some releases of DVC lack, and tests need."""

from importlib.util import find_spec
from inspect import getsource

import dvc
import dvc.env
import dvc.parsing
import pytest
from dvc.repo import Repo, reproduce
from dvc.repo.experiments.executor.base import BaseExecutor

from dvc_parallel.commands.trace.strace import Strace

# From 3.4.0 on. Before, targets are a set, whose order is that of hashes.
GOES_IN_ORDER = not hasattr(reproduce, "_get_steps")
# From 3.6.0 on.
HAS_KEEP_GOING = hasattr(reproduce, "handle_error")
# From 3.8.0 on.
RESETS_CONFIG = "config" in getsource(Repo._reset)
# From 3.0.0 on, the cache has a folder for files, beside the run cache.
HAS_FOLDER_OF_FILES = dvc.version_tuple >= (3,)
# Where a cache or a remote has its objects.
OBJECTS = (
    "files/md5/[0-9a-f][0-9a-f]/*" if HAS_FOLDER_OF_FILES else "[0-9a-f][0-9a-f]/*"
)
# From 3.49.0 on, commands are told the names of their stages.
TELLS_STAGE = hasattr(dvc.env, "DVC_STAGE")
# In 3.20.0, not yet in 3.10.1: there, an experiment adds files to git at its end.
TRACKS_EACH_STAGE = hasattr(BaseExecutor, "_repro_and_track")
HAS_DASK = find_spec("distributed") is not None
HAS_MATRIX = hasattr(dvc.parsing, "MatrixDefinition")

needs_order = pytest.mark.skipif(
    not GOES_IN_ORDER, reason="DVC before 3.4.0 does not keep the order of targets"
)
needs_keep_going = pytest.mark.skipif(
    not HAS_KEEP_GOING, reason="DVC before 3.6.0 has no --keep-going"
)

resets_config = pytest.mark.skipif(
    not RESETS_CONFIG, reason="DVC before 3.8.0 loads its config once"
)
# From commands of `dvc-parallel deps --trace`; None where it cannot trace anything.
STRACE, _WHY_NOT = Strace.find()

needs_strace = pytest.mark.skipif(STRACE is None, reason=f"needs strace: {_WHY_NOT}")
