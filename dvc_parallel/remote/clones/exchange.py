"""Where coordinator and workers put data for each other, by hash.

It is the default remote of the repo, or else a cache folder that all of them see.
Objects already there are not put again, and those in DVC's cache are not fetched.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import copy
from typing import TYPE_CHECKING, Any, Callable, Optional

import shortuuid
from dvc.config import NoRemoteError
from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB, get_index
from dvc_data.hashfile.hash import hash_file
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.transfer import transfer
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError
from dvc_objects.fs import generic

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo

Writing = Callable[[set[str]], AbstractContextManager[None]]

# Times that an object is asked for before it is missing.
ATTEMPTS = 2
TOKENS = "dvc-parallel"


class Exchange:
    """The exchange of a repo, as one of its users sees it.

    Made by the owner of the repo; then, any thread may use it.

    Args:
        repo: the user's repo, or a clone of it.
        writing: held while the objects of some hashes are put into the cache by a
            thread that does not own the repo.

    Raises:
        DvcException: the repo has neither a remote nor a cache folder to be shared.
    """

    def __init__(self, repo: "Repo", writing: Writing):
        self._writing = writing
        self.cache: HashFileDB = repo.cache.local
        self._caches = by_hash_name(repo.cache, "legacy", "local")
        self._cache_dir = repo.config["cache"].get("dir")
        self._remotes = _remotes(repo)
        self._put: set[HashInfo] = set()

    @property
    def is_shared_cache(self) -> bool:
        return not self._remotes

    def __str__(self) -> str:
        odb = (
            self.cache if self.is_shared_cache else self._remotes[self.cache.hash_name]
        )
        return f"'{odb.fs.unstrip_protocol(odb.path)}'"

    def has(self, hash_info: HashInfo) -> bool:
        """Whether the cache has an object; of a folder, all of it."""
        cache = self._caches.get(hash_info.name)
        if cache is None or not cache.exists(_value(hash_info)):
            return False
        try:
            files = with_files(cache, hash_info)[1:]
            return all(cache.exists(_value(oid)) for oid in files)
        except (FileNotFoundError, ObjectFormatError):
            return False

    def put(self, hash_infos: Iterable[HashInfo]) -> None:
        """Put objects from the cache there; folders with all of their files.

        Raises:
            DvcException: names where it could not be put.
        """
        for hash_info in set(hash_infos) - self._put if self._remotes else ():
            cache = self._caches[hash_info.name]
            remote = self._remotes[hash_info.name]
            result = transfer(
                cache,
                remote,
                with_files(cache, hash_info),
                dest_index=get_index(remote) if hash_info.isdir else None,
                cache_odb=cache,
            )
            if result.failed:
                raise DvcException(
                    f"{len(result.failed)} files could not be copied to {self}"
                )
            self._put.add(hash_info)

    def get(self, hash_infos: Iterable[HashInfo]) -> None:
        """Fetch objects into the cache, and check their content.

        Raises:
            DvcException: names one that is missing, or not what it should be.
        """
        for hash_info in hash_infos:
            self._get(hash_info, [hash_info])
            if hash_info.isdir:
                cache = self._caches[hash_info.name]
                self._get(hash_info, with_files(cache, hash_info)[1:])
            self._put.add(hash_info)

    def _get(self, wanted: HashInfo, hash_infos: Iterable[HashInfo]) -> None:
        cache = self._caches[wanted.name]
        oids = {_value(oid): oid for oid in hash_infos}
        with self._writing(set(oids)):
            missing = {oid for oid in oids.values() if not self._is_sound(cache, oid)}
            # NOTE: where a remote is a folder, DVC removes for a moment what another
            # process is just putting there
            for _ in range(ATTEMPTS if self._remotes else 0):
                if not missing:
                    return
                remote = self._remotes[wanted.name]
                # NOTE: what is wrong with a folder in the remote comes as an error
                with suppress(FileNotFoundError, ObjectFormatError):
                    transfer(
                        remote,
                        cache,
                        missing,
                        src_index=get_index(remote) if wanted.isdir else None,
                        cache_odb=cache,
                        verify=True,
                    )
                missing = {oid for oid in missing if not cache.exists(_value(oid))}
        if missing:
            one = min(missing, key=str)
            raise DvcException(
                f"{self} does not have '{one.value}', or has it damaged"
                + (f" ({len(missing)} objects in all)" if len(missing) > 1 else "")
            )

    def _is_sound(self, cache: HashFileDB, hash_info: HashInfo) -> bool:
        """Whether a cache has an object, unchanged since it was put there.

        DVC takes objects that cannot be written for sound; but to a command that runs
        as root, links to them can be.
        """
        path = cache.oid_to_path(hash_info.value)
        try:
            _, found = hash_file(path, cache.fs, cache.hash_name, cache.state)
        except FileNotFoundError:
            return False
        value = _value(hash_info)
        sound = _value(found).split(".")[0] == value.split(".")[0]
        if not sound and self._remotes:
            cache.delete(value)
        return sound

    def put_file(self, path: str) -> str:
        """Put a file that the cache does not have; return its MD5."""
        staging, _, obj = build(self.cache, path, localfs, self.cache.hash_name)
        target = self._remotes.get(self.cache.hash_name, self.cache)
        md5 = _value(obj.hash_info)
        with self._writing({md5}) if target is self.cache else nullcontext():
            result = transfer(staging, target, {obj.hash_info}, shallow=False)
        if result.failed:
            raise DvcException(f"'{path}' could not be copied to {self}")
        return md5

    def get_file(self, md5: str, path: str) -> None:
        """Fetch a file by its MD5, to a path outside of the cache."""
        source = self._remotes.get(self.cache.hash_name, self.cache)
        generic.copy(source.fs, source.oid_to_path(md5), localfs, path)
        _, found = hash_file(path, localfs, "md5")
        if found.value != md5:
            raise DvcException(f"{self} does not have '{md5}', or has it damaged")

    def make_token(self) -> Optional[str]:
        """A file by which workers can see that they share the cache, if they do."""
        if not self.is_shared_cache:
            return None
        path = os.path.join(self._cache_dir, TOKENS, shortuuid.uuid())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "x"):
            return path

    @staticmethod
    def remove_token(path: str) -> None:
        with suppress(OSError):
            os.unlink(path)
            os.rmdir(os.path.dirname(path))


def _remotes(repo: "Repo") -> "dict[Optional[str], HashFileDB]":
    """The default remote, for each kind of hash; empty if there is none."""
    try:
        remote = repo.cloud.get_remote(command="push")
    except NoRemoteError:
        if repo.config["cache"].get("dir"):
            return {}
        raise DvcException(
            "workers without the workspace exchange data through a DVC remote or a "
            "shared cache, and neither is set up; run `dvc remote add -d <name> "
            "<url>` or `dvc cache dir <folder that all workers see>`"
        ) from None
    if remote.worktree or remote.fs.version_aware:
        raise DvcException(
            "workers without the workspace cannot exchange data through the remote "
            f"'{remote.name}', which keeps versions of files instead of hashes; choose "
            "another one with `dvc remote add -d <name> <url>`"
        )
    return by_hash_name(remote, "legacy_odb", "odb")


def with_files(cache: HashFileDB, hash_info: HashInfo) -> list[HashInfo]:
    """An object in a cache; and if it is a folder, what is in it.

    Raises:
        FileNotFoundError, ObjectFormatError: the list of the folder is missing, or
            damaged.
    """
    if not hash_info.isdir:
        return [hash_info]
    tree = Tree.load(cache, hash_info)
    return [hash_info, *(oid for _, _, oid in tree)]


def by_hash_name(owner: Any, *names: str) -> "dict[Optional[str], HashFileDB]":
    # NOTE: before 3.0, there is one kind of hash
    odbs = [getattr(owner, name) for name in names if hasattr(owner, name)]
    return {odb.hash_name: odb for odb in odbs}


def _value(hash_info: HashInfo) -> str:
    assert hash_info.value
    return hash_info.value


def check_out(out: "Output", hash_info: HashInfo, meta: Meta) -> None:
    """Check out a file or folder from the cache.

    Args:
        out: of a stage, or what it depends on; stays as it is.
    """
    cached = copy(out)
    cached.use_cache = True
    cached.hash_name = hash_info.name
    cached.hash_info = hash_info
    cached.meta = meta
    cached.obj = None
    cached.files = None
    cached.checkout(force=True)


def exchange_config(repo: "Repo") -> dict[str, Any]:
    """The part of the config of a repo that workers need for the same exchange."""
    config = repo.config
    remotes = {
        name: {**remote, "verify": True} for name, remote in config["remote"].items()
    }
    core = {"remote": config["core"]["remote"]} if "remote" in config["core"] else {}
    wanted = ("type", "shared", "slow_link_warning", *(() if core else ("dir",)))
    cache = {key: config["cache"][key] for key in wanted if key in config["cache"]}
    return plain({"core": core, "cache": cache, "remote": remotes})


def plain(value: Any) -> Any:
    """A value of Python's own types; paths in it are those of here."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return "".join(value)
    return [plain(item) for item in value] if isinstance(value, list) else value
