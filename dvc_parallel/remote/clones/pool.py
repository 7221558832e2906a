"""The clones of a worker.

    folder/cache/            DVC's cache of all clones of the host
    folder/<repo>/git/       the objects of git, for all clones of a repo
    folder/<repo>/<n>/       clones, each with one stage at a time
    folder/<repo>/<n>.lock   whose it is

A clone is locked with ``flock``, and what runs in it inherits the lock: a clone is free
when its last process has ended, even if the worker was killed.  Nobody relies on the
state that a clone was left in.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Optional

from dvc.exceptions import DvcException

from dvc_parallel.engine.lock_wait import TRY_EVERY, Wait

from .git import git, line
from .leaves import remove
from .requests import LacksCommitsError, State

REFS = "refs/workspaces"
LOCKS = ("index.lock", "HEAD.lock", "config.lock", "shallow.lock", "packed-refs.lock")


@contextmanager
def locked(path: str, *, wait: bool = True) -> Iterator[Optional[int]]:
    """Hold a lock; None instead if somebody else holds it and ``wait`` is false.

    The file is closed, not unlocked: processes that have inherited it keep the lock.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield fd if _lock(fd, path, wait) else None
    finally:
        os.close(fd)


def _lock(fd: int, path: str, wait: bool) -> bool:
    """Lock a file; tell the log of the worker of a wait for it."""
    telling = Wait()
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[attr-defined]
        except BlockingIOError:
            if not wait:
                return False
        else:
            return True
        telling.tell(f"another stage on this host, which has locked '{path}'")
        time.sleep(TRY_EVERY)


class Pool:
    """The clones of a repo on a worker.  Owned by nobody.

    Args:
        folder: of the worker; may be used by many processes.
        repo_id: of the repo.
    """

    def __init__(self, folder: str, repo_id: str):
        self._folder = os.path.join(os.path.realpath(folder), repo_id)
        self.cache_dir = os.path.join(os.path.realpath(folder), "cache")
        self._git_dir = os.path.join(self._folder, "git")

    @contextmanager
    def clone(self) -> Iterator["Clone"]:
        """A clone that nobody else uses meanwhile."""
        number = 0
        while True:
            path = os.path.join(self._folder, str(number))
            with locked(f"{path}.lock", wait=False) as fd:
                if fd is not None:
                    yield Clone(path, self._git_dir, fd)
                    return
            number += 1

    @contextmanager
    def writing(self, _oids: set[str]) -> Iterator[None]:
        """Be the only writer to the cache of the host.

        DVC makes an object at its place and takes it away again, to see if there are
        reflinks; another process would take it for a damaged one.
        """
        with locked(f"{self.cache_dir}.lock"):
            yield

    def have_commits(self, state: State, pack: Optional[bytes]) -> None:
        """Make sure that the state of a repo is there.

        Args:
            pack: with what is missing, if that is known.

        Raises:
            LacksCommitsError: something is missing.
        """
        with locked(f"{self._git_dir}.lock"):
            if not os.path.exists(os.path.join(self._git_dir, "HEAD")):
                os.makedirs(self._git_dir, exist_ok=True)
                kind = f"--object-format={state.object_format}"
                self._git("init", "-q", "--bare", kind, ".")
            self._cut_off(state.shallow)
            if self._has(state.commit):
                return
            if pack is not None:
                with suppress(DvcException):  # a thin one, of other commits
                    self._git("index-pack", "--stdin", "--fix-thin", stdin=pack)
                    self._git("update-ref", f"{REFS}/{state.commit}", state.commit)
            if not self._has(state.commit):
                refs = self._git("for-each-ref", "--format=%(objectname)", REFS)
                raise LacksCommitsError(tuple(refs.decode().split()))

    def _git(self, *args: str, **kwargs) -> bytes:
        return git(*args, cwd=self._git_dir, **kwargs)

    def _has(self, commit: str) -> bool:
        # NOTE: with a ref, which is made when all objects are there
        name = f"{REFS}/{commit}"
        return (
            line(self._git("rev-parse", "-q", "--verify", name, check=False)) == commit
        )

    def _cut_off(self, commits: tuple[str, ...]) -> None:
        path = os.path.join(self._git_dir, "shallow")
        with suppress(FileNotFoundError), open(path, encoding="ascii") as fobj:
            commits = tuple({*fobj.read().split(), *commits})
        if commits:
            with open(path, "w", encoding="ascii") as fobj:
                fobj.writelines(f"{commit}\n" for commit in sorted(commits))


class Clone:
    """A clone that the caller has for itself.

    Args:
        path: of the clone.
        git_dir: has the objects of git.
        lock: descriptor to be inherited by what runs in it.
    """

    def __init__(self, path: str, git_dir: str, lock: int):
        self.path = path
        self.lock = lock
        self._objects = os.path.join(git_dir, "objects")

    def bring_to(self, state: State, keep: list[str]) -> None:
        """Reset it to a state of the repo, and remove everything else.

        Args:
            keep: what may stay of earlier stages: paths from its root.
        """
        try:
            self._bring_to(state, keep)
        except (DvcException, OSError):
            remove(self.path)  # whatever was wrong with it
            self._bring_to(state, keep)

    def _bring_to(self, state: State, keep: list[str]) -> None:
        if not os.path.isdir(os.path.join(self.path, ".git")):
            self._make(state)
        for name in LOCKS:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self.path, ".git", name))
        with open(os.path.join(self.path, ".git", "shallow"), "w") as fobj:
            fobj.writelines(f"{commit}\n" for commit in state.shallow)
        branch = state.branch or "workspace"
        self._git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        self._git("reset", "-q", "--hard", state.commit)
        kept = [arg for path in keep for arg in ("-e", _literally(path))]
        self._git("clean", "-ffdxq", *kept)
        if state.head is None:
            self._git("update-ref", "-d", "HEAD")
            self._git("read-tree", "--empty")
            return
        self._git("reset", "-q", "--mixed", state.head)
        if state.branch is None:
            self._git("update-ref", "--no-deref", "HEAD", state.head)

    def _make(self, state: State) -> None:
        remove(self.path)
        os.makedirs(self.path)
        kind = f"--object-format={state.object_format}"
        self._git("init", "-q", kind, "--template=", ".")
        info = os.path.join(self.path, ".git", "objects", "info")
        os.makedirs(info, exist_ok=True)
        with open(os.path.join(info, "alternates"), "w", encoding="utf-8") as fobj:
            fobj.write(f"{self._objects}\n")

    def _git(self, *args: str) -> bytes:
        return git(*args, cwd=self.path)


def _literally(path: str) -> str:
    """A pattern of a .gitignore for just this path."""
    return "/" + "".join(f"\\{char}" if char in "\\*?[ " else char for char in path)
