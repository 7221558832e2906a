"""A function of DVC that one of ours stands in for."""

import re
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from itertools import zip_longest
from typing import Any, Callable, Optional

Version = tuple[int, ...]

VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

# DVC releases that the seams have been tested with: from, and up to.
OLDEST: Version = (2, 58, 2)
NEWEST: Version = (3, 67, 1)


@dataclass(frozen=True)
class Seam:
    """A function of DVC that one of ours stands in for.

    Attributes:
        target: "module:name" of it, with the class before a dot if it is a method.
        takes: its first parameters, as the stand-in expects them.
        stand_in: "module:name" of the function that gets it as first argument.
        since: first release of DVC that it is for.
        before: first release of DVC that it is no longer for.
        dispensable: whether runs are right without it, if slower.
    """

    target: str
    takes: str
    stand_in: str
    since: Version = OLDEST
    before: Optional[Version] = None
    dispensable: bool = False

    def __str__(self) -> str:
        return self.target.replace(":", ".")

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def name(self) -> str:
        return self.target.partition(":")[2]

    def _find(self, module: Any) -> tuple[Any, str]:
        owner, _, name = self.name.rpartition(".")
        return (getattr(module, owner) if owner else module), name

    def current(self) -> Any:
        """The function as it is now.

        Raises:
            AttributeError: DVC has none of that name.
            ImportError: DVC has no such module.
        """
        owner, name = self._find(import_module(self.module))
        return getattr(owner, name)

    def is_for(self, version: Version) -> bool:
        return self.since <= version and (not self.before or version < self.before)

    def misfit(self) -> Optional[str]:
        """The way in which the installed DVC differs from it; None if it does not."""
        try:
            func = _function(self.current())
        except (AttributeError, ImportError):
            return f"this DVC has no {self}"
        found = signature(func).parameters.values()
        for name, parameter in zip_longest(self.takes.split(), found):
            if name is None or (parameter and parameter.kind in VARIADIC):
                return None
            if parameter is None or parameter.name != name:
                return f"{self} takes {signature(func)} instead of ({self.takes})"
        return None

    def replace(self, module: Any, func: Any) -> None:
        owner, name = self._find(module)
        setattr(owner, name, func)

    def install(self) -> Callable:
        """Put the stand-in in; return what was there before.

        Raises:
            AttributeError: DVC has no such function.
        """
        misfit = self.misfit()
        if misfit:
            raise AttributeError(misfit)
        original = self.current()
        module, _, name = self.stand_in.partition(":")
        stand_in = getattr(import_module(module), name)
        func = _function(original)

        @wraps(func)
        def patched(*args, **kwargs):
            return stand_in(func, *args, **kwargs)

        patched.dvc_parallel_seam = self  # type: ignore[attr-defined]
        new = property(patched) if isinstance(original, property) else patched
        self.replace(import_module(self.module), new)
        return original

    @property
    def installed(self) -> bool:
        func = _function(self.current())
        return getattr(func, "dvc_parallel_seam", None) is self


_ROW = re.compile(
    r"(?P<target>[\w.]+:[\w.]+)\((?P<takes>[\w ]+)\) -> (?P<stand_in>[\w.]+:\w+)"
    r"(?P<dispensable>, dispensable)?(, since (?P<since>[\d.]+))?"
    r"(, before (?P<before>[\d.]+))?"
)


def seams_of(table: str) -> tuple[Seam, ...]:
    """Seams as ``target(takes) -> stand-in, dispensable, since 3.0.0, before 3.6.0``.

    Stand-ins are given from this package on; all that comes after them is optional.
    """
    text = " ".join(table.split())
    rows = [*_ROW.finditer(text)]
    assert " ".join(row[0] for row in rows) == text
    return tuple(
        Seam(
            row["target"],
            row["takes"],
            f"dvc_parallel.{row['stand_in']}",
            _version(row["since"]) or OLDEST,
            _version(row["before"]),
            bool(row["dispensable"]),
        )
        for row in rows
    )


def _version(text: Optional[str]) -> Optional[Version]:
    return tuple(map(int, text.split("."))) if text else None


def _function(value: Any) -> Any:
    return value.fget if isinstance(value, property) else value
