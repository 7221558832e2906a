"""A copy of a workspace, for running stages without touching their outputs.

The copy is a repo of its own, in ``.dvc/tmp`` of the original.  It has

- the files that git tracks, or would, as they are in the workspace; without git, all
  that DVC does not ignore;
- other files that stages depend on, though git ignores them;
- outputs that stages depend on, as dvc.lock has them, from the user's cache.

Other files that git ignores are left out: virtual environments, caches, other outputs.

The user's cache is only read.  ``dvc`` in a command of the copy has a cache of its own.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc.repo import Repo, lock_repo
from dvc.scm import NoSCMError
from pygtrie import Trie
from scmrepo.git import Git
from scmrepo.noscm import NoSCM

from dvc_parallel.engine import logger, signals
from dvc_parallel.engine.atomic import about
from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.path_conflicts import parts_of
from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.engine.settings import variables
from dvc_parallel.engine.terminal import plural
from dvc_parallel.remote.clones.git import git
from dvc_parallel.remote.clones.leaves import real, walk
from dvc_parallel.remote.clones.snapshot import remove_stale
from dvc_parallel.reporting import ci_log

from .dry_run import DryRun, Step

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.stage import Stage

    from dvc_parallel.run.parallel_run import ParallelRun

FOLDER = "validate"
SITE_CACHE = "DVC_SITE_CACHE_DIR"


class WorkspaceCopy:
    """A copy of a workspace.  Owned by the thread that makes it.

    Attributes:
        root, copy: the roots of the workspace and of the copy.
    """

    def __init__(self, repo: Repo):
        self._repo = repo
        self._has_git = isinstance(repo.scm, Git)
        self.root = os.path.realpath(
            repo.scm.root_dir if self._has_git else repo.root_dir
        )
        self._all = OwnFolder(repo.tmp_dir, FOLDER)
        self._own = self._all.folder(str(os.getpid()))
        self.copy = self._own.path_of("workspace")

    def own_file(self, name: str) -> str:
        """A place for a file, beside the copy."""
        return self._own.path_of(name)

    def now(self) -> int:
        """The time by the clock of the file system, in ns."""
        fd = self._own.open("clock", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.utime(fd)
            return os.fstat(fd).st_mtime_ns
        finally:
            os.close(fd)

    def path(self, path: str) -> str:
        """The place in the copy of a path of the workspace."""
        relpath = os.path.relpath(os.path.realpath(path), self.root)
        return os.path.join(self.copy, relpath)

    def is_ignored(self, path: str) -> bool:
        """Whether git ignores a path of the copy in the workspace."""
        place = os.path.join(self.root, os.path.relpath(path, self.copy))
        is_folder = path.endswith(os.sep)
        ignored: bool = self._repo.scm.is_ignored(place + os.sep * is_folder)
        return ignored

    @contextmanager
    def made_for(self, stages: Sequence["Stage"]) -> Iterator[None]:
        """Copy what stages of the locked repo need, and remove the copy at the end.

        Raises:
            DvcException: git is missing, cannot be started, or refuses.
            OSError: a file cannot be copied; it is named.
        """
        self._remove_stale()
        try:
            self._own.folder("workspace").make()
            if self._has_git:
                self._clone()
            self._copy_files(stages)
            if self._has_git:
                # NOTE: fails where nothing has been committed
                self._git("reset", "-q", cwd=self.copy, check=False)
            yield
        finally:
            self.remove()

    @contextmanager
    def opened(self) -> Iterator[Repo]:
        """The copy as a repo, with its folder for the current one."""
        dvc_dir = self.path(self._repo.dvc_dir)
        cache = self._repo.config["cache"].get("dir")
        config = {
            "cache": {"dir": cache or os.path.join(self._repo.dvc_dir, "cache")},
        }
        with Config(dvc_dir, validate=False).edit("local") as local:
            local.setdefault("cache", {})["dir"] = os.path.join(dvc_dir, "cache")

        cwd = os.getcwd()
        here = self.path(cwd)
        os.makedirs(here, exist_ok=True)
        os.chdir(here)
        try:
            with (
                variables({SITE_CACHE: self._own.path_of("site")}),
                Repo(
                    self.path(self._repo.root_dir), config=config, scm=_NoGit(self)
                ) as repo,
            ):
                yield repo
        finally:
            os.chdir(cwd)

    def remove(self) -> None:
        with suppress(OSError):
            self._all.remove(os.path.basename(self._own.path))
        with suppress(OSError):
            os.rmdir(self._all.path)

    def _remove_stale(self) -> None:
        remove_stale(self._all)
        self.remove()

    def _clone(self) -> None:
        # NOTE: a repo of its own, so that commands which look for one do not find
        # the user's, and with its commits, as some want to know the current one
        clone = ("clone", "-q", "--shared", "--no-checkout", self.root, self.copy)
        self._git(*clone, cwd=os.curdir)
        self._git("remote", "remove", "origin", cwd=self.copy)

    def _git(self, *args: str, cwd: str, check: bool = True) -> bytes:
        return git(*args, cwd=cwd, check=check, purpose="to copy the workspace")

    def _copy_files(self, stages: Sequence["Stage"]) -> None:
        outs = [out for stage in self._repo.index.stages for out in stage.outs]
        cached = Trie.fromkeys(
            (parts_of(real(out.fs_path)) for out in outs if out.use_cache), value=True
        )
        root = parts_of(self.root)
        # NOTE: as what it leads to, if it is a link to a folder
        inputs = (
            found
            for path in dict.fromkeys(map(real, _deps_of(stages)))
            for found in walk(os.path.join(path, "") if os.path.isdir(path) else path)
        )
        wanted = (
            path
            for path in (*self._files(), *inputs, *self._settings())
            if parts_of(path)[: len(root)] == root
            and not cached.shortest_prefix(parts_of(path))
        )
        for path in dict.fromkeys(wanted):
            _copy(path, os.path.join(self.copy, os.path.relpath(path, self.root)))
        for stage in stages:
            for path in (stage.wdir, *(os.path.dirname(o.fs_path) for o in stage.outs)):
                os.makedirs(self.path(path), exist_ok=True)

    def _files(self) -> Iterator[str]:
        if not self._has_git:
            for folder, _, names in self._repo.dvcignore.walk(localfs, self.root):
                for name in names:
                    yield os.path.join(folder, name)
            return
        which = ("--cached", "--others", "--exclude-standard")
        listing = self._git("ls-files", "-z", *which, cwd=self.root)
        for name in listing.split(b"\0"):
            if name:
                yield os.path.join(self.root, os.fsdecode(name))

    def _settings(self) -> Iterator[str]:
        dvc_dir = os.path.realpath(self._repo.dvc_dir)
        # NOTE: how long stages took says which are best started first
        for name in ("config", "config.local", "tmp/parallel/durations.json"):
            yield os.path.join(dvc_dir, *name.split("/"))


class _NoGit(NoSCM):
    """No git for the copy, whose DVC finds the same stages as that of the workspace.

    A .gitignore is a dependency of stages that depend on its folder, so nothing may be
    written to it.  But DVC does not look for stages where git ignores files.
    """

    def __init__(self, place: WorkspaceCopy):
        super().__init__(place.copy, _raise_not_implemented_as=NoSCMError)
        self._place = place

    def is_ignored(self, path: str) -> bool:
        return self._place.is_ignored(path)


@contextmanager
def copy_of(
    repo: Repo,
    choose: Callable[[list[Step]], Sequence["Stage"]],
    tell: Callable[[str], None],
    purpose: str,
    *,
    anew: bool = False,
    **kwargs: Any,
) -> Iterator[Optional[tuple[WorkspaceCopy, Repo, list["Stage"]]]]:
    """A copy of a workspace for some stages, opened as a repo.

    Args:
        choose: picks the stages among the steps of a run; the repo is locked meanwhile.
        tell: called with what is done, in words.
        purpose: how the stages are to be run, for that.
        anew: whether the stages make their outputs before others need them.
        kwargs: which stages, as for ``Repo.reproduce``.

    Yields:
        it, its repo, and the stages in that; None if there are no stages.

    Raises:
        DvcException: as :meth:`WorkspaceCopy.made_for`; or something that stages depend
            on is missing from the cache.
        OSError: as :meth:`WorkspaceCopy.made_for`.
    """
    place = WorkspaceCopy(repo)
    with ExitStack() as stack:
        with lock_repo(repo):
            # NOTE: those that are asked for, not what they depend on
            alone = not kwargs.get("all_pipelines")
            chosen = choose(DryRun.of(repo, single_item=alone, **kwargs).steps)
            if chosen:
                count = plural(len(chosen), "stage")
                tell(f"Copying the workspace to run {count} {purpose}.")
                stack.enter_context(place.made_for(chosen))
        if not chosen:
            yield None
            return
        stack.enter_context(signals.before_death(place.remove))
        other = stack.enter_context(place.opened())
        tell("Checking out their dependencies.")
        by_name = {stage.addressing: stage for stage in other.index.stages}
        stages = [by_name[stage.addressing] for stage in chosen]
        _check_out_inputs(other, stages, anew)
        yield place, other, stages


def rerun(run: "ParallelRun", stage: "Stage", **kwargs: Any) -> Optional[str]:
    """Reproduce a stage, and tell why it fails, if so; that does not end the run."""
    del kwargs["upstream"]  # not known to DVC before 3.0.0, not needed to force
    kwargs["interactive"] = False
    try:
        stage.reproduce(**kwargs)
    except Exception as exc:
        if run.is_interrupted:
            raise
        logger.warning("%s | %s", stage.addressing, exc)
        return str(exc)
    return None


def plain_lines() -> PlainReporter:
    """What shows the stages of a copy: a summary would be about others' files."""
    return PlainReporter(write=ci_log.writer(), sums_up=False)


