"""What decides, besides its data, what nodes of Kedro make: their fingerprint.

It is a small file of JSON in the project, which the stage depends on. Names in it say
what has changed, to those who read a diff and in the error of a stage that is stale.
"""

import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Optional

from dvc_parallel.code import CodeError, keep
from dvc_parallel.code import Project as CodeProject

from . import FOLDER, KedroError
from .datasets import Dataset, dataset_of, role_config
from .parameters import ParameterSources, digest, is_parameter
from .project import KedroProject

VERSION = 1


def stage_name(node: str) -> str:
    """The name of a node's stage: DVC allows no punctuation but ``_`` and ``-``."""
    return re.sub(r"[^\w-]+", "-", node).strip("-")


def path_of(stage: str) -> str:
    """Path of the fingerprint of a stage, relative to the project."""
    return f"{FOLDER}/{stage}.json"


def text_of(content: Mapping[str, Any]) -> str:
    """The text of a fingerprint's file."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


class Fingerprints:
    """Makes the fingerprints of nodes of a project."""

    def __init__(self, project: KedroProject):
        self.project = project
        self._parameters = ParameterSources(project)
        self._datasets: dict[str, Dataset] = {}

    @cached_property
    def _code(self) -> CodeProject:
        tmp_dir = self._tmp_dir
        cache = str(tmp_dir / "code") if tmp_dir else None
        return CodeProject([str(self.project.source)], cache)

    @cached_property
    def _tmp_dir(self) -> Optional[Path]:
        """A folder that git does not track; None where there is no repo."""
        root = self.project.root
        repos = [folder / ".dvc" for folder in (root, *root.parents)]
        found = [dvc / "tmp" / "parallel" for dvc in repos if dvc.is_dir()]
        return found[0] if found else None

    def _traced(self, stage: str) -> Path:
        """The file of what a trace has found of a stage, which need not be there."""
        if self._tmp_dir is None:
            return Path(os.devnull)
        path = str(self.project.root / path_of(stage))
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:20]
        return self._tmp_dir / "kedro" / f"{name}.json"

    def also(self, stage: str) -> set[str]:
        """Definitions that a stage ran, and that its code does not name."""
        found: set[str] = set()
        with suppress(OSError, ValueError, TypeError, AttributeError):
            file = self.project.root / path_of(stage)
            found.update(json.loads(file.read_text(encoding="utf-8")).get("also", ()))
        with suppress(OSError, ValueError, TypeError):
            found.update(json.loads(self._traced(stage).read_text(encoding="utf-8")))
        return found

    def keep_uncovered(
        self,
        stage: str,
        fingerprint: Mapping[str, Any],
        ran: Iterable[tuple[str, int]],
    ) -> list[str]:
        """Keep, for the next update, what a stage ran and its fingerprint lacks.

        Args:
            ran: as of a :class:`~dvc_parallel.code.trace.Trace`.

        Returns:
            list: what that is, as entries of a closure.

        Raises:
            CodeError: a file cannot be read any more.
        """
        entries = [*fingerprint["entries"], *fingerprint.get("also", ())]
        found = self._code.uncovered(self._code.closure(entries), ran)
        if found and self._tmp_dir:
            text = json.dumps(sorted({*found, *self.also(stage)}))
            keep(str(self._traced(stage)), text)
        return found

    def forget_traced(self, stage: str) -> None:
        """Take note that the fingerprint of a stage has what a trace has found."""
        if self._tmp_dir:
            self._traced(stage).unlink(missing_ok=True)

    def dataset(self, name: str) -> Dataset:
        """A dataset of the catalog that is no parameter.

        Raises:
            KedroError: DVC cannot have it.
        """
        if name not in self._datasets:
            entry = self.project.entry(name)
            self._datasets[name] = dataset_of(name, entry, self.project.root)
        return self._datasets[name]

    def of(
        self,
        nodes: Iterable[Any],
        inner: Iterable[str] = (),
        also: Iterable[str] = (),
    ) -> dict[str, Any]:
        """The fingerprint of nodes that run together, in their order.

        Args:
            inner: names of datasets that stay in memory.
            also: definitions that they use besides those that their code names, where
                these are still there.

        Raises:
            KedroError: it cannot be made.
        """
        try:
            return self._content(nodes, sorted(inner), sorted(also))
        except CodeError as exc:
            raise KedroError(str(exc)) from exc

    def _content(
        self, nodes: Iterable[Any], inner: list[str], also: list[str]
    ) -> dict[str, Any]:
        functions = Functions(self.project.source, self._code)
        said: dict[str, Any] = {}
        data: dict[str, Any] = {}
        parameters: dict[str, list[str]] = {}
        for node in nodes:
            functions.add(node.func)
            said[node.name] = {
                "function": functions.name(node.func),
                "inputs": _named(node._inputs),
                "outputs": _named(node._outputs),
            }
            for is_input, names in ((True, node.inputs), (False, node.outputs)):
                for name in names:
                    if is_parameter(name):
                        parameters[name] = self._parameters.sources(name)
                        functions.add_paths(self._parameters.value(name))
                    elif name not in inner:
                        self._say_data(data, name, is_input, functions)
        content = {
            "version": VERSION,
            "nodes": said,
            "data": data,
            "parameters": parameters,
            **self._say_code(functions, also),
        }
        if inner:
            content["in memory"] = inner
        return content

    def _say_data(
        self, data: dict, name: str, is_input: bool, functions: "Functions"
    ) -> None:
        dataset = self.dataset(name)
        kind = str(dataset.config.get("type"))
        functions.add_paths(dataset.config)
        said = data.setdefault(name, {"path": dataset.stored, "type": kind})
        if dataset.place not in ("", dataset.stored):
            said["place"] = dataset.place
        said["loaded by" if is_input else "saved by"] = digest(
            role_config(dataset.config, is_input)
        )

    def _say_code(self, functions: "Functions", also: list[str]) -> dict[str, Any]:
        also = [entry for entry in also if self._code.has(entry)]
        closure = self._code.closure([*sorted(functions.entries), *also])
        source = os.path.relpath(self.project.source, self.project.root)
        said: dict[str, Any] = {
            # NOTE: from these two, DVC alone can say what the next two are
            "source": Path(source).as_posix(),
            "entries": sorted(functions.entries),
            "code": dict(closure.definitions),
            "packages": dict(closure.distributions),
        }
        if also:
            said["also"] = also
        if values := {**functions.values, **functions.distributions}:
            said["values"] = values
        return said


def _named(datasets: Any) -> Any:
    """Names of a node's inputs or outputs, as the node has them."""
    if isinstance(datasets, dict):
        return dict(datasets)
    return [datasets] if isinstance(datasets, str) else list(datasets or ())


