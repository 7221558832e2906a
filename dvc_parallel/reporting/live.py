"""The view of a run on a terminal: how far it is, and a line for each running stage.

Where it is shown, and when, is up to :mod:`dvc_parallel.reporting.screen`.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from os.path import commonprefix
from typing import Any, Callable, Optional

from rich.cells import cell_len
from rich.text import Text

from dvc_parallel.engine.reporter_events import FINAL, Phase, RunInfo
from dvc_parallel.engine.run_info import group_of
from dvc_parallel.engine.signals import clock
from dvc_parallel.engine.terminal import visible

from .progress import Progress
from .screen import Screen

BAR_WIDTH = 24
# Characters at the beginning of a name that are shown in any case.
HEAD = 3
# What the stage does, where that is not to run its command.
DOING = {
    Phase.LOCK: "waiting for the repo lock",
    Phase.QUEUED: "waiting for a worker",
    Phase.CHECK: "checking for changes",
    Phase.RETRY: "trying again",
    Phase.SAVE: "saving",
}


class LiveView(Progress):
    """Shows how far a run is, below everything else on the terminal.

    Attributes:
        screen: what the terminal shows.
    """

    def __init__(self, clock: Callable[[], float] = clock):
        super().__init__(clock)
        self.screen = Screen(self.lines, clock)
        self._left: tuple[float, Optional[str]] = (0.0, None)
        self._group_of: list[str] = []
        self._groups: dict[str, list[int]] = {}
        self._failing: set[int] = set()  # stages whose commands have failed

    def begun(self, run: RunInfo) -> None:
        super().begun(run)
        self._group_of = [visible(group_of(stage.name)) for stage in run.stages]
        for stage, group in enumerate(self._group_of):
            self._groups.setdefault(group, []).append(stage)
        self.screen.open()

    def phase(self, stage: int, phase: Phase, **details: Any) -> None:
        super().phase(stage, phase, **details)
        if phase in FINAL:
            self._failing.discard(stage)
        elif details.get("failing"):
            self._failing.add(stage)
        if phase is Phase.COMMAND or phase in FINAL:
            # NOTE: what others print next is about it
            self.screen.outdate()

    def due(self) -> Optional[float]:
        return self.screen.due()

    def tick(self) -> None:
        self.screen.look()

    def hold(self) -> AbstractContextManager[None]:
        return self.screen.hold()

    def stages_over(self) -> None:
        self.screen.close()
        super().stages_over()

    def lines(self, width: int, height: int) -> list[Text]:
        """The lines of the view on a terminal of this size."""
        stages = self.oldest_first()
        # NOTE: the rest of the rows is for what is printed
        room = max(2, height * 2 // 3) - 1 if height > 1 else 0
        listed, groups = len(stages), Counter[str]()
        if listed > room:
            listed, groups = self._summed_up(stages, room)
        others = groups.pop("", 0)
        names = [visible(self.run.stages[stage].name) for stage in stages[:listed]]
        names += groups
        column = min(max(map(cell_len, names), default=0), max(8, width * 2 // 5))
        details = [self._details(stage) for stage in stages[:listed]]
        some = {self._group_of[stage] for stage in stages[:listed]}
        for group, count in groups.items():
            more = " more" if group in some else ""
            of_group = self._groups[group]
            over = sum(s in self.over and s not in self.not_run for s in of_group)
            share = f"{over}/{len(of_group)}"
            details.append(Text(f" {share:>7}  {count}{more} running"))
        lines = [self._head(width)]
        for name, detail in zip(fitted(names, column), details):
            line = Text(name)
            line.truncate(column, pad=True)
            line.stylize("cyan")
            lines.append(line.append_text(detail))
        if others and room:
            lines.append(Text(f"and {others} more", "dim"))
        for line in lines:
            line.truncate(max(1, width), overflow="ellipsis")
        return lines

    def _summed_up(self, stages: Sequence[int], room: int) -> tuple[int, Counter[str]]:
        """How many stages are listed in so many rows, and groups of the others."""
        listed, groups = 0, Counter[str]()
        for listed in range(room - 1, room // 2 - 1, -1):
            groups = Counter(self._group_of[stage] for stage in stages[listed:])
            if len(groups) <= room - listed:
                return listed, groups
        # NOTE: the smallest groups, and what belongs to none, share the last row
        shown = groups.most_common()
        kept = Counter(dict([pair for pair in shown if pair[0]][: room - listed - 1]))
        kept[""] = sum(groups.values()) - sum(kept.values())
        return listed, kept

    def _head(self, width: int) -> Text:
        running = sum(stage not in self._failing for stage in self.at_work())
        total = max(1, len(self.run.stages))
        size = min(BAR_WIDTH, width // 4)
        full = size * self.done // total
        ascii_only = not self.screen.encoding.lower().startswith("utf")
        done, rest = ("#", "-") if ascii_only else ("━", "─")
        head = Text().append(done * full, "green")
        head.append(rest * (size - full), "dim")
        head.append(f" {self.done}/{len(self.run.stages)}", "bold")
        head.append(f", {running} running")
        if self.failed:
            head.append(f", {self.failed} failed", "red")
        if self.not_run:
            head.append(f", {len(self.not_run)} not run")
        if left := self._time_left():
            head.append(f", {left}")
        return head

    def _time_left(self) -> Optional[str]:
        # NOTE: with thousands of stages, this takes a while
        asked, left = self._left
        if not asked or self.clock() - asked >= 1:
            left = self.left()
            self._left = self.clock(), left
        return left

    def _details(self, stage: int) -> Text:
        text = Text(f" {_clock(self.seconds(stage)):>7}  ")
        doing = DOING.get(self.phases.get(stage, Phase.COMMAND))
        if stage in self._failing:
            text.append("failed", "red")
        elif doing:
            text.append(doing, "dim")
        else:
            if worker := self.workers.get(stage):
                text.append(f"on {visible(worker)}  ", "dim")
            last = Text.from_ansi(self.last_line(stage)).plain
            text.append("".join(c if c.isprintable() else " " for c in last))
        return text


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def fitted(names: Sequence[str], width: int) -> list[str]:
    """Names in so many columns, without a part that they have in common.

    Of long ones, beginning and end are left, and the item if possible.
    """
    long = [name for name in names if cell_len(name) > width]
    if not long or width < 2 * HEAD + 1:
        return [name if cell_len(name) <= width else name[-width:] for name in names]
    longest_tail = width - 1 - HEAD
    for tail in (*range(width // 2, longest_tail + 1), *range(width // 2, HEAD, -1)):
        short = {name: _cut(name, width, tail) for name in long}
        if len({*short.values()}) == len(short):
            break
    else:
        # NOTE: they differ where these are cut
        differ = len(commonprefix(long))
        end = (width - HEAD) // 2 - 1
        for name in long:
            part = name[differ : differ + width - HEAD - 2 - end]
            short[name] = f"{name[:HEAD]}…{part}…{name[-end:]}"
    return [short.get(name, name) for name in names]


def _cut(name: str, width: int, tail: int) -> str:
    # NOTE: some characters are two columns wide
    excess = cell_len(name) - len(name)
    width = max(width - excess * width // cell_len(name), 2 * HEAD)
    item = len(name) - name.find("@") if "@" in name else 0
    tail = max(tail, item) if item < width - HEAD else tail
    tail = min(tail, width - 1 - HEAD)
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"
