"""Params files, read and parsed once while they do not change.

DVC does it several times for each stage that has params.
"""

import re
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from dvc_parallel.engine.file_stamp import Signature, is_settled, signature_of

# A key that stands for itself alone: no wildcards, nothing that might be an index of a
# list, or what `True` is called
_PLAIN = re.compile(r"(?!(?:True|False)\Z)[^\W\d][^*?\[]*")


@dataclass
class _File:
    signature: Signature
    data: Any
    found: dict[tuple, Any] = field(default_factory=dict)  # by what was asked for
    is_searched: bool = False  # by DVC, all of it, and that went well


class ParamsFiles:
    """The params files of a repo.  Owned by the owner of the repo."""

    def __init__(self) -> None:
        self._known: dict[str, _File] = {}

    def load_path(self, original: Callable, path: str, fs: Any, **kwargs: Any) -> Any:
        """As :func:`dvc.utils.serialize.load_path`, which is ``original``.

        What is returned must not be changed.
        """
        signature = None
        if fs.protocol == "local" and not kwargs:
            signature = signature_of(path)
        if signature is None:
            self._known.pop(path, None)
            return original(path, fs, **kwargs)

        file = self._known.get(path)
        if file is None or file.signature != signature:
            self._known.pop(path, None)
            settled = is_settled(signature)
            file = _File(signature, original(path, fs))
            if settled and signature_of(path) == signature:
                self._known[path] = file
        return file.data

    def read_param_file(
        self,
        original: Callable,
        fs: Any,
        path: str,
        key_paths: Optional[list[str]] = None,
        flatten: bool = False,
        **kwargs: Any,
    ) -> Any:
        """As ``dvc.dependency.param.read_param_file``, which is ``original``.

        For each key, it goes through all of the file.  Here, that is done until it is
        known that there is nothing in the file that it takes for an error.
        """
        asked = (tuple(key_paths or ()), flatten, *kwargs.items())
        file = self._known.get(path)
        if file is None or file.signature != signature_of(path):
            file = None
        if file is None or asked not in file.found:
            is_plain = key_paths and flatten and not kwargs and _are_plain(key_paths)
            if file and file.is_searched and is_plain:
                found = _find(file.data, key_paths or ())
            else:
                found = original(fs, path, key_paths, flatten, **kwargs)
                file = self._known.get(path)  # has been read meanwhile
                if file is None:
                    return found
                file.is_searched = file.is_searched or bool(is_plain)
            file.found[asked] = found
        # NOTE: they become attributes of stages
        return deepcopy(file.found[asked])


def _are_plain(key_paths: Iterable[Any]) -> bool:
    return all(
        isinstance(path, str) and all(map(_PLAIN.fullmatch, _keys_of(path)))
        for path in key_paths
    )


def _keys_of(key_path: str) -> list[str]:
    return key_path.lstrip(".").split(".")


def _find(data: Any, key_paths: Iterable[str]) -> dict[str, Any]:
    """The values of params, as far as they are there."""
    found = {}
    for key_path in key_paths:
        value = data
        for key in _keys_of(key_path):
            if not isinstance(value, dict) or key not in value:
                break
            value = value[key]
        else:
            found[key_path] = value
    return found
