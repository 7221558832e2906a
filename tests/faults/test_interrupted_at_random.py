"""A run is interrupted at a random moment, with commands that are hard to stop.

``DVC_PARALLEL_INTERRUPTS`` is how many times, ``DVC_PARALLEL_SEED`` where to start.
"""

import json
import random
import shutil
import signal
import sys
from collections import Counter
from contextlib import closing

import pytest

from dvc_parallel.engine.reporter_events import GOOD
from tests.support import rounds
from tests.support.processes import DvcProcess, commands_in, dvc_alone
from tests.support.terminal import Terminal

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

# Seconds, from the first signal to killing, and from SIGTERM to that for what is left.
GRACE = 0.5
INTERRUPTED_BY_USER = 252
CTRL_C = b"\x03"


def by_signals(*signums):
    return [lambda process, _terminal, s=s: process.send_signal(s) for s in signums]


def press(_process, terminal):
    terminal.type(CTRL_C)


def hang_up(_process, terminal):
    terminal.hang_up()


# What is done, one after the other; the first decides what the run dies of.
WITHOUT_TERMINAL = {
    "Ctrl-C": (signal.SIGINT, by_signals(signal.SIGINT)),
    "Ctrl-C twice": (signal.SIGINT, by_signals(signal.SIGINT, signal.SIGINT)),
    "SIGTERM": (signal.SIGTERM, by_signals(signal.SIGTERM)),
    "SIGTERM twice": (signal.SIGTERM, by_signals(signal.SIGTERM, signal.SIGTERM)),
    "SIGHUP": (signal.SIGHUP, by_signals(signal.SIGHUP)),
    "Ctrl-C, SIGTERM": (signal.SIGINT, by_signals(signal.SIGINT, signal.SIGTERM)),
}
ON_TERMINAL = {
    "Ctrl-C": (signal.SIGINT, [press]),
    "Ctrl-C twice": (signal.SIGINT, [press, press]),
    "SIGTERM": (signal.SIGTERM, by_signals(signal.SIGTERM)),
    "hang-up": (signal.SIGHUP, [hang_up]),
}


def ended(project):
    """Names of the stages whose commands have come to their end."""
    path = project.path.parent / "ended"
    return set(path.read_text().split()) if path.exists() else set()


def returncodes(project, kind, signum):
    """What a shell may see of a run that was interrupted."""
    codes = {-signum}
    if signum == signal.SIGINT:
        codes.add(INTERRUPTED_BY_USER)
    if kind == "Ctrl-C, SIGTERM":
        # NOTE: it may come when the run has ended, and only DVC is still there
        codes.add(-signal.SIGTERM)
    if kind == "hang-up":
        # NOTE: DVC itself fails when it cannot say something any more
        codes.add(1)
    if all(stage.phase in GOOD for stage in rounds.journal(project)):
        codes.add(0)
    return codes


def interrupt(project, pipeline, rng, terminal, actions):
    """Start a run, interrupt it at a random moment, and wait for its end."""
    wild = project.path.parent / "wild"
    wild.touch()
    process = DvcProcess(
        project,
        "repro",
        "-j",
        rng.randint(2, 6),
        grace=GRACE,
        terminal=terminal and terminal.path,
        env={"TERM": "xterm-256color"},
    )
    if pipeline.wait(process, project, rng):
        for action in actions:
            action(process, terminal)
            process.wait(rng.uniform(0, GRACE))
    process.finish()
    assert "LoggingException" in process.traceback or not process.traceback
    alive = [p.cmdline() for p in commands_in(project.path)]
    wild.unlink()
    assert not alive
    return process


def round_of(pipeline, project, rng):
    """Play a round; return its kind, and what serial DVC would leave otherwise."""
    terminal = Terminal() if rng.random() < 0.4 else None
    kinds = ON_TERMINAL if terminal else WITHOUT_TERMINAL
    kind = rng.choice(list(kinds))
    signum, actions = kinds[kind]
    process = interrupt(project, pipeline, rng, terminal, actions)
    output = process.output
    if terminal:
        with closing(terminal):
            terminal.assert_as_before()
            output = terminal.written.decode()
    assert process.returncode in returncodes(project, kind, signum), output
    pipeline.assert_sound(project)
    if "killing" not in output:
        assert ended(project) <= set(rounds.recorded(project)), output
    name = f"{kind} on a terminal" if terminal else kind
    # NOTE: DVC takes back what a failed run has added to it
    failed = kind == "hang-up" and process.returncode == 1
    return name, [".gitignore"] if failed else []


@pytest.mark.parametrize(
    "seed, interrupts", rounds.rounds("DVC_PARALLEL_INTERRUPTS", 3)
)
@pytest.mark.timeout(7200)
def test_interrupted_at_a_random_moment(tmp_path, seed, interrupts, record_property):
    pipeline = rounds.Pipeline(tmp_path, random.Random(seed), (8, 20), wild=True)
    kinds, hit = Counter(), Counter()
    for number in range(interrupts):
        rng = random.Random(f"{seed} {number}")
        project = pipeline.project(f"round{number}")
        kind, but_for = round_of(pipeline, project, rng)
        kinds[kind] += 1
        hit.update(rounds.where(project))
        if rng.random() < 0.1:
            dvc_alone(project, "repro")
        else:
            process = DvcProcess(project, "repro")
            output = process.finish()
            assert process.returncode == 0, output
        pipeline.assert_as_serial(project, but_for)
        shutil.rmtree(project.path.parent)
    record_property("kinds", json.dumps(kinds))
    record_property("hit", json.dumps(hit))
