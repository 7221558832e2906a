"""Stages on machines that do not see the workspace: in clones of the repo.

    coordinator                                        worker
    pack ── Request: state of the repo, deps by hash ─> perform
     │ push deps ──>  DVC remote, or shared cache  ──> pull │ run
     │ pull outs <──  DVC remote, or shared cache  <── push │
    take <── Result: lock entry, what is not cached ────────┘

The coordinator is the process that runs ``dvc repro``; it alone writes to the user's
repo.  A worker has a pool of clones, of which each belongs to one stage at a time.
How requests and results travel is not decided here: a carrier is a function
(``dvc_parallel.run.stage_run.Carrier``).

A worker knows only what a stage declares.  So a command that reads a file which is
neither tracked by git nor one of its dependencies fails in each clone.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .clone_worker import Performance

# The stage of another machine that the calling thread performs, if any.
current_performance: "ContextVar[Optional[Performance]]" = ContextVar(
    "current_performance", default=None
)
