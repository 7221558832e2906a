"""What is told while a parallel run goes on, and to whom.

A run tells one :class:`Reporter` what happens; :class:`Reporters` passes it on to
several.  A reporter looks on: nothing that it does can break a run.
"""

from .reporter_events import Phase, Reporter, Reporters, RunInfo, StageInfo, Summary

__all__ = ["Phase", "Reporter", "Reporters", "RunInfo", "StageInfo", "Summary"]
