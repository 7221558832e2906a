"""Which reporters a run has."""

import logging
import os
import sys
from typing import TYPE_CHECKING, Callable, Optional, TextIO

from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.engine.reporter_events import logger
from dvc_parallel.engine.terminal import is_dumb

from . import ci_log
from .heartbeat import Heartbeat
from .output_reporters import FailedReporter, GroupedReporter, SilentReporter
from .output_settings import AUTO, FAILED, GROUPED, NONE, PREFIXED, Limits
from .records.writer import Recorder

if TYPE_CHECKING:
    from dvc_parallel.engine.reporter_events import Reporter

    from .progress import Progress

# What services for CI set that do not set CI: Azure, CodeBuild, Jenkins, TeamCity.
CI = ("TF_BUILD", "CODEBUILD_BUILD_ID", "JENKINS_URL", "TEAMCITY_VERSION")


def reporters(
    tmp_dir: str,
    output: str,
    limits: Limits,
    notifier: "Optional[Callable[[Recorder], Reporter]]" = None,
) -> list["Reporter"]:
    """The reporters of a run: its record first, as others read from it.

    The view comes before what prints lines, which draws it with them.

    Args:
        tmp_dir: ``.dvc/tmp`` of the repo.
        output: how the output of stages is shown, one of ``OUTPUT_MODES``.
        limits: how much of the record is kept.
        notifier: makes the last one, which tells others of the run, if one is to.
    """
    recorder = Recorder(tmp_dir, limits=limits)
    others = _for_people(recorder, output)
    return [recorder, *others, *([notifier(recorder)] if notifier else [])]


def _for_people(recorder: Recorder, output: str) -> list["Reporter"]:
    if not _has_terminal():
        service = ci_log.service()
        ci_log.guard_messages()
        shown = _shown(recorder, output, ci_log.writer(), service)
        told = [ci_log.LogOfService(service, shown)] if service else []
        return [shown, *told, Heartbeat(shown)]
    # NOTE: this imports rich
    from .live import LiveView

    view = LiveView()
    return [view, _shown(recorder, output, view.screen.write)]


def for_watchers(
    log_of: Callable[[int], Optional[str]], clock: Callable[[], float]
) -> "tuple[Progress, PlainReporter]":
    """The reporters of somebody who watches a run of another process.

    Args:
        log_of: tells where the output of a stage is kept.
        clock: tells the seconds since the run has begun.
    """
    if not _has_terminal():
        shown = SilentReporter(log_of)
        return Heartbeat(shown, clock), shown
    # NOTE: this imports rich
    from .live import LiveView

    view = LiveView(clock)
    return view, SilentReporter(log_of, view.screen.write)


def _shown(
    recorder: Recorder,
    output: str,
    write: Callable[[TextIO, bytes], None],
    service: "Optional[ci_log.Service]" = None,
) -> PlainReporter:
    if output == AUTO:
        output = GROUPED if service else PREFIXED
    if output == GROUPED:
        return GroupedReporter(recorder, write, service)
    if output == FAILED:
        return FailedReporter(recorder, write)
    if output == NONE:
        return SilentReporter(recorder.log_of)
    return PlainReporter(recorder.log_of, write)


def _is_ci() -> bool:
    """Whether this is a job of a CI, which may give it a terminal that nobody sees."""
    is_set = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return is_set or any(map(os.environ.get, CI))


def _has_terminal() -> bool:
    """Whether there is a terminal for a view, and the user wants one."""
    streams = (sys.stdout, sys.stderr)
    return (
        os.name == "posix"
        and not is_dumb()
        and not _is_ci()
        and all(stream is not None and stream.isatty() for stream in streams)
        and logger.isEnabledFor(logging.INFO)
    )
