"""Which reporters a run has."""

import logging
import os
import sys
from typing import TYPE_CHECKING

from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.engine.reporter_events import logger

from .heartbeat import Heartbeat
from .output_reporters import FailedReporter, GroupedReporter, SilentReporter
from .output_settings import FAILED, GROUPED, NONE, Limits
from .records.writer import Recorder

if TYPE_CHECKING:
    from dvc_parallel.engine.reporter_events import Reporter


def reporters(tmp_dir: str, output: str, limits: Limits) -> list["Reporter"]:
    """The reporters of a run: its record first, as others read from it.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
        output: how the output of stages is shown, one of ``OUTPUT_MODES``.
        limits: how much of the record is kept.
    """
    recorder = Recorder(tmp_dir, limits=limits)
    shown = _shown(recorder, output)
    if not _has_terminal():
        return [recorder, shown, Heartbeat(shown)]
    # NOTE: this imports rich
    from .live import LiveView

    return [recorder, shown, LiveView()]


def _shown(recorder: Recorder, output: str) -> PlainReporter:
    if output == GROUPED:
        return GroupedReporter(recorder)
    if output == FAILED:
        return FailedReporter(recorder)
    if output == NONE:
        return SilentReporter(recorder.log_of)
    return PlainReporter(recorder.log_of)


def _has_terminal() -> bool:
    """Whether there is a terminal for a view, and the user wants one."""
    streams = (sys.stdout, sys.stderr)
    return (
        os.name == "posix"
        and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        and all(stream is not None and stream.isatty() for stream in streams)
        and logger.isEnabledFor(logging.INFO)
    )
