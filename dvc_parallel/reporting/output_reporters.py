"""Ways to show the output of stages other than line by line as it comes."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Optional, TextIO

from dvc.progress import Tqdm

from dvc_parallel.engine.plain_reporter import PlainReporter, print_bytes
from dvc_parallel.engine.reporter_events import FINAL, GOOD, Phase
from dvc_parallel.engine.terminal import (
    columns_of,
    duration,
    harmless_on,
    last_states,
    whole_lines,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .ci_log import Service
    from .records.log_files import LogReader
    from .records.writer import Recorder


class SilentReporter(PlainReporter):
    """Shows no output but the last lines of what has failed."""

    def command(self, stage: int, cmd: str) -> None:
        pass

    def show(self, stage: int, stream: str, data: bytes) -> None:
        pass


class GroupedReporter(PlainReporter):
    """Shows all output of a stage at once, when its commands have ended.

    It is read from the log of the stage.  Where that cannot be written, lines are shown
    as they come.

    Args:
        recorder: keeps the logs; has to be told everything first.
        write: writes lines to stdout or stderr.
        service: folds the output of stages that have not failed, which is shown when
            they have ended, with their outcome.
    """

    def __init__(
        self,
        recorder: "Recorder",
        write: Callable[[TextIO, bytes], None] = print_bytes,
        service: "Optional[Service]" = None,
    ):
        super().__init__(recorder.log_of, write)
        self._service = service
        self._recorder = recorder
        self._to_show: set[int] = set()
        self._shown: set[int] = set()
        self._readers: dict[int, LogReader] = {}  # of what has been shown

    def _is_time(self, phase: Phase) -> bool:
        if self._service:
            return phase in FINAL
        return phase in (Phase.LOCK, Phase.FAILED, Phase.INTERRUPTED)

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        super().phase(stage, phase, **details)
        if phase is Phase.COMMAND:
            self._to_show.add(stage)
        elif phase is Phase.RETRY:
            self._shown.discard(stage)

    def _lines_ended(
        self, stage: int, phase: Phase, details: "Mapping[str, Any]"
    ) -> None:
        if stage in self._to_show and self._is_time(phase):
            if self._service and self._recorder.logs:
                seconds = details.get("seconds", 0.0)
                title = f"{self._name(stage)} | {phase.value} in {duration(seconds)}"
                is_good = phase in GOOD
                folds = self._service.folded(stage, title, seconds) if is_good else None
                self._show_all(stage, title, folds)
                return
            self._show_all(stage)
        super()._lines_ended(stage, phase, details)

    def command(self, stage: int, cmd: str) -> None:
        if self._recorder.logs is None:
            super().command(stage, cmd)

    def show(self, stage: int, stream: str, data: bytes) -> None:
        logs = self._recorder.logs
        if logs is not None and not logs.is_whole(stage):
            self._show_all(stage)
        if logs is None or stage in self._shown:
            super().show(stage, stream, data)

    def _show_all(
        self, stage: int, title: str = "", folds: Optional[tuple[bytes, bytes]] = None
    ) -> None:
        with self._guard:
            if stage in self._shown:
                return
            self._to_show.discard(stage)
            self._shown.add(stage)
            stream = sys.stdout
            if self._over or stream is None or self._recorder.logs is None:
                return
            self.times_shown += 1
            # NOTE: nothing of others in between, which tqdm's lock keeps away
            with suppress(OSError, ValueError), Tqdm.get_lock():
                if folds:
                    print_bytes(stream, folds[0])
                else:
                    header = f"=== {title or self._name(stage)}\n"
                    self._write(stream, self._colored(header, stage, stream))
                for lines in filter(None, self._log(stage)):
                    end = b"" if lines.endswith(b"\n") else b"\n"
                    self._write(stream, harmless_on(stream, lines) + end)
                if folds:
                    print_bytes(stream, folds[1])

    def _log(self, stage: int) -> Iterator[bytes]:
        logs = self._recorder.logs
        assert logs
        if not logs.has_printed(stage):
            yield logs.commands(stage)
            return
        reader = self._readers.setdefault(stage, logs.reader(stage))
        begun = b""
        for chunk in whole_lines(reader.new()):
            shown, begun = last_states(begun + chunk, columns_of(sys.stdout))
            yield shown
        yield last_states(begun + b"\n")[0] if begun.strip() else b""


class FailedReporter(GroupedReporter):
    """Shows all output of stages that fail."""

    def _is_time(self, phase: Phase) -> bool:
        return phase is Phase.FAILED
