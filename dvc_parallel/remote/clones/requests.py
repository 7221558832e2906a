"""The messages of coordinator and workers.

Requests are pickled; results come back as plain data (:mod:`..typed`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from dvc.exceptions import DvcException
from dvc_data.hashfile.hash_info import HashInfo

# What a command that is about to run is printed to, in the output of a stage.
COMMAND = "command"


@dataclass(frozen=True)
class Leaf:
    """A file, a link, or an empty folder.

    Attributes:
        path: from the root of the git repo, with slashes.
        mode: its type and permissions, as ``st_mode``.
        data: content of a file, or target of a link.
        md5: what the exchange has the content as, instead.

    A file without content is there already, and gets its permissions.
    """

    path: str
    mode: int
    data: Optional[bytes] = field(default=None, repr=False)
    md5: Optional[str] = None


@dataclass(frozen=True)
class Item:
    """A file or folder that DVC's cache has.

    Attributes:
        path: from the root of the git repo, with slashes.
        executable: whether it is a file that can be executed.
    """

    path: str
    hash_info: HashInfo
    executable: bool


@dataclass(frozen=True)
class State:
    """The state of a git repo.

    Attributes:
        repo_id: the same for all states of a repo.
        commit: has all files as they are in the workspace.
        head: the commit that the workspace is based on, if there is one.
        branch: the current branch, if there is one.
        shallow: where its history is cut off.
    """

    repo_id: str
    commit: str
    head: Optional[str]
    branch: Optional[str]
    shallow: tuple[str, ...]

    @property
    def object_format(self) -> str:
        return "sha256" if len(self.commit) > 40 else "sha1"


@dataclass(frozen=True)
class Request:
    """Run the commands of a stage.

    Attributes:
        state: of the repo; what has changed since is in ``leaves``.
        pack: a pack of git with what the worker has said that it lacks.
        root: of the DVC repo, from that of the git repo.
        dvcfile: that has the stage, from the root of the git repo.
        name: of the stage in a dvc.yaml.
        definition: of the stage, as DVC writes it.
        addressing: how the user calls it.
        items: dependencies, and outputs that persist, which the exchange has.
        leaves: other such files, and those that have changed.
        inputs: hashes of dependencies, by their paths in the definition.
        folders: in which it works, and writes.
        env: variables for commands.
        timeout: seconds that all commands may take.
        config: what DVC has to know of remotes and caches.
        token: file that the worker can see if it shares the cache.
    """

    state: State
    root: str
    dvcfile: str
    name: Optional[str]
    definition: Mapping[str, Any]
    addressing: str
    items: tuple[Item, ...]
    leaves: tuple[Leaf, ...]
    inputs: Mapping[str, HashInfo]
    folders: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    # NOTE: has passwords of remotes
    config: Mapping[str, Any] = field(repr=False)
    token: Optional[str] = None
    timeout: Optional[float] = None
    pack: Optional[bytes] = field(default=None, repr=False)


@dataclass(frozen=True)
class Result:
    """The outcome of the commands of a stage.

    Attributes:
        entry: for dvc.lock.
        leaves: of outputs, what the exchange does not have.
        failed: the command that failed, with its exit status.
        timed_out: the command that was stopped as time was up.
    """

    entry: Mapping[str, Any] = field(default_factory=dict)
    leaves: tuple[Leaf, ...] = ()
    failed: Optional[tuple[str, int]] = None
    timed_out: Optional[str] = None


class LacksCommitsError(Exception):
    """A worker needs a pack of git: it does not have the state of the repo.

    Args:
        have: commits that it has.
    """

    def __init__(self, have: tuple[str, ...]):
        super().__init__(have)
        self.have = have


class WorkerError(DvcException):
    """A worker could not do what it was asked to; says why."""
