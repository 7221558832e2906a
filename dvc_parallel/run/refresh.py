"""Taking over what another process has recorded of a stage since it was loaded.

Stages are loaded when a run begins.  If another DVC process has run one meanwhile, it
would be run once more, as changed by what its old entry of dvc.lock says.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA
from dvc.stage import PipelineStage
from dvc.stage.loader import StageLoader
from voluptuous import Invalid

if TYPE_CHECKING:
    from dvc.stage import Stage

    from dvc_parallel.engine.lockfile import Lockfiles


def catch_up(stage: "Stage", lockfiles: "Lockfiles") -> None:
    """Update a stage that DVC is about to check from its entry in dvc.lock.

    Does nothing where there is no entry, or none that can be read quickly: then the
    run cache has what the other process has made.
    """
    if not isinstance(stage, PipelineStage):
        return
    entry = lockfiles.entry(stage.dvcfile._lockfile.path, stage.name)
    if entry is None:
        return
    with suppress(Invalid):  # DVC reads none that is not as it should be
        COMPILED_LOCK_FILE_STAGE_SCHEMA(entry)
        stage.cmd_changed = entry.get(stage.PARAM_CMD) != stage.cmd
        StageLoader.fill_from_lock(stage, entry)
