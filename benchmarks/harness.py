"""Rounds: every tool in turn, each run in a fresh project of its own."""

import math
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from . import formats, project
from .installs import Install
from .model import Workload, lower_bound
from .process import Place, RunError, run
from .results import Measured, Row
from .tools import OURS, PARALLEL, SERIAL


@dataclass
class Contender:
    """A row of the table, and what it takes to fill it."""

    install: Install
    row: Row
    fingerprints: set[str] = field(default_factory=set)


# Projects with less data are removed after the last run of their workload: on some
# file systems it takes longer to make a file where many have been removed lately.
KEPT_BYTES = 2**27


@contextmanager
def scratch(workdir: Optional[Path]) -> Iterator[Path]:
    """A folder that is gone afterwards, however large it has become."""
    folder = Path(tempfile.mkdtemp(prefix="dvc-benchmark-", dir=workdir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def measure(
    workload: Workload,
    installs: Sequence[Install],
    jobs: Sequence[int],
    rounds: int,
    limit: float,
    workdir: Optional[Path],
    say: Callable[[str], None],
    too_slow: Collection[tuple[str, Optional[int]]] = (),
    once: float = math.inf,
) -> Measured:
    """Run a workload with all of the tools.

    Args:
        jobs: `dvc repro -j` runs with all of them, other tools with the last one.
        limit: seconds for a single run.
        workdir: where projects are written; None: where temporary files go.
        say: is told what goes on.
        too_slow: tools and their jobs that have timed out with a smaller size.
        once: seconds; what took longer is not run in another round.
    """
    contenders = list(_contenders(workload, installs, jobs, too_slow))
    measured = Measured(
        workload.name,
        workload.size,
        workload.title,
        len(workload.stages),
        bounds={},
        rows=[contender.row for contender in contenders],
        limit=limit,
    )
    # In the workspace, in the cache, and one to spare.
    room = 3 * workload.bytes
    if shutil.disk_usage(workdir or tempfile.gettempdir()).free < room:
        for row in measured.rows:
            row.cannot = f"needs {room / 2**30:.0f} GiB of disk"
        return measured

    seconds = command_seconds(workload, workdir)
    for count in {1, *jobs}:
        measured.bounds[count] = lower_bound(workload.stages, seconds, count)
    with ExitStack() as kept:

        def folders() -> AbstractContextManager[Path]:
            folder = scratch(workdir)
            if workload.bytes < KEPT_BYTES:
                return nullcontext(kept.enter_context(folder))
            return folder

        for number in range(rounds):
            # Who comes first differs: the machine may get slower, or warmer.
            first = number % len(contenders) if contenders else 0
            for contender in contenders[first:] + contenders[:first]:
                if max(contender.row.seconds, default=0.0) > once:
                    continue
                how = _take_turn(workload, contender, installs, limit, folders)
                who = f"{contender.row.tool} -j {contender.row.jobs or 1}"
                say(
                    f"{workload.name} {workload.size}, round {number + 1}: {who}: {how}"
                )
    _compare_with_serial(contenders)
    return measured


def _take_turn(
    workload: Workload,
    contender: Contender,
    installs: Sequence[Install],
    limit: float,
    folders: Callable[[], AbstractContextManager[Path]],
) -> str:
    """Run it, or not, and tell how it went."""
    row = contender.row
    if row.cannot:
        return row.cannot
    if any("timed out" in error for error in row.errors):
        row.errors.append("left out after a time-out")
        return row.errors[-1]
    # NOTE: ours leaves what serial DVC leaves, which may take that hours
    wanted = OURS if row.tool == SERIAL else row.tool
    setups = (each for each in installs if each.tool.name == wanted)
    setup = next(setups, contender.install)
    try:
        _run_once(workload, contender, setup, limit, folders)
    except RunError as exc:
        row.errors.append(str(exc))
        return str(exc)
    return f"{row.seconds[-1]:.2f} s"


def command_seconds(workload: Workload, workdir: Optional[Path]) -> dict[str, float]:
    """Name of each stage -> seconds that its command takes in a shell, alone."""
    if workload.again:
        return {stage.name: 0.0 for stage in workload.stages}
    seconds = {}
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    with scratch(workdir) as folder:
        root = folder / "project"
        project.create(root, workload, formats.dvc(workload))
        for stage in workload.stages:
            if stage.seconds is None:
                # Not through `process.run`: it looks at every process afterwards.
                started = time.monotonic()
                pid = os.posix_spawn(
                    "/bin/sh",
                    ["/bin/sh", "-c", f"cd '{root}' && {stage.cmd}"],
                    env,
                )
                _, status = os.waitpid(pid, 0)
                seconds[stage.name] = time.monotonic() - started
                if status:
                    raise RunError(f"{stage.name} of {workload.name} does not work")
            else:
                seconds[stage.name] = stage.seconds
    return seconds


def _contenders(
    workload: Workload,
    installs: Sequence[Install],
    jobs: Sequence[int],
    too_slow: Collection[tuple[str, Optional[int]]],
) -> Iterator[Contender]:
    for install in installs:
        name = install.tool.name
        counts: Sequence[Optional[int]] = jobs if name in PARALLEL else jobs[-1:]
        for count in [None] if name == SERIAL else counts:
            cannot = install.tool.cannot(workload)
            if (name, count) in too_slow:
                cannot = cannot or "timed out with a smaller size"
            yield Contender(install, Row(name, count, cannot=cannot))


def _run_once(
    workload: Workload,
    contender: Contender,
    setup: Install,
    limit: float,
    folders: Callable[[], AbstractContextManager[Path]],
) -> None:
    tool, row = contender.install.tool, contender.row
    with folders() as folder:
        root, home = folder / "project", folder / "home"
        home.mkdir()
        project.create(root, workload, tool.files(workload))
        env = contender.install.env(home)
        if workload.again:
            try:
                run(_commands(setup, row), root, setup.env(home), limit)
            except RunError as exc:
                raise RunError(f"in the first run, not measured: {exc}") from None
            project.forget_log(root)
        bin_dir = contender.install.folder
        place = Place(bin_dir, env, root, folder / "servers", row.jobs or 1)
        with tool.servers(place) if tool.servers else nullcontext({}) as more:
            # What others have written must not be paid for in this run.
            os.sync()
            commands = _commands(contender.install, row)
            seconds, cpu = run(commands, root, {**env, **more}, limit)
        project.check(root, workload, tool.is_dvc)
        row.seconds.append(seconds)
        row.cpu.append(cpu)
        if workload.stamped:
            row.start_delays.append(max(project.start_delays(root, workload)))
        if tool.name in (SERIAL, *PARALLEL):
            contender.fingerprints.add(project.fingerprint(root))


def _commands(install: Install, row: Row) -> list[list[str]]:
    # NOTE: not the name alone, it would be looked up in our own PATH.
    return [
        [str(install.folder / command[0]), *command[1:]]
        for command in install.tool.commands(row.jobs or 1)
    ]


def _compare_with_serial(contenders: Sequence[Contender]) -> None:
    serial = [c.fingerprints for c in contenders if c.row.tool == SERIAL]
    for contender in contenders:
        if contender.row.tool in PARALLEL and contender.fingerprints and any(serial):
            contender.row.same_as_serial = contender.fingerprints == serial[0]