def _check_out_inputs(repo: Repo, stages: Sequence["Stage"], anew: bool) -> None:
    """Check out the outputs that stages depend on, as dvc.lock has them."""
    deps = Trie.fromkeys(map(parts_of, _deps_of(stages)), value=True)
    made = set(stages) if anew else ()
    with lock_repo(repo):
        for stage in repo.index.stages:
            for out in stage.outs if stage not in made else ():
                if out.use_cache and _is_needed(out, deps):
                    _check_out(out)


def _check_out(out: "Output") -> None:
    try:
        out.checkout(force=True)
    except OSError as exc:
        raise DvcException(
            f"cannot check out '{out}', which stages depend on; run `dvc pull` or "
            "`dvc repro` first"
        ) from exc


def _is_needed(out: "Output", deps: Trie) -> bool:
    if out.protocol != "local":
        return False
    path = parts_of(out.fs_path)
    return bool(deps.has_node(path)) or bool(deps.shortest_prefix(path))


def _deps_of(stages: Iterable["Stage"]) -> Iterator[str]:
    for stage in stages:
        for dep in stage.deps:
            if dep.protocol == "local" and dep.fs_path:
                yield dep.fs_path


def _copy(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(source) and not os.path.islink(source):  # a submodule
        ignored = shutil.ignore_patterns(".git")
        shutil.copytree(
            source, target, symlinks=True, ignore=ignored, dirs_exist_ok=True
        )
    elif os.path.lexists(source):
        with about(target):
            shutil.copy2(source, target, follow_symlinks=False)
