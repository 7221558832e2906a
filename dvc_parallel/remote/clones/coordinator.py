"""The coordinator's part: it describes a stage to workers, and takes its outputs."""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.stage import PipelineStage
from dvc.stage.serialize import to_pipeline_file
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta

from .exchange import Exchange, Writing, check_out, exchange_config, plain
from .leaves import LARGE, hashed_files, name_in, read, real, remove, walk, write
from .requests import Item, Leaf, Request, Result
from .snapshot import Snapshot

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage

# What happens to the dvc.lock of a dvc.yaml while stages run.
LOCK = ".lock"
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Coordinator:
    """Sends the stages of a run to workers.  Owned by the owner of the repo.

    ``put`` and ``get`` are for any thread: they take long, and leave the repo alone.

    Args:
        repo: the user's repo, locked.
        stages: those that may run.
        writing: as for :class:`Exchange`.

    Attributes:
        exchange: where data is put for workers, and got from.

    Raises:
        DvcException: a stage cannot run in a clone, or data cannot be exchanged.
    """

    def __init__(self, repo: "Repo", stages: Sequence["Stage"], writing: Writing):
        self._repo = repo
        self.exchange = Exchange(repo, writing)
        self._config = exchange_config(repo)
        outs = [out for stage in repo.index.stages for out in stage.outs]
        cached = (
            real(o.fs_path) for o in outs if o.use_cache and o.protocol == "local"
        )
        self._snapshot = Snapshot(repo, cached)
        self._root = self._snapshot.root
        self._lockfiles = {
            os.path.splitext(stage.path)[0] + LOCK
            for stage in repo.index.stages
            if isinstance(stage, PipelineStage)
        }
        # Large files that stages depend on, and the exchange does not have; by MD5.
        self._uncached: dict[str, str] = {}
        # Large files that DVC does not cache, before they are in their places; by MD5.
        self._got: dict[str, str] = {}
        self._token = self.exchange.make_token()
        try:
            for stage in stages:
                self._check(stage)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove what has been made for the run."""
        self._snapshot.close()
        if self._token:
            self.exchange.remove_token(self._token)

    def _check(self, stage: "Stage") -> None:
        if not stage.cmd or stage.frozen:
            return
        for out in (*_local(stage.deps), *_local(stage.outs)):
            try:
                name_in(self._root, out.fs_path)
            except ValueError:
                raise DvcException(
                    f"stage '{stage.addressing}' cannot run on a worker without the "
                    f"workspace: '{out.fs_path}' is not in the git repo '{self._root}'"
                ) from None

    def pack(
        self, stage: "Stage", env: Mapping[str, str], timeout: Optional[float] = None
    ) -> Request:
        """Describe a stage whose commands are to run now.

        Args:
            env: variables for its commands.
            timeout: seconds that they may take.

        Raises:
            DvcException: what it depends on is missing.
        """
        stage.save_deps()
        inputs = [*_local(stage.deps), *(o for o in _local(stage.outs) if o.persist)]
        items: list[Item] = []
        leaves: dict[str, Leaf] = {}
        for out in inputs:
            item = self._item(out)
            if item:
                items.append(item)
            else:
                leaves.update((leaf.path, leaf) for leaf in self._leaves(out))
        for path in self._lockfiles:
            if os.path.exists(path) and not self._snapshot.has(path):
                leaf = self._read(path)
                leaves[leaf.path] = leaf
        return Request(
            state=self._snapshot.state,
            root=os.path.relpath(os.path.realpath(self._repo.root_dir), self._root),
            dvcfile=self._name(stage.path),
            name=stage.name if isinstance(stage, PipelineStage) else None,
            definition=_definition(stage),
            addressing=stage.addressing,
            items=tuple(items),
            leaves=tuple(leaves.values()),
            inputs={dep.def_path: dep.hash_info for dep in _local(stage.deps)},
            folders=tuple(self._folders(stage)),
            env={**env},
            config=self._config,
            token=self._token,
            timeout=timeout,
        )

    def _name(self, path: str) -> str:
        return name_in(self._root, path)

    def _read(self, path: str) -> Leaf:
        return read(path, self._root, self.exchange)

    def _folders(self, stage: "Stage") -> Iterator[str]:
        for path in (stage.wdir, *(os.path.dirname(o.fs_path) for o in stage.outs)):
            if os.path.isdir(path) and os.path.realpath(path) != self._root:
                yield self._name(path)

    def _item(self, out: "Output") -> Optional[Item]:
        """A dependency or output, if DVC's cache has all of it."""
        if isinstance(out, ParamsDependency) or not out.is_in_repo or not out.exists:
            return None
        hash_info = out.hash_info if out.IS_DEPENDENCY else out.get_hash()
        if not self.exchange.has(hash_info):
            return None
        executable = out.isfile() and os.stat(out.fs_path).st_mode & stat.S_IXUSR
        return Item(self._name(out.fs_path), hash_info, bool(executable))

    def _leaves(self, out: "Output") -> Iterator[Leaf]:
        """The parts of a dependency or output that are not in the snapshot."""
        hashes = hashed_files(out) if out.IS_DEPENDENCY else {}
        for path in hashes or walk(out.fs_path):
            if os.path.isfile(path) and self._snapshot.has(path):
                continue
            hash_info = hashes.get(path)
            status = os.stat(path)
            if status.st_size < LARGE or not hash_info or hash_info.name != "md5":
                yield self._read(path)
                continue
            if not self.exchange.has(hash_info):
                self._uncached[str(hash_info.value)] = path
            yield Leaf(self._name(path), status.st_mode, md5=hash_info.value)

    def with_pack(self, request: Request, have: Iterable[str]) -> Request:
        """The request for a worker that has only some commits."""
        return replace(request, pack=self._snapshot.pack(have))

    def put(self, request: Request) -> None:
        """Put what a request refers to into the exchange.

        Raises:
            DvcException: names where it could not be put.
        """
        self.exchange.put(item.hash_info for item in request.items)
        for md5 in [leaf.md5 for leaf in request.leaves if leaf.md5]:
            path = self._uncached.get(md5)
            if path is None:
                self.exchange.put([HashInfo("md5", md5)])
            elif self.exchange.put_file(path) != md5:
                raise DvcException(f"'{path}' has changed while it was being copied")
            else:
                self._uncached.pop(md5, None)

    def get(self, stage: "Stage", result: Result) -> None:
        """Fetch what a stage has made from the exchange.

        Raises:
            DvcException: names what is missing, or not as it should be.
        """
        made = _made(result)
        # NOTE: they become names of files
        for leaf in result.leaves:
            if leaf.md5 is not None:
                _checked_md5(leaf.md5)
        self.exchange.get(
            made[out.def_path][0]
            for out in _local(stage.outs)
            if out.use_cache and out.def_path in made
        )

        for md5 in {leaf.md5 for leaf in result.leaves if leaf.md5}:
            path = self._snapshot.new_path()
            self.exchange.get_file(md5, path)
            self._got[md5] = path

    def _take_file(self, md5: str, path: str) -> None:
        got = self._got.pop(md5, None)
        if got is None:  # it was taken for another file
            self.exchange.get_file(md5, path)
        else:
            os.replace(got, path)

    def take(self, stage: "Stage", result: Result) -> None:
        """Put what a stage has made into the workspace, for DVC to record.

        Raises:
            DvcException: names what is not as the worker says.
        """
        made = _made(result)
        outs = [out for out in _local(stage.outs) if out.def_path in made]
        self._check_places(result.leaves, [real(out.fs_path) for out in outs])
        for out in outs:
            hash_info, meta = made[out.def_path]
            if not out.use_cache:
                remove(out.fs_path)
                continue
            if not self.exchange.has(hash_info):  # by now, `dvc gc` may have run
                self.exchange.get([hash_info])
            check_out(out, hash_info, meta)
        for leaf in result.leaves:
            # NOTE: not through a link that came with it
            path = os.path.join(self._root, *leaf.path.split("/"))
            if real(path) != path:
                raise DvcException(f"a worker has sent '{leaf.path}' behind a link")
            write(leaf, self._root, self._take_file)
        for out in outs:
            found, (expected, meta) = out.get_hash(), made[out.def_path]
            # NOTE: DVC 2 has known outputs by another kind of hash
            if found.name == expected.name and found != expected:
                raise DvcException(
                    f"output '{out}' is not what the worker made: its hash is "
                    f"{found.value} here and {expected.value} there"
                )
            if meta.isexec:
                # NOTE: older DVC takes no file that it knows for executable
                os.utime(out.fs_path)

    def _check_places(self, leaves: Iterable[Leaf], paths: Sequence[str]) -> None:
        """Refuse files that are not part of an output of the stage."""
        for leaf in leaves:
            path = os.path.normpath(os.path.join(self._root, leaf.path))
            if path != os.path.join(self._root, *leaf.path.split("/")) or not any(
                path == out or path.startswith(out + os.sep) for out in paths
            ):
                raise DvcException(
                    f"a worker has sent '{leaf.path}', which is not an output"
                )


