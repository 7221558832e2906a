"""Which reporters a run has."""

from typing import TYPE_CHECKING

from dvc_parallel.output_modes import FAILED, GROUPED, NONE
from dvc_parallel.record_limits import Limits
from dvc_parallel.records.writer import Recorder

from .heartbeat import Heartbeat
from .live import LiveView, can_be_shown
from .modes import FailedReporter, GroupedReporter, SilentReporter
from .plain import PlainReporter

if TYPE_CHECKING:
    from .interface import Reporter


def reporters(tmp_dir: str, output: str, limits: Limits) -> list["Reporter"]:
    """Those of a run: its record first, as others read from it.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
        output: how the output of stages is shown, one of ``OUTPUT_MODES``.
        limits: how much of the record is kept.
    """
    recorder = Recorder(tmp_dir, limits=limits)
    shown = _shown(recorder, output)
    return [recorder, shown, LiveView() if can_be_shown() else Heartbeat(shown)]


def _shown(recorder: Recorder, output: str) -> PlainReporter:
    if output == GROUPED:
        return GroupedReporter(recorder)
    if output == FAILED:
        return FailedReporter(recorder)
    if output == NONE:
        return SilentReporter(recorder.log_of)
    return PlainReporter(recorder.log_of)
