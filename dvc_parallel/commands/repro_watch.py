"""``dvc-parallel repro --watch``: ``dvc repro``, again whenever something has changed.

What counts are the stamps of files before a run: whatever changes after they were taken
leads to one more run, also while a run goes on.  The watcher only tells when to look.
Outputs of commands and what DVC writes itself are no such files; which stages are
affected is for DVC to find out.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Optional

from dvc_parallel.engine.signals import EXIT_INTERRUPTED, SIGINT, SIGNALS, die_of

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

OPTION = "--watch"
HELP = (
    "Run again whenever a dependency, a params file, a dvc.yaml, or code that a stage "
    "uses has changed, until Ctrl-C. Needs the package 'watchfiles'."
)
MISSING = (
    f"{OPTION} needs the package 'watchfiles': pip install 'dvc-parallel[watch]'\n"
)

# Milliseconds without a change after which those before it count as one; and between
# two moments at which the watcher says that nothing has changed.
QUIET = 200
LOOK_EVERY = 400
# What DVC and Python write beside files that stages depend on.
WRITTEN = frozenset({"dvc.lock", ".gitignore", "__pycache__", ".git", ".dvc"})

# What tells that a file has changed; and those of files, by the file or folder that a
# stage depends on.
Stamp = tuple[int, int, int]
Stamps = dict[str, dict[str, Stamp]]


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
        NotDvcRepoError: there is no repo.
    """
    from dvc.repo import Repo

    try:
        import watchfiles  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        sys.stderr.write(f"ERROR: {MISSING}")
        return 1
    root = Repo.find_root(parsed.cd)
    watched = _Watched(os.path.join(root, "dvc.yaml"))
    try:
        watched.load(root)
        stamps = watched.stamps()
        while (status := _run(argv)) is not None:
            watched.load(root)
            if not parsed.quiet:
                words = "Waiting for" if status == 0 else "Failed; waiting for"
                sys.stderr.write(f"\n{words} changes; Ctrl-C ends.\n")
            stamps = _wait_for_change(watched, stamps)
    except KeyboardInterrupt:
        pass
    return EXIT_INTERRUPTED


def _run(argv: Sequence[str]) -> Optional[int]:
    """Run ``dvc repro``; its exit status, or None if it was interrupted."""
    program = sys.argv[0]
    is_script = os.path.basename(program) == "dvc-parallel" and os.path.isfile(program)
    how = [program] if is_script else ["-m", "dvc_parallel"]
    with _passing_signals() as (pass_on, got):
        process = subprocess.Popen([sys.executable, *how, *argv])  # noqa: S603
        pass_on.append(process)
        status = process.wait()
    if others := [signum for signum in got if signum != SIGINT]:
        die_of(others[0])
    return None if got or status < 0 or status == EXIT_INTERRUPTED else status


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


def _wait_for_change(watched: "_Watched", before: Stamps) -> Stamps:
    """Wait until something differs from before, and return how it is then."""
    from watchfiles import watch

    while True:
        folders = watched.folders()
        is_first = True
        for changes in watch(
            *folders,
            watch_filter=None,
            step=QUIET,
            rust_timeout=LOOK_EVERY,
            yield_on_timeout=True,
            recursive=False,
        ):
            # NOTE: the first time, for what happened before there was the watcher
            if changes or is_first:
                now = watched.stamps()
                if any(now[root] != before.get(root, now[root]) for root in now):
                    return now
            is_first = False
            if changes and watched.folders() != folders:
                break


class _Watched:
    """The files whose changes count.

    Args:
        path: of the dvc.yaml that counts while no other is known.
    """

    def __init__(self, path: str):
        self._roots = {path}
        self._outs: set[str] = set()
        self._ignores: Any = None

    def load(self, root: str) -> None:
        """Read which files these are; if DVC cannot, they stay those of before."""
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        with suppress(DvcException), Repo(root) as repo:
            stages = list(repo.index.stages)
            files = {it.path: it.dvcfile for it in stages}
            roots = {path for it in stages for path in _deps_of(it)}
            roots.update(*(_vars_of(path, file) for path, file in files.items()))
            roots.update(*_code_of(repo, stages))
            # NOTE: what `dvc add` tracks belongs to the user
            self._outs = {out.fs_path for it in stages if it.cmd for out in it.outs}
            self._roots = (roots or self._roots) - self._outs
            self._ignores = repo.dvcignore

    def stamps(self) -> Stamps:
        return {root: dict(self._stamps(root)) for root in self._roots}

    def folders(self) -> list[str]:
        """Folders in which files appear and disappear when they change."""
        found: set[str] = set()
        for root in self._roots:
            found.update(folder for folder, _ in self._walk(root))
            above = os.path.dirname(root)
            while not os.path.isdir(above):
                above = os.path.dirname(above)
            found.add(above)
        return sorted(found)

    def _stamps(self, root: str) -> Iterator[tuple[str, Stamp]]:
        paths = [
            os.path.join(top, it) for top, names in self._walk(root) for it in names
        ]
        for path in [root, *paths] if not os.path.isdir(root) else paths:
            with suppress(OSError):
                status = os.stat(path)
                yield path, (status.st_mtime_ns, status.st_size, status.st_ino)

    def _walk(self, root: str) -> Iterator[tuple[str, list[str]]]:
        """Folders in one that a stage depends on, and names of files in them."""
        for top, folders, files in os.walk(root):
            folders[:] = [it for it in folders if self._counts(top, it, True)]
            yield top, [it for it in files if self._counts(top, it, False)]

    def _counts(self, top: str, name: str, is_folder: bool) -> bool:
        path = os.path.join(top, name)
        if name in WRITTEN or path in self._outs:
            return False
        ignores = self._ignores
        is_ignored = ignores.is_ignored_dir if is_folder else ignores.is_ignored_file
        return not is_ignored(path)


def _deps_of(stage: "Stage") -> Iterator[str]:
    from dvc_parallel.run.code_files import KEDRO_FOLDER, is_code_file

    for dep in stage.deps:
        if getattr(dep, "protocol", None) != "local":
            continue
        # NOTE: those are written by the run
        if not is_code_file(dep.fs_path) and KEDRO_FOLDER not in dep.fs_path:
            yield dep.fs_path


def _vars_of(path: str, file: Any) -> Iterator[str]:
    """A dvc.yaml, and the files with the values in it."""
    if os.path.basename(path) != "dvc.yaml":
        return
    yield path
    folder = os.path.dirname(path)
    yield os.path.join(folder, "params.yaml")
    stages = (file.contents.get("stages") or {}).values()
    for scope in [file.contents, *stages, *(it.get("do") or {} for it in stages)]:
        where = os.path.join(folder, scope.get("wdir") or "")
        for it in scope.get("vars") or ():
            if isinstance(it, str):
                yield os.path.normpath(os.path.join(where, it.partition(":")[0]))


def _code_of(repo: "Repo", stages: "Sequence[Stage]") -> Iterator[Iterable[str]]:
    """The Python files that stages use which have ``meta.parallel.code``."""
    from dvc_parallel.run import code_files
    from dvc_parallel.run.stage_code import Projects

    projects = Projects(repo)
    for stage in stages:
        if stage.cmd and code_files.wanted(stage):
            yield filter(
                os.path.isabs, (it for it, _ in projects.code_of(stage).entries)
            )
            # NOTE: what cannot be read now may be right after the next change
            with suppress(code_files.StageCodeError):
                also = code_files.also_of(projects, stage)
                for _, closure in code_files.code_of(projects, stage, also):
                    yield closure.files
