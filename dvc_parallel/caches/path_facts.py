"""What DVC finds out anew for every output, found out once.

Owned by the owner of the repo, but for what says that any thread may call it.
"""

import errno
import os
import stat
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock, local
from typing import TYPE_CHECKING, Any, Callable, Optional

from dvc_objects.fs.utils import tmp_fname
from pygtrie import Trie

from dvc_parallel.engine.atomic import umask
from dvc_parallel.engine.file_stamp import is_settled, signature_of
from dvc_parallel.engine.real_paths import below

if TYPE_CHECKING:
    from dvc_data.hashfile.state import StateBase

    from dvc_parallel.engine.file_stamp import Signature

DVCIGNORE = ".dvcignore"


def relpath(original: Callable, path: Any, start: Any = os.curdir) -> str:
    """``dvc.utils.relpath``, and those of the packages that DVC is made of."""
    return below(path, start) or original(path, start)


def relpath_of(original: Callable, fs: Any, path: str, start: Any = None) -> str:
    """``FileSystem.relpath`` of dvc_objects."""
    if fs.protocol != "local":
        return original(fs, path, start)
    return below(path, start or os.curdir) or original(fs, path, start)


class LinkTypes:
    """Which types of links work between a cache and a disk.

    DVC makes a file in the cache and links to it beside each output, and tries to
    reflink whatever it copies.
    """

    def __init__(self) -> None:
        self._known: dict[tuple, list[str]] = {}
        self._no_reflinks: set[tuple[int, int]] = set()
        self._local = local()

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

    def add(self, original: Callable, *args, **kwargs) -> Any:
        """As ``ObjectDB.add`` of dvc_objects, which is ``original``.

        An object is whole or not there.  Called by any thread.
        """
        self._local.adds_objects = True
        try:
            return original(*args, **kwargs)
        finally:
            self._local.adds_objects = False

    def reflink(self, original: Callable, fs: Any, src: str, dst: str) -> None:
        """As ``reflink`` of a local file system, which is ``original``.

        An attempt makes a file and removes it again, and that is slow where many
        have been removed (ext4 looks for an inode that was not in use lately).
        Called by any thread.

        Raises:
            OSError: with an ``errno`` that makes DVC copy instead.
        """
        folder = os.path.dirname(dst) or "."
        disks = _disks(src, folder)
        if disks in self._no_reflinks:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), dst)
        try:
            if getattr(self._local, "adds_objects", False):
                _make_whole(partial(original, fs, src), dst)
            else:
                # NOTE: a run that is killed leaves no file of another name in a folder
                # that a stage depends on
                original(fs, src, dst)
        except OSError as exc:
            if exc.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY):
                self._no_reflinks.add(disks)
            raise

    def are_copies(self, src: str, folder: str) -> bool:
        """Whether a file cannot be cloned to a folder, which was tried before.

        Called by any thread.

        Raises:
            OSError
        """
        return _disks(src, folder) in self._no_reflinks


