"""What DVC does differently in a run.

Each function stands in for one of DVC's, which it gets as ``original`` and calls where
the calling thread belongs to no run.  Some do so for serial runs as well: they are for
jobs of a parallel run only.  Those for large data are in
:mod:`dvc_parallel.run.saving`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial, wraps
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Callable, Optional

from dulwich.file import FileLocked
from dvc.dvcfile import is_lock_file
from dvc.exceptions import DvcException
from dvc.stage import PipelineStage
from dvc.stage.run import _make_cmd

from dvc_parallel.caches import stage_loading
from dvc_parallel.caches.bookkeeping import current_books, in_runs
from dvc_parallel.caches.path_facts import CacheOfCopies
from dvc_parallel.engine.atomic import about
from dvc_parallel.engine.durable import write_out
from dvc_parallel.engine.lock_wait import Wait, say
from dvc_parallel.engine.lockfile import at_the_end
from dvc_parallel.engine.lockfile_text import LockfileText
from dvc_parallel.engine.reporter_events import Phase
from dvc_parallel.engine.runner import (
    Command,
    CommandLostError,
    CommandStoppedError,
    TimeIsUpError,
    ignore_start,
)
from dvc_parallel.engine.signals import clock
from dvc_parallel.engine.yaml_subset import dumps_simple, read_plain
from dvc_parallel.remote.clones import current_performance
from dvc_parallel.scheduling.retries import StageLostError, StageStoppedError

from .stage_run import current_stage_run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from dvc.output import Output
    from dvc.stage import Stage
    from dvc.stage.cache import StageCache

    from dvc_parallel.caches.bookkeeping import Bookkeeping


# Seconds between two tries at git's index while another process changes it, after which
# a stage says that it waits for that, and after which it fails.
TRY_GIT_EVERY = 0.05
TELL_AFTER = 1.0
GIT_PATIENCE = 600.0


def _kept(method: str) -> Callable:
    """A stand-in that is a method of something in the books of a run."""
    find = attrgetter(method)
    return in_runs(lambda books, *args, **kwargs: find(books)(*args, **kwargs))


# ``Repo._reset``: drop what has been loaded, around a command.
reset = _kept("config.reset")
# ``dvc.dependency.param.read_param_file``: the params that a stage depends on.
read_param_file = _kept("params_files.read_param_file")
# ``DvcIgnoreFilter.__init__``: what DVC leaves out.
dvcignore = _kept("ignore_rules.load")
is_dvcignored = _kept("ignore_rules.is_ignored")
trie_pattern = _kept("ignore_rules.trie_pattern")
# ``DulwichBackend.is_ignored``, ``is_tracked``: whether git does that with a path.
is_ignored = _kept("ignore_files.is_ignored")
is_tracked = _kept("tracked_paths.is_tracked")
# ``dvc_data.hashfile.checkout.test_links``: which types of links work.
test_links = _kept("link_types.test_links")
# ``dvc_objects.db.ObjectDB.add``: put objects into a cache, or a remote.
add_objects = _kept("link_types.add")
# ``FsspecLocalFileSystem.reflink``: clone a file, where the disk can do that.
reflink = _kept("link_types.reflink")


@cache
def unlocked_repo(original: Callable, func: Callable) -> Callable:
    """``dvc.stage.decorators.unlocked_repo``: run ``func`` without the repo."""
    serial = original(func)

    @wraps(func)
    def wrapper(stage, *args, **kwargs):
        if not stage.meta:
            return unlocked_run(stage, *args, **kwargs)
        from .code_trace import traced

        with traced(stage, kwargs):
            return unlocked_run(stage, *args, **kwargs)

    def unlocked_run(stage, *args, **kwargs):
        stage_run = current_stage_run()
        if stage_run is None:
            books = current_books()
            if books is None:
                return serial(stage, *args, **kwargs)
            books.flush()
            with books.order.in_command(stage) if books.order else nullcontext():
                return serial(stage, *args, **kwargs)
        stage_run.reads.any_command = True
        if stage_run.coordinator is not None:
            from .clone_commands import run_elsewhere

            return run_elsewhere(stage_run, stage_run.coordinator, **kwargs)
        job = stage_run.job
        stage_run.begin_commands()
        try:
            with (
                stage_run.in_command(),
                job.away(),
                stage_run.attempts.commands(
                    on_end=partial(job.command_ended, saves_now=True)
                ),
            ):
                return func(stage, *args, **kwargs)
        finally:
            if job.owns_repo:
                # NOTE: another stage may have loaded, before the command has ended,
                # what that has changed: ignore rules, the config
                stage.repo._reset()
            stage_run.start_saving()

    return wrapper


def run(original: Callable, executable, cmd, **kwargs) -> None:
    """``dvc.stage.run._run``: run one command of a stage."""
    if performance := current_performance.get():
        performance.run_command(executable, cmd, **kwargs)
        return
    stage_run = current_stage_run()
    if stage_run is None:
        original(executable, cmd, **kwargs)
        return

    command = Command(
        _make_cmd(executable, cmd),
        {**kwargs["env"], **stage_run.env},
        cwd=kwargs["cwd"],
        shell=kwargs["shell"],
        timeout=stage_run.attempts.seconds_left(),
        inherited=stage_run.inherited,
        place=stage_run.place,
        stage=stage_run.name,
        requests=stage_run.requests,
    )
    waits = stage_run.has_queue
    on_start = stage_run.waits_for_worker(cmd) if waits else ignore_start
    stage_run.used = None
    try:
        returncode = stage_run.runner.run(command, stage_run.show, on_start)
    except TimeIsUpError:
        raise stage_run.attempts.timeout(cmd) from None
    except CommandLostError as exc:
        raise StageLostError(cmd, exc) from None
    except CommandStoppedError as exc:
        raise StageStoppedError(cmd, exc) from None
    if returncode:
        raise stage_run.failure(cmd, returncode)


def display_command(original: Callable, cmd: str) -> None:
    """``dvc.stage.run.display_command``: show a command that is about to run."""
    stage_run = current_stage_run()
    if performance := current_performance.get():
        performance.show_command(cmd)
    elif stage_run is None:
        original(cmd)
    elif stage_run.has_queue:
        stage_run.job.tell(Phase.QUEUED)
    else:
        stage_run.job.tell(Phase.COMMAND, cmd=cmd)


def emit(original: Callable, handler, record) -> None:
    """``dvc.logger.LoggerHandler.emit``: show a message.

    It raises when nobody reads what is shown, as the terminal is gone or ``head`` has
    ended.  What commands have made is recorded nevertheless.
    """
    stage_run = current_stage_run()
    if stage_run is None or not stage_run.job.has_run:
        original(handler, record)
    else:
        with suppress(Exception):
            original(handler, record)


def ask(original: Callable, *args, **kwargs) -> Any:
    """``dvc.prompt.ask``: ask the user something."""
    stage_run = current_stage_run()
    if stage_run is None:
        return original(*args, **kwargs)
    return stage_run.ask(partial(original, *args, **kwargs))


def add_to_git(original: Callable, backend: Any, *args, **kwargs) -> None:
    """``DulwichBackend.add``: wait while a command of the run changes git's index.

    Raises:
        DvcException: the index has been locked for too long, or the run is stopping.
    """
    stage_run = current_stage_run()
    if stage_run is None:
        original(backend, *args, **kwargs)
        return
    begun, wait = clock(), None
    while True:
        try:
            original(backend, *args, **kwargs)
            return
        except FileLocked as exc:
            path = os.fsdecode(exc.lockfilename)
            waited = clock() - begun
            if waited > GIT_PATIENCE or stage_run.is_interrupted():
                raise DvcException(
                    f"cannot add files of stage '{stage_run.name}' to git: '{path}' "
                    f"has existed for {waited:.0f} s; if no git is running, remove it"
                ) from exc
        if waited > TELL_AFTER:
            wait = wait or Wait()
            if (lasting := wait.is_to_be_told()) is not None:
                there = f"'{path}' is there {lasting}".rstrip()
                say(f"{stage_run.name} | waits for git's index: {there}")
        # NOTE: who has locked it may wait for the repo
        stage_run.job.pause(TRY_GIT_EVERY)


def rwlock(
    original: Callable, tmp_dir, fs, cmd, *args, **kwargs
) -> "AbstractContextManager[None]":
    """``dvc.rwlock.rwlock``: lock paths."""
    books, stage_run = current_books(), current_stage_run()
    lock = original if books is None else books.paths.hold
    if stage_run is not None:
        lock = stage_run.paths.hold
        cmd = f"{cmd} (stage '{stage_run.name}')"
    return lock(tmp_dir, fs, cmd, *args, **kwargs)


def remove_outs(original: Callable, stage: "Stage", *args, **kwargs) -> None:
    """``Stage.remove_outs``: also done before a stage runs."""
    stage_run = current_stage_run()
    # NOTE: the commands that are taken up may be writing them
    if stage_run is None or not stage_run.is_taken_up:
        original(stage, *args, **kwargs)


@contextmanager
def modify_yaml(original: Callable, path, fs=None) -> Iterator[Any]:
    """``dvc.dvcfile.modify_yaml``: change a dvc.yaml or dvc.lock."""
    books, stage_run = current_books(), current_stage_run()
    if books is None or not is_lock_file(path):
        modify = original(path, fs=fs)
    elif stage_run is None:
        place = partial(books.order.successors, path) if books.order else at_the_end
        modify = books.lockfiles.modify(path, fs, place)
    else:
        modify = stage_run.order.modify_lockfile(path, fs, stage_run.job.rank)
    with modify as data:
        yield data
        if books is not None and is_lock_file(path):
            books.written.sync(os.path.dirname(path))


def parse_yaml(original: Callable, text: str, path: str, typ: str = "safe") -> Any:
    """``dvc.utils.strictyaml.parse_yaml``, by which dvc.yaml and dvc.lock are read."""
    if typ == "safe" and is_lock_file(path):
        if (lock := LockfileText.parse(text)) is not None:
            return lock.load()
    elif typ == "safe" and (data := read_plain(text)) is not None:
        return data
    return original(text, path, typ=typ)


@in_runs
def load_path(books: "Bookkeeping", original: Callable, path: str, fs, **kwargs) -> Any:
    """``dvc.utils.serialize.load_path``, with which a params file is read."""
    stage_run = current_stage_run()
    if stage_run is not None and fs.protocol == "local":
        original = partial(stage_run.read_file, original)
    return books.params_files.load_path(original, path, fs, **kwargs)


def dump_yaml(original: Callable, path, data, fs=None, **kwargs) -> None:
    """``dvc.utils.serialize.dump_yaml``, with which the run cache is written."""
    if current_books() is None or fs:
        original(path, data, fs=fs, **kwargs)
        return
    text = None if kwargs else dumps_simple(data)
    with about(path):
        if text is None:
            original(path, data, **kwargs)
        else:
            with open(path, "w+", encoding="utf-8") as fobj:
                fobj.write(text)
    write_out([path])


@in_runs
def pattern(
    books: "Bookkeeping", original: type, text: bytes, ignorecase: bool = False
) -> Any:
    """``dulwich.ignore.Pattern``: a line of a .gitignore, compiled."""
    key = (text, ignorecase)
    if key not in books.patterns:
        books.patterns[key] = original(text, ignorecase)
    return books.patterns[key]


@in_runs
def name_of(books: "Bookkeeping", original: Callable, out: "Output") -> str:
    """``Output.__str__``: a path as people see it, from where they are.

    DVC asks for it some ten times a stage, mostly for messages that nobody sees.
    """
    root_dir = out.repo.root_dir if out.repo else None
    key = out.def_path, out.fs_path, out.fs.protocol, root_dir, os.getcwd()
    if key not in books.names:
        name = original(out)
        if not isinstance(name, str):  # in another folder than the repo's
            return name
        books.names[key] = name
    return books.names[key]


@in_runs
def changed(
    books: "Bookkeeping",
    original: Callable,
    stage: "Stage",
    allow_missing: bool = False,
    upstream: Any = None,
) -> bool:
    """``Stage.changed``: whether a stage has to run.

    If so, DVC asks again, with ``allow_missing``, for the case that it may pull the
    outputs of the stage; if it may not, it does nothing with the answer.
    """
    if not books.pulls and id(stage) in books.changed and allow_missing:
        books.changed.remove(id(stage))
        return True
    is_changed = original(stage, allow_missing, upstream)
    if is_changed:
        books.changed.add(id(stage))
    return is_changed


@in_runs
def compute_md5(
    _books: "Bookkeeping", original: Callable, stage: "Stage"
) -> Optional[str]:
    """``Stage.compute_md5``: a hash of a stage, which only .dvc files have."""
    return None if isinstance(stage, PipelineStage) else original(stage)


def is_in_repo(original: Callable, out: "Output") -> bool:
    """``Output.is_in_repo``: whether a path is one of the repo.

    DVC asks for each output and dependency some ten times a stage.
    """
    books = current_books()
    if books is None:
        return stage_loading.is_in_repo(original, out)
    root_dir = out.repo.root_dir if out.repo else None
    key = out.def_path, out.fs_path, out.fs.protocol, root_dir
    if key not in books.in_repo:
        books.in_repo[key] = stage_loading.is_in_repo(original, out)
    return books.in_repo[key]


@in_runs
def uncached_outs(
    _books: "Bookkeeping", original: Callable, cache: "StageCache", stage, entry
) -> "Iterable[Output]":
    """``StageCache._uncached_outs``: outputs of an entry that DVC does not cache.

    It makes a stage of the entry to look for them.
    """
    if all(out.use_cache for out in stage.outs):
        return ()
    return original(cache, stage, entry)


@in_runs
def checkout_file(
    _books, original: Callable, link, path, fs, change, cache, *args, **kwargs
):
    """``_checkout_file`` of dvc_data: have a file from the cache, or linked to it."""
    # NOTE: that a file has not got into the cache, DVC notices when it copies it back
    is_there = change.old.in_cache
    if is_there and link._links == ["copy"] != cache.cache_types[:1]:
        cache = CacheOfCopies(cache)
    return original(link, path, fs, change, cache, *args, **kwargs)
