"""A workload: a graph of stages, its files, and what must come out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional, Union

# Every command appends a line to this file when it has ended, so that one can
# tell which commands ran. Relative, because not every tool hands on variables.
LOG = "ran.log"

ITEM = "${item}"
KEY = "${key}"
SECONDS = "${item.seconds}"


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        deps, outs, metrics: paths of files, relative to the project; metrics are
            outputs that DVC does not cache.
        params: keys in params.yaml.
        seconds: how long the command takes, where it says so itself (`sleep`);
            otherwise it has to be measured.
    """

    name: str
    cmd: str
    deps: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    seconds: Optional[float] = None

    @property
    def products(self) -> tuple[str, ...]:
        return self.outs + self.metrics


@dataclass(frozen=True)
class Foreach:
    """A stage for each of the items, which stand for ``${item}`` in `do`.

    Attributes:
        key: where in params.yaml the items are; None: they are in dvc.yaml.
        fields: if items are keys of dicts, what is in each; in `do`, ``${key}`` is the
            key then, and ``${item.x}`` a field.  ``${item.seconds}`` is how long the
            command takes, if it is there.
        folder: of its dvc.yaml.  Paths are relative to the project nevertheless.
    """

    name: str
    items: tuple[str, ...]
    do: Stage
    key: Optional[str] = None
    fields: Sequence[Mapping[str, str]] = ()
    folder: str = ""

    def stages(self) -> Iterator[Stage]:
        for place, item in enumerate(self.items):
            words = {ITEM: item}
            if self.fields:
                values = self.fields[place]
                words = {KEY: item, **{f"${{item.{k}}}": v for k, v in values.items()}}

            def fill(text: str, words: Mapping[str, str] = words) -> str:
                for word, value in words.items():
                    text = text.replace(word, value)
                return text

            yield replace(
                self.do,
                name=f"{self.name}@{item}",
                cmd=fill(self.do.cmd),
                deps=tuple(map(fill, self.do.deps)),
                outs=tuple(map(fill, self.do.outs)),
                seconds=float(words[SECONDS]) if SECONDS in words else self.do.seconds,
            )


@dataclass(frozen=True)
class Workload:
    """Something to do, of a certain size.

    Attributes:
        definitions: in the order of dvc.yaml.
        jobs: numbers of jobs to try; tools other than ours get the last one.
        files: path -> text of the files that are there at the start.
        expected: path -> text of the outputs, or their size in bytes where the
            text would be too long to keep.
        again: what is measured is a second run, in which nothing has changed.
        stamped: the lines of the log end with when the command started and
            ended, in seconds since the epoch.
    """

    name: str
    size: int
    title: str
    definitions: Sequence[Union[Stage, Foreach]]
    jobs: tuple[int, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, Union[str, int]] = field(default_factory=dict)
    again: bool = False
    stamped: bool = False

    @property
    def stages(self) -> list[Stage]:
        stages: list[Stage] = []
        for definition in self.definitions:
            if isinstance(definition, Foreach):
                stages.extend(definition.stages())
            else:
                stages.append(definition)
        return stages

    @property
    def ran(self) -> list[str]:
        """Names of the stages whose commands a measured run has to run."""
        return [] if self.again else [stage.name for stage in self.stages]

    @property
    def bytes(self) -> int:
        """Size of the outputs, for those that are worth mentioning."""
        return sum(size for size in self.expected.values() if isinstance(size, int))


def logged(cmd: str, name: str) -> str:
    """The command, with a line in the log once it has succeeded."""
    return f"{cmd} && echo {name} >> {LOG}"


def stamped(cmd: str, name: str) -> str:
    """As :func:`logged`, with the times at which it started and ended."""
    now = "$(date +%s.%N)"
    return f"started={now} && {cmd} && echo {name} $started {now} >> {LOG}"


def upstream(stages: Sequence[Stage]) -> dict[str, list[str]]:
    """Name of each stage -> names of the stages that write its deps."""
    writer = {path: stage.name for stage in stages for path in stage.products}
    return {
        stage.name: [writer[dep] for dep in stage.deps if dep in writer]
        for stage in stages
    }


def critical_path(stages: Sequence[Stage], seconds: Mapping[str, float]) -> float:
    """Seconds that it takes with any number of jobs.

    Args:
        stages: upstreams before their downstreams.
        seconds: name of each stage -> how long its command takes.
    """
    end: dict[str, float] = {}
    for name, names in upstream(stages).items():
        end[name] = seconds[name] + max((end[up] for up in names), default=0.0)
    return max(end.values(), default=0.0)


def lower_bound(
    stages: Sequence[Stage], seconds: Mapping[str, float], jobs: int
) -> float:
    """Seconds below which nobody can get with that many jobs."""
    return max(critical_path(stages, seconds), sum(seconds.values()) / jobs)
