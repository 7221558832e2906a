"""Where the value of a parameter comes from: one file, or several things together."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

from .project import KedroError, KedroProject, errors_of_the_project

ALL = "parameters"
PREFIX = "params:"
HASH = "sha256:"


def is_parameter(dataset: str) -> bool:
    """Whether an input of a node is parameters."""
    return dataset == ALL or dataset.startswith(PREFIX)


class ParameterSources:
    """Says where each parameter of a project is defined.

    DVC reads a parameter from its file if the node gets the value that is there. Where
    an environment, globals or a resolver have a say in it, it does not; nor where a key
    has a dot, which DVC takes for two.
    """

    def __init__(self, project: KedroProject):
        self._project = project

    def sources(self, dataset: str) -> list[str]:
        """``file:key`` of a parameter, or ``sha256:...`` of its value.

        All parameters together come from whole files, each ``file:``.

        Args:
            dataset: an input for which :func:`is_parameter`.

        Raises:
            KedroError: there is no such parameter.
        """
        name = dataset.partition(":")[2]
        value = self.value(dataset)
        if not name:
            files = self._files
            total = {key: content[key] for content in files.values() for key in content}
            if total == value and len(total) == sum(map(len, files.values())):
                return [f"{file}:" for file in files]
        elif (found := self._in_files(name)) and found[1] == value:
            return [f"{found[0]}:{name}"]
        return [f"{HASH}{digest(value)}"]

    def value(self, dataset: str) -> Any:
        """The value of a parameter, resolved.

        Raises:
            KedroError: there is no such parameter.
        """
        name = dataset.partition(":")[2]
        with errors_of_the_project(f"'{PREFIX}{name}'", self._project.root):
            parameters = self._project.parameters
        if not name:
            return parameters
        found = [*_named(parameters, name)]
        if not found:
            raise KedroError(f"'{dataset}': the project has no such parameter")
        return found[-1]

    def _in_files(self, name: str) -> Optional[tuple[str, Any]]:
        """The only file that has a parameter, and its value there."""
        parts = name.split(".")
        defining = [
            file for file, content in self._files.items() if parts[0] in content
        ]
        if len(defining) != 1:
            return None
        value: Any = self._files[defining[0]]
        for part in parts:
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        return defining[0], value

    @cached_property
    def _files(self) -> dict[str, dict]:
        """Files with parameters, relative to the project, and what they say."""
        import yaml

        found: dict[str, dict] = {}
        for path in self._paths():
            try:
                content = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError):
                continue  # one that only Kedro can read is no source
            if isinstance(content, dict):
                found[path.relative_to(self._project.root).as_posix()] = content
        return found

    def _paths(self) -> Iterator[Path]:
        loader = self._project.context.config_loader
        patterns = getattr(loader, "config_patterns", {}).get(ALL, [])
        source = Path(loader.conf_source)
        if not source.is_relative_to(self._project.root):
            return
        run_env = loader.env or getattr(loader, "default_run_env", "")
        folders = {source / (getattr(loader, "base_env", "") or ""), source / run_env}
        found = {
            path
            for folder in folders
            for pattern in patterns
            for path in folder.glob(
                pattern + "/*" if pattern.endswith("**") else pattern
            )
            if path.suffix in (".yml", ".yaml", ".json") and path.is_file()
        }
        yield from sorted(found)


def _named(parameters: dict, name: str) -> Iterator[Any]:
    """What Kedro has by a name, of which it takes the last: keys can have dots, too."""
    for key, value in parameters.items():
        if name == f"{key}":
            yield value
        elif isinstance(value, dict) and name.startswith(f"{key}."):
            yield from _named(value, name[len(f"{key}.") :])


def digest(value: Any) -> str:
    """SHA-256 of a value, in hex, the same in each process and on each Python."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """A value as JSON can have it, of any object by its class and attributes."""
    plain: Any
    if value is None or isinstance(value, (bool, int, float, str)):
        plain = value
    elif isinstance(value, dict):
        plain = {f"{type(key).__name__}:{key}": _plain(value[key]) for key in value}
    elif isinstance(value, (list, tuple)):
        plain = [_plain(item) for item in value]
    elif isinstance(value, (set, frozenset)):
        plain = sorted((_plain(item) for item in value), key=json.dumps)
    elif hasattr(value, "__qualname__"):
        plain = f"{value.__module__}.{value.__qualname__}"
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        text = repr(value)
        own = _plain(vars(value)) if hasattr(value, "__dict__") else None
        plain = [kind, own or ("" if " at 0x" in text else text)]
    return plain
