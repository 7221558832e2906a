"""What DVC finds out anew for every output, found out once.

Owned by the owner of the repo, but for :meth:`LinkTypes.reflink`.
"""

import errno
import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Optional

from pygtrie import Trie

from dvc_parallel.engine.atomic import umask
from dvc_parallel.engine.file_stamp import is_settled, signature_of

if TYPE_CHECKING:
    from dvc_data.hashfile.state import StateBase

    from dvc_parallel.engine.file_stamp import Signature

DVCIGNORE = ".dvcignore"


class LinkTypes:
    """Which types of links work between a cache and a disk.

    DVC makes a file in the cache and links to it beside each output, and tries to
    reflink whatever it copies.
    """

    def __init__(self) -> None:
        self._known: dict[tuple, list[str]] = {}
        self._no_reflinks: set[tuple[int, int]] = set()

    def test_links(
        self, original: Callable, links: list[str], from_fs, from_path, to_fs, to_path
    ) -> list[str]:
        """As :func:`dvc_objects.fs.generic.test_links`, which is ``original``."""
        folder = os.path.dirname(to_path)
        try:
            disk = os.stat(folder).st_dev
        except OSError:  # DVC makes the folder
            disk = None
        if disk is None or not os.access(folder, os.W_OK):
            return original(links, from_fs, from_path, to_fs, to_path)
        key = (*links, from_path, disk)
        if key not in self._known:
            # NOTE: a run that is killed here leaves a file, which must not get into a
            # folder that a stage depends on.  Where a reflink works in the cache but
            # not here, DVC makes a copy.
            if set(links) <= {"reflink", "copy"} and _is_on(disk, from_path):
                to_path = os.path.join(from_path, "file")
            found = original(links, from_fs, from_path, to_fs, to_path)
            if not found:  # no more than an error, as for a full disk
                return found
            self._known[key] = found
        return list(self._known[key])

    def reflink(self, original: Callable, src: str, dst: str) -> None:
        """As :func:`dvc_objects.fs.system.reflink`, which is ``original``.

        An attempt makes a file and removes it again, and that is slow where many
        have been removed (ext4 looks for an inode that was not in use lately).
        Called by any thread.

        Raises:
            OSError: with an ``errno`` that makes DVC copy instead.
        """
        disks = os.stat(src).st_dev, os.stat(os.path.dirname(dst) or ".").st_dev
        if disks in self._no_reflinks:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), dst)
        try:
            original(src, dst)
        except OSError as exc:
            if exc.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY):
                self._no_reflinks.add(disks)
            raise


def _is_on(disk: int, path: str) -> bool:
    try:
        return os.stat(path).st_dev == disk
    except OSError:
        return False


class CacheOfCopies:
    """A cache as seen from a place where no links to it can be had.

    DVC knows that a copy is all it can have if ``cache.type`` says so.  With the
    default, reflinks or else copies, it replaces an output that it has just copied
    into the cache by another copy.
    """

    cache_types = ("copy",)

    def __init__(self, cache: Any):
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def unprotect(self, path: str) -> None:
        """Make a file that is no link what a new copy of it would be."""
        os.chmod(path, 0o666 & ~umask)


class LoadedConfig:
    """The config of a repo, for as long as none of its files changes.

    DVC reads and validates it anew after every command.
    """

    def __init__(self) -> None:
        self._signatures: list[Optional[Signature]] = []  # before it was loaded

    def reset(self, original: Callable, repo: Any) -> None:
        """As ``Repo._reset``, which is ``original``."""
        config = vars(repo).get("config")
        if config is None:
            original(repo)
            return
        try:
            signatures = [signature_of(path) for path in config.files.values()]
        except OSError:
            # NOTE: whoever needs it is told
            self._signatures = []
            original(repo)
            return
        original(repo)
        if signatures == self._signatures:
            vars(repo)["config"] = config
        settled = all(map(is_settled, filter(None, signatures)))
        self._signatures = signatures if settled else []


class IgnoreRules:
    """What a ``.dvcignore`` in the root of a repo says, while nothing of it changes.

    DVC reads it anew after every command, compiles its lines, and looks for other repos
    in the folders beside it.
    """

    def __init__(self) -> None:
        self._read: Optional[tuple[Any, str, tuple]] = None  # fs, root, signature
        self._rules: dict[str, Any] = {}  # attributes

    def load(self, original: Callable, rules: Any, fs: Any, root_dir: str) -> None:
        """As ``DvcIgnoreFilter.__init__``, which is ``original``."""
        if fs.protocol != "local":
            original(rules, fs, root_dir)
            return
        signature = self._signature_of(root_dir)
        if self._read == (fs, root_dir, signature):
            vars(rules).update(_with_own_tries(self._rules))
            return
        settled = signature[0] is None or is_settled(signature[0])
        self._read = None
        original(rules, fs, root_dir)
        if settled:
            self._rules = _with_own_tries(vars(rules))
            self._read = fs, root_dir, signature

    @staticmethod
    def _signature_of(root_dir: str) -> tuple[Optional["Signature"], tuple[str, ...]]:
        """What it says may change with: the file, and repos in folders beside it."""
        with os.scandir(root_dir) as entries:
            folders = [entry.path for entry in entries if entry.is_dir()]
        repos = (path for path in folders if os.path.exists(os.path.join(path, ".dvc")))
        path = os.path.join(root_dir, DVCIGNORE)
        return signature_of(path), tuple(sorted(repos))


def _with_own_tries(attributes: dict[str, Any]) -> dict[str, Any]:
    # NOTE: folders are added to them when somebody asks for what is in there
    return {
        name: value.copy() if isinstance(value, Trie) else value
        for name, value in attributes.items()
    }


class TrackedPaths:
    """Which paths git tracks, for as long as its index does not change.

    DVC reads the index for each output, and goes through all of it.
    """

    def __init__(self) -> None:
        self._signature: Optional[Signature] = None
        self._paths: list[bytes] = []

    def is_tracked(self, original: Callable, backend, path: str) -> bool:
        """As ``DulwichBackend.is_tracked``, which is ``original``."""
        signature = signature_of(backend.repo.index_path())
        if signature is None:
            return original(backend, path)
        if signature != self._signature:
            settled = is_settled(signature)
            # NOTE: neither of them is kept if the index cannot be read
            self._signature = None
            self._paths = sorted(backend.repo.open_index())
            self._signature = signature if settled else None

        relpath = os.path.relpath(path, backend.root_dir).replace(os.sep, "/").encode()
        folder = relpath + b"/"
        return self._next(relpath) == relpath or self._next(folder).startswith(folder)

    def _next(self, path: bytes) -> bytes:
        """The first tracked path from this one on, in the order of their bytes."""
        place = bisect_left(self._paths, path)
        return self._paths[place] if place < len(self._paths) else b""


@contextmanager
def state_kept_open(state: "StateBase") -> Iterator[Callable[[], None]]:
    """Let each thread keep its own connections to the state database.

    DVC closes it around every command, and a part of it whenever it writes there.  With
    the last connection, sqlite moves its log back into the database and syncs both;
    that takes longer than all that a small stage has to say to it.  Other processes can
    use the database meanwhile, as it is in WAL mode.

    Yields:
        function that closes those of the thread that calls it.
    """
    databases = [vars(state)[key] for key in ("hashes", "links") if key in vars(state)]
    closes = [database.close for database in databases]

    def close() -> None:
        for close_database in closes:
            close_database()

    for database in databases:
        database.close = _leave_open
    try:
        yield close
    finally:
        for database in databases:
            del database.close
        close()


def _leave_open() -> None:
    pass
