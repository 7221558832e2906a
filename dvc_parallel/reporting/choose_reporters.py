"""Which reporters a run has."""

from typing import TYPE_CHECKING

from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.reporting.output_modes import FAILED, GROUPED, NONE
from dvc_parallel.reporting.record_limits import Limits
from dvc_parallel.reporting.records.writer import Recorder

from .heartbeat import Heartbeat
from .live import LiveView, can_be_shown
from .output_reporters import FailedReporter, GroupedReporter, SilentReporter

if TYPE_CHECKING:
    from dvc_parallel.engine.reporter_events import Reporter


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
