"""Params files, read and parsed once while they do not change.

DVC does it several times for each stage that has params.
"""

from copy import deepcopy
from typing import Any, Callable, NamedTuple, Optional

from dvc_parallel.engine.file_stamp import Signature, is_settled, signature_of


class _File(NamedTuple):
    signature: Signature
    data: Any
    found: dict[tuple, Any]  # by what was asked for


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
            file = _File(signature, original(path, fs), {})
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

        It goes through all of the file for each key.
        """
        asked = (tuple(key_paths or ()), flatten, *kwargs.items())
        file = self._known.get(path)
        if file is None or file.signature != signature_of(path):
            file = None
        if file is None or asked not in file.found:
            found = original(fs, path, key_paths, flatten, **kwargs)
            file = self._known.get(path)  # has been read meanwhile
            if file is None:
                return found
            file.found[asked] = found
        # NOTE: they become attributes of stages
        return deepcopy(file.found[asked])