def _make_whole(make: Callable[[str], None], path: str) -> None:
    """Have a file at its place only when it is whole: DVC's own is empty at first."""
    tmp = os.path.join(os.path.dirname(path), tmp_fname())
    make(tmp)
    try:
        os.replace(tmp, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(tmp)
        raise


def _disks(src: str, folder: str) -> tuple[int, int]:
    return os.stat(src).st_dev, os.stat(folder).st_dev


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
        # by folder: what was read then, the files on the way, and what they say of it
        self._folders: dict[str, tuple[Any, list[Optional[Signature]], Any]] = {}

    def load(self, original: Callable, rules: Any, fs: Any, root_dir: str) -> None:
        """As ``DvcIgnoreFilter.__init__``, which is ``original``."""
        if fs.protocol != "local":
            original(rules, fs, root_dir)
            return
        signature = self._signature_of(root_dir)
        if self._read == (fs, root_dir, signature):
            vars(rules).update(_with_own_tries(self._rules), _read_as=self._read)
            return
        settled = signature[0] is None or is_settled(signature[0])
        self._read = None
        original(rules, fs, root_dir)
        if settled:
            self._rules = _with_own_tries(vars(rules))
            self._read = rules._read_as = fs, root_dir, signature

    def is_ignored(
        self,
        original: Callable,
        rules: Any,
        fs: Any,
        path: str,
        ignore_subrepos: bool = True,
    ) -> bool:
        """As ``DvcIgnoreFilter.is_ignored``, which is ``original``.

        DVC asks some five times for an output.  What has been read of the rules does
        not change until all of it is read anew.
        """
        is_local = not ignore_subrepos and fs.protocol == "local"
        if not is_local or below(path, rules.root_dir) is None:
            return original(rules, fs, path, ignore_subrepos)
        return is_left_out(rules, path)

    def trie_pattern(
        self,
        original: Callable,
        rules: Any,
        dirname: str,
        dnames: Optional[list[str]] = None,
        ignore_subrepos: bool = True,
    ) -> Any:
        """As ``DvcIgnoreFilter._get_trie_pattern``, which is ``original``.

        DVC keeps it until all of the rules are read anew, and asks for it by a path
        that it puts together from others.
        """
        if dnames is not None or ignore_subrepos:
            return original(rules, dirname, dnames, ignore_subrepos)
        patterns = vars(rules).setdefault("_known_patterns", {})
        if not (found := patterns.get(dirname)):
            found = patterns[dirname] = self._pattern_of(original, rules, dirname)
        return found

    def _pattern_of(self, original: Callable, rules: Any, folder: str) -> Any:
        read_as = getattr(rules, "_read_as", None)
        files = _files_below(rules.root_dir, folder)
        if read_as is None or files is None:
            return original(rules, folder, None, False)
        signatures = [signature_of(file) for file in files]
        known_as, known, found = self._folders.get(folder, (None, None, None))
        if known_as is not read_as or known != signatures:
            settled = all(map(is_settled, filter(None, signatures)))
            found = original(rules, folder, None, False)
            if settled:
                self._folders[folder] = read_as, signatures, found
        return found

    @staticmethod
    def _signature_of(root_dir: str) -> tuple[Optional["Signature"], tuple[str, ...]]:
        """What it says may change with: the file, and repos in folders beside it."""
        with os.scandir(root_dir) as entries:
            folders = [entry.path for entry in entries if entry.is_dir()]
        repos = (path for path in folders if os.path.exists(f"{path}{os.sep}.dvc"))
        path = f"{root_dir}{os.sep}{DVCIGNORE}"
        return signature_of(path), tuple(sorted(repos))


def is_left_out(rules: Any, path: str) -> bool:
    """As ``DvcIgnoreFilter.is_ignored``, for a plain path in its repo."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        mode = 0
    is_file, is_folder = stat.S_ISREG(mode), stat.S_ISDIR(mode)
    known = vars(rules).setdefault("_known_paths", {})
    key = path, is_file, is_folder
    if key not in known:
        folder, name = os.path.split(path)
        patterns = vars(rules).setdefault("_known_patterns", {})
        if folder not in patterns:
            patterns[folder] = rules._get_trie_pattern(folder, None, False)
        pattern = patterns[folder]
        # NOTE: what is not there may be either
        kinds = [is_folder] if is_file or is_folder else [False, True]
        known[key] = bool(pattern) and any(
            pattern.matches(folder, name, kind) for kind in kinds
        )
    return known[key]


def _files_below(root_dir: str, folder: str) -> Optional[list[str]]:
    """Files with rules that hold in a folder, but for that in the root of the repo."""
    if not (folder + os.sep).startswith(root_dir + os.sep):
        return None
    files = []
    while len(folder) > len(root_dir):
        files.append(f"{folder}{os.sep}{DVCIGNORE}")
        folder = os.path.dirname(folder)
    return files


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

        name = below(path, backend.root_dir) or os.path.relpath(path, backend.root_dir)
        relpath = name.replace(os.sep, "/").encode()
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
    guard = Lock()

    def close() -> None:
        # NOTE: of several at a time, sqlite takes none for the last
        with guard:
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
