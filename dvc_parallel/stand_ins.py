"""What DVC does differently in a job of a parallel run.

Each function stands in for one of DVC's, which it gets as ``original`` and calls
where no job runs in the calling thread: serial DVC, other threads, other repos.
Those for large data are in :mod:`dvc_parallel.saving`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, Callable

from dvc.stage.exceptions import StageCmdFailedError
from dvc.stage.run import _make_cmd

from .job import current_job
from .lockfile_text import dumps_simple
from .serial_order import is_lockfile


def unlocked_repo(original: Callable, func: Callable) -> Callable:
    """``dvc.stage.decorators.unlocked_repo``: run ``func`` without the repo."""
    serial = original(func)

    @wraps(func)
    def wrapper(stage, *args, **kwargs):
        job = current_job()
        if job is None:
            return serial(stage, *args, **kwargs)
        try:
            with job.away():
                try:
                    return func(stage, *args, **kwargs)
                finally:
                    job.run.command_ended(job)
        finally:
            job.start_saving()

    return wrapper


def run(original: Callable, executable, cmd, **kwargs) -> None:
    """``dvc.stage.run._run``: run one command of a stage."""
    job = current_job()
    if job is None:
        original(executable, cmd, **kwargs)
        return

    show = partial(job.run.reporter.output, job)
    returncode = job.run.runner.run(_make_cmd(executable, cmd), show, **kwargs)
    if returncode:
        raise StageCmdFailedError(cmd, returncode)


def display_command(original: Callable, cmd: str) -> None:
    """``dvc.stage.run.display_command``: show a command that is about to run."""
    job = current_job()
    if job is None:
        original(cmd)
    else:
        job.run.reporter.command(job, cmd)


@contextmanager
def rwlock(original: Callable, *args, **kwargs) -> Iterator[None]:
    """``dvc.rwlock.rwlock``: lock paths."""
    job = current_job()
    lock = original if job is None else job.run.path_locks.hold
    with lock(*args, **kwargs):
        yield


@contextmanager
def modify_yaml(original: Callable, path, fs=None) -> Iterator[Any]:
    """``dvc.dvcfile.modify_yaml``: change a dvc.yaml or dvc.lock."""
    job = current_job()
    if job is None or not is_lockfile(path):
        with original(path, fs=fs) as data:
            yield data
        return
    with job.run.order.modify_lockfile(path, fs, job.rank) as data:
        yield data


def add_entry_to_gitignore(original: Callable, scm, entry: str, gitignore: str) -> None:
    """``scmrepo.git.Git._add_entry_to_gitignore``: add a line."""
    job = current_job()
    if job is None:
        original(scm, entry, gitignore)
    else:
        job.run.order.ignore(partial(original, scm), entry, gitignore, job.rank)


def dump_yaml(original: Callable, path, data, fs=None, **kwargs) -> None:
    """``dvc.utils.serialize.dump_yaml``, with which the run cache is written."""
    text = None if current_job() is None or fs or kwargs else dumps_simple(data)
    if text is None:
        original(path, data, fs=fs, **kwargs)
        return
    with open(path, "w+", encoding="utf-8") as fobj:
        fobj.write(text)


def pattern(original: type, text: bytes, ignorecase: bool = False) -> Any:
    """``dulwich.ignore.Pattern``: a line of a .gitignore, compiled."""
    job = current_job()
    if job is None:
        return original(text, ignorecase)
    key = (text, ignorecase)
    if key not in job.run.patterns:
        job.run.patterns[key] = original(text, ignorecase)
    return job.run.patterns[key]


def is_tracked(original: Callable, backend, path: str) -> bool:
    """``DulwichBackend.is_tracked``: whether git tracks a path."""
    job = current_job()
    if job is None:
        return original(backend, path)
    return job.run.tracked_paths.is_tracked(original, backend, path)


def test_links(original: Callable, *args, **kwargs) -> list[str]:
    """``test_links``: which types of links work."""
    job = current_job()
    if job is None:
        return original(*args, **kwargs)
    return job.run.link_types.test_links(original, *args, **kwargs)


def ask(original: Callable, *args, **kwargs) -> Any:
    """``dvc.prompt.ask``: ask the user something."""
    job = current_job()
    if job is None:
        return original(*args, **kwargs)
    return job.run.ask(partial(original, *args, **kwargs))
