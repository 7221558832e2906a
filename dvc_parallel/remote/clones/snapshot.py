"""The workspace at the start of a run, as a commit of git.

The commit has what git tracks, as it is in the workspace, and what it would track.
Neither the repo nor its index are touched: new objects go to a folder in ``.dvc/tmp``.
The same state is the same commit, so a worker that has it needs no other.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Optional

import psutil
import shortuuid
from dvc.exceptions import DvcException
from pygtrie import Trie
from scmrepo.git import Git

from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.engine.path_conflicts import parts_of

from .git import git, line
from .requests import State

if TYPE_CHECKING:
    from dvc.repo import Repo

# Untracked files that are larger go to a worker only where they are dependencies.
LARGEST_UNTRACKED = 10 * 2**20
LINK = "120000"
FOLDERS = ("parallel", "snapshots")
_NOBODY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in {
        "NAME": "dvc-parallel",
        "EMAIL": "dvc-parallel",
        "DATE": "2000-01-01T00:00:00Z",
    }.items()
}


class Snapshot:
    """A snapshot of a workspace.  Owned by the owner of the repo.

    Args:
        repo: its repo, locked.
        outputs: paths of outputs that DVC caches, which are left out.

    Attributes:
        root: of the git repo.
        state: what it is a snapshot of.

    Raises:
        DvcException: the workspace is not under git, or git is missing, or refuses.
    """

    def __init__(self, repo: "Repo", outputs: Iterable[str]):
        if not isinstance(repo.scm, Git):
            raise DvcException(
                "workers without the workspace use clones, and this repo is not under "
                "git; run `git init`, or let the workers share the workspace"
            )
        self.root = os.path.realpath(repo.scm.root_dir)
        folder = OwnFolder(os.path.realpath(repo.tmp_dir), *FOLDERS)
        remove_stale(folder)
        own = folder.folder(f"{os.getpid()}-{shortuuid.uuid()}", "objects")
        self._folder = os.path.dirname(own.path)
        objects = self._path_of("objects")
        self._env = {
            **_NOBODY,
            "GIT_INDEX_FILE": os.path.join(self._folder, "index"),
            "GIT_OBJECT_DIRECTORY": os.path.join(self._folder, "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        self._same: dict[str, tuple[tuple, bool]] = {}
        own.make()
        try:
            self.state = self._take(Trie.fromkeys(map(parts_of, outputs), value=True))
            self._entries = dict(self._list())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove its files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_path(self) -> str:
        """A path for a temporary file, which is removed with the snapshot."""
        return os.path.join(self._folder, shortuuid.uuid())

    def _git(self, *args: str, **kwargs) -> bytes:
        return git(*args, cwd=self.root, env=self._env, **kwargs)

    def _path_of(self, name: str) -> str:
        path = line(git("rev-parse", "--git-path", name, cwd=self.root))
        assert path
        return os.path.join(self.root, path)

    def _take(self, outputs: Trie) -> State:
        index = self._path_of("index")
        if os.path.exists(index):  # with what git knows of files, to read few
            shutil.copy2(index, self._env["GIT_INDEX_FILE"])
        self._git("add", "--update")
        names = b"\0".join(map(os.fsencode, self._untracked(outputs)))
        self._git("update-index", "--add", "-z", "--stdin", stdin=names)
        tree = line(self._git("write-tree"))
        head = line(self._git("rev-parse", "-q", "--verify", "HEAD", check=False))
        parent = ["-p", head] if head else []
        commit = line(self._git("commit-tree", str(tree), *parent, "-m", "workspace"))
        assert commit
        branch = line(self._git("symbolic-ref", "-q", "--short", "HEAD", check=False))
        first = self._git("rev-list", "--max-parents=0", "HEAD", check=False).split()
        return State(
            repo_id=first[-1].decode() if first else "without-commits",
            commit=commit,
            head=head,
            branch=branch,
            shallow=tuple(self._shallow()),
        )

    def _untracked(self, outputs: Trie) -> Iterator[str]:
        listing = self._git("ls-files", "-z", "--others", "--exclude-standard")
        for name in map(os.fsdecode, listing.split(b"\0")):
            path = os.path.join(self.root, name)
            # NOTE: a name that ends in a slash is another repo
            if (
                not name
                or name.endswith("/")
                or outputs.shortest_prefix(parts_of(path))
            ):
                continue
            if os.lstat(path).st_size <= LARGEST_UNTRACKED:
                yield name

    def _shallow(self) -> Iterator[str]:
        try:
            with open(self._path_of("shallow"), encoding="ascii") as fobj:
                yield from fobj.read().split()
        except FileNotFoundError:
            pass

    def _list(self) -> Iterator[tuple[str, tuple[str, str]]]:
        listing = self._git("ls-tree", "-r", "-z", "--full-tree", self.state.commit)
        for entry in filter(None, listing.split(b"\0")):
            what, _, name = entry.partition(b"\t")
            mode, _, sha = what.decode().split()
            yield os.fsdecode(name), (mode, sha)

    def pack(self, have: Iterable[str]) -> bytes:
        """A thin pack of its commit, for a worker that has some other commits.

        Args:
            have: commits, of which this repo may not know all.
        """
        names = "".join(f"{name}\n" for name in have).encode()
        answers = self._git("cat-file", "--batch-check", stdin=names).splitlines()
        known = [a.split()[0].decode() for a in answers if a.split()[1] == b"commit"]
        wanted = "".join(
            f"{c}\n" for c in [self.state.commit, *(f"^{k}" for k in known)]
        )
        return self._git(
            "pack-objects", "-q", "--revs", "--thin", "--stdout", stdin=wanted.encode()
        )

    def has(self, path: str) -> bool:
        """Whether it has a file with the same content and permissions.

        Args:
            path: of a file that exists.
        """
        name = os.path.relpath(path, self.root)
        entry = self._entries.get(name)
        if entry is None:
            return False
        if entry[0] == LINK:
            target = os.path.realpath(path)
            return target != path and os.path.islink(path) and self.has(target)
        status = os.stat(path)
        seen = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)
        if self._same.get(name, (None,))[0] != seen:
            executable = bool(status.st_mode & stat.S_IXUSR)
            same = entry == ("100755" if executable else "100644", self._blob(path))
            self._same[name] = (seen, same)
        return self._same[name][1]

    def _blob(self, path: str) -> Optional[str]:
        """The name that git gives to the content of a file, as it is."""
        size = os.path.getsize(path)
        digest = hashlib.new(self.state.object_format)
        digest.update(b"blob %d\0" % size)
        with open(path, "rb") as fobj:
            for chunk in iter(lambda: fobj.read(2**20), b""):
                digest.update(chunk)
        return digest.hexdigest()


def remove_stale(folder: OwnFolder) -> None:
    """Remove what is left of processes that were killed."""
    with suppress(OSError):
        for name in folder.folders():
            pid = name.partition("-")[0]
            if not pid.isdecimal() or not psutil.pid_exists(int(pid)):
                folder.remove(name)
