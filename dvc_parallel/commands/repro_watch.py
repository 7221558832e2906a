"""``dvc-parallel repro --watch``: ``dvc repro``, again whenever something has changed.

What counts are the stamps of files before a run: whatever changes after they were taken
leads to one more run, also while a run goes on.  The watcher only tells when to look.
Which stages are affected is for DVC to find out.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Optional

from dvc_parallel.engine.signals import EXIT_INTERRUPTED, SIGINT, SIGNALS, die_of
from dvc_parallel.engine.terminal import visible

from .watched_files import Stamps, WatchedFiles

OPTION = "--watch"
HELP = (
    "Run again whenever a dependency, a params file, a file of DVC, or code that a "
    "stage uses has changed, until Ctrl-C. Needs the package 'watchfiles'."
)
MISSING = (
    f"{OPTION} needs the package 'watchfiles': pip install 'dvc-parallel[watch]'\n"
)

# Milliseconds without a change after which those before it count as one; and between
# two moments at which the watcher says that nothing has changed.
QUIET = 100
LOOK_EVERY = 200
# How many of the files that have changed are named.
MOST_NAMED = 3


def split_option(argv: Sequence[str]) -> tuple[list[str], bool]:
    """Arguments without ``--watch``, and whether it was there, maybe abbreviated."""
    rest = [it for it in argv if not (OPTION.startswith(it) and it.startswith("--w"))]
    return rest, len(rest) < len(argv)


def main(argv: Sequence[str], parsed: Any) -> int:
    """Run ``dvc repro`` until the user has enough.

    Args:
        argv: arguments for it.
        parsed: the same, parsed.

    Returns:
        int: exit status.

    Raises:
        DvcException: there is no repo, or its config is wrong.
    """
    from dvc.repo import Repo

    try:
        import watchfiles  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        sys.stderr.write(f"ERROR: {MISSING}")
        return 1
    watched = WatchedFiles(Repo.find_root(parsed.cd))
    say = (lambda _: None) if parsed.quiet else sys.stderr.write
    try:
        while True:
            watched.load()
            before, _ = watched.look()
            status = _run(argv)
            if status is None:
                break
            words = "Waiting for" if status == 0 else "Failed; waiting for"
            say(f"\n{words} changes; Ctrl-C ends.\n")
            say(f"{_named(_wait_for_change(watched, before))} changed.\n\n")
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.stderr.write(f"ERROR: cannot watch files: {exc}\n")
        return 1
    return EXIT_INTERRUPTED


def _named(paths: Sequence[str]) -> str:
    names = [visible(os.path.relpath(it)) for it in paths[:MOST_NAMED]]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _run(argv: Sequence[str]) -> Optional[int]:
    """Run ``dvc repro``; its exit status, or None if it was interrupted."""
    program = sys.argv[0]
    is_script = os.path.basename(program) == "dvc-parallel" and os.path.isfile(program)
    how = [program] if is_script else ["-m", "dvc_parallel"]
    with _passing_signals() as (pass_on, got):
        process = subprocess.Popen([sys.executable, *how, *argv])  # noqa: S603
        pass_on.append(process)
        for signum in {*got} - {SIGINT}:  # has come before there was the process
            process.send_signal(signum)
        status = process.wait()
    if others := [signum for signum in got if signum != SIGINT]:
        die_of(others[0])
    return None if got or status == EXIT_INTERRUPTED else status


@contextmanager
def _passing_signals() -> Iterator[tuple[list[subprocess.Popen], list[int]]]:
    """Leave Ctrl-C to a process, which gets it as well, and pass on what ends it."""
    processes: list[subprocess.Popen] = []
    got: list[int] = []

    def handler(signum: int, _frame: Any) -> None:
        got.append(signum)
        for process in processes if signum != SIGINT else ():
            process.send_signal(signum)

    # NOTE: what is ignored stays so, for the process, too
    handled = [it for it in SIGNALS if signal.getsignal(it) != signal.SIG_IGN]
    before = {signum: signal.signal(signum, handler) for signum in handled}
    try:
        yield processes, got
    finally:
        for signum, previous in before.items():
            signal.signal(signum, previous)


def _wait_for_change(watched: WatchedFiles, before: Stamps) -> list[str]:
    """Wait until files differ from before, and go on changing no more: which."""
    from watchfiles import watch

    while True:
        last, folders = watched.look()
        is_first = True
        with suppress(FileNotFoundError):  # it has just been removed: look again
            for changes in watch(
                *sorted(folders),
                watch_filter=None,
                step=QUIET,
                rust_timeout=LOOK_EVERY,
                yield_on_timeout=True,
                recursive=False,
            ):
                # NOTE: the first time, for what happened before there was the watcher
                if not changes and not is_first and last == before:
                    continue
                is_first = False
                now, folders_now = watched.look()
                if now == last != before:
                    return sorted(
                        path
                        for path in before.keys() | now.keys()
                        if before.get(path) != now.get(path)
                    )
                last = now
                if folders_now != folders:
                    break