def _is_dotted(text: str) -> bool:
    return "." in text and all(map(str.isidentifier, text.split(".")))


class Functions:
    """Finds the definitions that functions of nodes begin with.

    Attributes:
        entries: ``module:name`` of definitions of the project.
        distributions: versions of packages that functions of nodes come from.
        values: digests of what is bound to functions outside of their definitions.
    """

    def __init__(self, source: Path, code: CodeProject):
        self._source = source
        self._code = code
        self._seen: set[int] = set()
        self.entries: set[str] = set()
        self.distributions: dict[str, str] = {}
        self.values: dict[str, str] = {}

    def name(self, function: Any) -> str:
        """How a function is called in a fingerprint."""
        while isinstance(function, functools.partial):
            function = function.func
        if isinstance(function, (FunctionType, MethodType, type)):
            return f"{function.__module__}:{function.__qualname__}"
        kind = type(function)
        name = getattr(function, "__qualname__", kind.__qualname__)
        return f"{getattr(function, '__module__', kind.__module__)}:{name}"

    def add(self, function: Any, place: Optional[str] = None) -> None:
        """Add a function, whatever kind of callable it is."""
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        place = place or self.name(function)
        if isinstance(function, functools.partial):
            self.add(function.func, place)
            bound: dict[Any, Any] = {
                **dict(enumerate(function.args)),
                **function.keywords,
            }
            for key, value in bound.items():
                self._add_value(value, f"{place} argument {key}")
        elif isinstance(function, MethodType):
            self.add(function.__func__, place)
            self._add_value(function.__self__, f"{place} self")
        elif isinstance(function, type):
            self._add_definition(function.__module__, function.__qualname__)
        elif isinstance(function, FunctionType):
            self._add_function(function, place)
        elif not hasattr(function, "__wrapped__") and not hasattr(function, "__name__"):
            self._add_value(function, f"{place} attributes")
        elif getattr(function, "__module__", None):
            self._add_definition(function.__module__)
        wrapped = getattr(function, "__wrapped__", None)
        if callable(wrapped):
            self.add(wrapped, place)

    def add_paths(self, value: Any) -> None:
        """Add what a value names by dotted paths, of what is in the project."""
        if isinstance(value, dict):
            for item in value.values():
                self.add_paths(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.add_paths(item)
        elif isinstance(value, str) and _is_dotted(value.replace(":", ".")):
            module, chain = self._code.named(value.replace(":", "."))
            if module is not None and os.path.isfile(module.path):
                is_there = chain and chain[0] in module.bindings
                self.entries.add(
                    f"{module.name}:{chain[0]}" if is_there else module.name
                )

    def _add_function(self, function: FunctionType, place: str) -> None:
        module = function.__globals__.get("__name__", function.__module__)
        code = function.__code__
        name = function.__qualname__
        if code.co_name != function.__name__ or "<" in name:
            name = self._code.name_at(code.co_filename, code.co_firstlineno)
        self._add_definition(module, name)
        for variable, cell in zip(code.co_freevars, function.__closure__ or ()):
            try:
                content = cell.cell_contents
            except ValueError:
                continue  # not bound yet
            self._add_value(content, f"{place} variable {variable}")

    def _add_value(self, value: Any, place: str) -> None:
        if isinstance(value, ModuleType):
            self._add_definition(value.__name__)
        elif callable(value) and (
            isinstance(value, (FunctionType, MethodType, type, functools.partial))
            or hasattr(value, "__name__")
        ):
            self.add(value)
        else:
            kind = type(value)
            if kind.__module__ != "builtins":
                self._add_definition(kind.__module__, kind.__qualname__)
            self.values[place] = digest(value)

    def _add_definition(self, module: str, name: str = "") -> None:
        """Add a definition, or all of a module."""
        file = getattr(sys.modules.get(module), "__file__", None)
        packages = self._code.packages
        if file and Path(file).resolve().is_relative_to(self._source):
            self.entries.add(f"{module}:{name}" if name else module)
        elif not packages.is_standard(module):
            self.distributions.update(packages.of(module))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What has changed between two fingerprints, a few words each."""
    found = []
    for section in sorted({*old, *new}):
        one, other = old.get(section), new.get(section)
        if one == other:
            continue
        if isinstance(one, list) and isinstance(other, list):
            one, other = dict.fromkeys(one), dict.fromkeys(other)
        if not (isinstance(one, dict) and isinstance(other, dict)):
            found.append(section)
            continue
        for key in sorted({*one, *other}):
            if (key in one, one.get(key)) != (key in other, other.get(key)):
                state = "is new" if key not in one else "is gone"
                found.append(
                    f"{key} {'has changed' if key in one and key in other else state}"
                )
    return list(dict.fromkeys(found))