def _local(outs: Iterable["Output"]) -> "list[Output]":
    return [out for out in outs if out.protocol == "local" and out.fs_path]


def _made(result: Result) -> dict[str, tuple[HashInfo, Meta]]:
    """The outputs that there are, as a worker has recorded them."""
    try:
        return {
            out["path"]: (
                HashInfo("md5", _checked_md5(out["md5"])),
                Meta.from_dict(out),
            )
            for out in result.entry.get("outs", ())
            if out.get("md5")
        }
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise DvcException(f"the entry of a worker makes no sense: {exc!r}") from None


def _checked_md5(value: str) -> str:
    """A hash from a worker, which becomes the name of a file."""
    if not MD5.fullmatch(value):
        raise DvcException(f"a worker has sent '{value}', which is not a hash")
    return value


def _definition(stage: "Stage") -> dict[str, Any]:
    """A stage as DVC writes it, without what is not on the worker."""
    if isinstance(stage, PipelineStage):
        definition = to_pipeline_file(stage)[stage.name]
    else:
        definition = stage.dumpd()
    remote = {o.def_path for o in (*stage.deps, *stage.outs) if o.protocol != "local"}

    def is_local(entry: Any) -> bool:
        path = next(iter(entry)) if isinstance(entry, Mapping) else entry
        path = entry["path"] if isinstance(entry, Mapping) and "path" in entry else path
        return path not in remote

    for key in ("deps", "outs"):
        if key in definition:
            definition[key] = [e for e in definition[key] if is_local(e)]
    return plain(definition)
