"""Where the data of a dataset is, and what DVC is to do with it."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple, Optional

from . import MARKERS, PICKLES, KedroError

FILE, MEMORY, URL, SERVICE = "file", "memory", "url", "service"

_KEYS = {"always_changed", "cache", "metrics", "plots"}

_VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d+Z")

# What DVC depends on outside of the repo, as long as it has the plugin of this scheme.
_EXTERNAL = {"http", "https", "s3", "gs", "hdfs", "webhdfs", "ssh"}

# Names of settings that are secrets, wherever they are in a catalog entry.
_SECRET = re.compile(
    r"(.*_)?(password|passwd|secret|secret_key|api_?key|access_key|private_key|con|"
    r"connection_string|auth|authorization)"
    r"|((access|auth|api|bearer|refresh|sas|session)_)?token",
    re.IGNORECASE,
)


class Dataset(NamedTuple):
    """A dataset of the catalog.

    Attributes:
        kind: ``FILE``; ``MEMORY``, which Kedro does not store; ``URL``, which DVC
            can depend on; ``SERVICE``, such as a table, which it cannot.
        path: of a file, relative to the project, with ``/``; the URL of a ``URL``.
        query: path of a file with the query of a ``SERVICE``.
        config: its entry in the catalog, without place, secrets and metadata.
        options: what its metadata says about DVC.
    """

    name: str
    kind: str
    path: Optional[str]
    query: Optional[str]
    config: dict[str, Any]
    options: dict[str, Any]
    versioned: bool

    @property
    def stored(self) -> str:
        """The path that stands for it in DVC."""
        if self.kind == FILE and self.path:
            return self.path
        base = re.sub(r"[^\w.-]", "-", self.name.partition("@")[0])
        return f"{PICKLES}/{base}.pkl" if self.kind == MEMORY else f"{MARKERS}/{base}"

    @property
    def place(self) -> str:
        """Where it comes from, if no stage makes it; empty if that is not known."""
        place = self.query or self.path or ""
        if self.kind == FILE and "*" in place:
            # NOTE: the folder that has whatever the pattern may match
            place = os.path.dirname(place[: place.index("*")]) or "."
        return place


def dataset_of(name: str, entry: dict[str, Any], root: Path) -> Dataset:
    """Describe a dataset.

    Args:
        entry: its entry in the catalog, without credentials.
        root: folder of the project.

    Raises:
        KedroError: DVC cannot have it, or its metadata has a key that means nothing.
    """
    kind_of = str(entry.get("type", ""))
    short = kind_of.rpartition(".")[2]
    if short == "IncrementalDataset":
        raise KedroError(
            f"dataset '{name}' is an IncrementalDataset, which loads what is new since "
            "the last run; DVC runs a stage again for all of its data. "
            "Use a partitions.PartitionedDataset"
        )
    place = _place(entry) or _place(entry.get("dataset"))
    kind, path, query = SERVICE, None, None
    if short in ("MemoryDataset", "SharedMemoryDataset"):
        kind = MEMORY
    elif place:
        scheme, separator, rest = place.partition("://")
        local = _relative(rest if separator else place, root)
        if separator and scheme != "file":
            kind = URL if scheme in _EXTERNAL else SERVICE
            path = _public(place)
        elif short.endswith("QueryDataset"):
            query = local
        else:
            kind, path = FILE, local
    return Dataset(
        name,
        kind,
        path,
        query,
        _without_place(entry),
        _options(name, entry),
        bool(entry.get("versioned")),
    )


def _place(entry: Any) -> Optional[str]:
    if isinstance(entry, dict):
        for key in ("filepath", "path"):
            if isinstance(entry.get(key), (str, os.PathLike)):
                return os.fspath(entry[key])
    return None


def _relative(path: str, root: Path) -> str:
    """A path as dvc.yaml has it; absolute outside of what both have in common."""
    absolute = os.path.normpath(os.path.join(root, os.path.expanduser(path)))
    return Path(os.path.relpath(absolute, root)).as_posix()


def _options(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    metadata = entry.get("metadata")
    options = metadata.get("dvc", {}) if isinstance(metadata, dict) else {}
    if not isinstance(options, dict):
        raise KedroError(
            f"dataset '{name}': metadata.dvc is {options!r}, not a mapping such as "
            "{metrics: true}"
        )
    for key, value in options.items():
        if key not in _KEYS:
            known = ", ".join(sorted(_KEYS))
            raise KedroError(
                f"dataset '{name}': metadata.dvc has an unknown key '{key}'; "
                f"there are: {known}"
            )
        if not isinstance(value, bool):
            raise KedroError(
                f"dataset '{name}': metadata.dvc.{key} is {value!r}, not true or false"
            )
    if options.get("metrics") and options.get("plots"):
        raise KedroError(
            f"dataset '{name}': metadata.dvc has both metrics and plots; choose one"
        )
    return dict(options)


def _without_place(entry: Any) -> Any:
    """An entry without what is said elsewhere, or must not be said."""
    if isinstance(entry, dict):
        return {
            str(key): _without_place(value)
            for key, value in entry.items()
            if key not in ("filepath", "path", "metadata", "versioned")
            and not _SECRET.fullmatch(str(key))
        }
    if isinstance(entry, (list, tuple)):
        return [_without_place(item) for item in entry]
    return _public(entry) if isinstance(entry, str) else entry


def _public(text: str) -> str:
    """A text without what a URL in it may have of a user or a signature."""
    text = re.sub(r"(\w+://)[^/@\s]*@", r"\1", text)
    return re.sub(r"(\w+://[^?\s]*)\?\S*", r"\1", text)


def versions_in(path: Path) -> list[str]:
    """Names of the version folders that Kedro has made at a path, if any."""
    if not path.is_dir():
        return []
    return sorted(
        child.name
        for child in path.iterdir()
        if child.is_dir() and _VERSION.fullmatch(child.name)
    )


def role_config(config: Any, is_input: bool) -> Any:
    """What of a dataset's entry counts for who loads it, or for who saves it."""
    if not isinstance(config, dict):
        return config
    other = "save_args" if is_input else "load_args"
    return {
        key: role_config(value, is_input)
        for key, value in config.items()
        if key != other
    }
