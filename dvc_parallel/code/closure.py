"""From what is run to all code that it uses."""

import builtins
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cached_property, partial
from itertools import chain as joined
from typing import Callable, NamedTuple, Optional

from .canonical import digest
from .harmless import is_harmless, words
from .places import Packages, Place, Places
from .summary import FORMAT, Summary, Unit, summarize

_BUILTIN_NAMES = frozenset(dir(builtins))
# What every module has.
_GIVEN = words(
    "__file__ __name__ __doc__ __package__ __path__ __spec__ __loader__ __dict__ "
    "__builtins__ __cached__ __annotations__"
)


def split_entry(entry: str) -> tuple[str, str, str]:
    """The path of the file, or else the name of the module, and what of it is meant."""
    place, _, qualname = entry.partition(":")
    is_path = os.sep in place or place.endswith(".py")
    return (place, "", qualname) if is_path else ("", place, qualname)


class CodeError(Exception):
    """Code that cannot be followed: which, and what would be right."""


class Closure(NamedTuple):
    """Code that something uses.

    Attributes:
        definitions: by ``pkg.mod:name``, the hex digest of its canonical form; by
            ``pkg.mod`` that of the statements which are run when it is imported.
        distributions: versions of installed packages, by their names.
        files: real paths of the files of the project that are imported.
    """

    definitions: dict[str, str]
    distributions: dict[str, str]
    files: frozenset[str]


class Module:
    """A module of the project, and where its names are bound."""

    def __init__(self, place: Place, title: str, summary: Summary):
        self.name, self.path, self.is_package = place
        self.title = title
        self.units = summary.units
        self.docs = summary.docs
        self.bindings: dict[str, list[Unit]] = {}
        self.stars: list[str] = []
        for unit in self.units:
            for name in unit.names:
                self.bindings.setdefault(name, []).append(unit)
            self.stars += unit.stars

    @cached_property
    def used_names(self) -> frozenset[str]:
        """Names that are read somewhere in it."""
        return frozenset(
            ref.partition(".")[0] for unit in self.units for ref in unit.uses
        )

    @cached_property
    def _variables(self) -> frozenset[str]:
        """Names whose values are not made by one definition or import."""
        return frozenset(
            name
            for name, units in self.bindings.items()
            if len(units) > 1 or units[0].kind in ("value", "statement")
        )

    def in_order(self, unit: Unit) -> bool:
        """Whether it matters what is run before a unit."""
        return (
            unit.kind == "statement"
            or unit.effect
            or bool(unit.doubts)
            or any(len(self.bindings[name]) > 1 for name in unit.names)
            or not self._variables.isdisjoint(unit.eager)
        )

    def absolute(self, ref: str) -> tuple[str, list[str]]:
        """The module of a ref, with its full name, and the attributes."""
        module, _, chain = ref.partition(":")
        level = len(module) - len(module.lstrip("."))
        if level:
            parts = self.name.split(".")
            parts = parts[: len(parts) - level + self.is_package]
            module = ".".join([*parts, *filter(None, [module[level:]])])
        return module, chain.split(".") if chain else []


class Project:
    """The code of a project.

    Each instance reads a file once: files must not change while it is used.

    Args:
        roots: folders in which modules are found, as in ``sys.path``.
        cache: folder to keep what is known about files in.
        packages: folders with installed packages; by default, those of this Python.
    """

    def __init__(
        self,
        roots: Sequence[str],
        cache: Optional[str] = None,
        packages: Optional[Iterable[str]] = None,
    ):
        self.packages = Packages(packages)
        self.places = Places(roots, self.packages)
        self._cache = _Cache(cache)
        self._modules: dict[str, Module] = {}
        self._titles: dict[str, str] = {}

    def closure(self, entries: Iterable[str]) -> Closure:
        """The code that is used by some entries.

        Args:
            entries: ``pkg.mod:qualname``; ``pkg.mod``, all of a module; the path of a
                script, which is run, or ``path.py:qualname``.

        Raises:
            CodeError: an entry is not there, or code that it uses cannot be read.
        """
        walk = _Walk(self)
        for entry in entries:
            walk.enter(entry)
        return walk.closure()

    def with_code(self, files: Iterable[str]) -> list[str]:
        """Those of the files of a closure that have statements, in order."""
        return [path for path in sorted(files) if self._modules[path].units]

    def has(self, entry: str) -> bool:
        """Whether there is what an entry names.

        Raises:
            CodeError: its file cannot be read.
        """
        path, name, qualname = split_entry(entry)
        if path and not os.path.isfile(path):
            return False
        place = self.places.at(path) if path else self.places.find(name)
        if place is None or not qualname:
            return place is not None
        return qualname.partition(".")[0] in self.at(place).bindings

    def name_at(self, path: str, line: int) -> str:
        """A name that the statement at a line of a file of the project binds, if any.

        Raises:
            CodeError: the file cannot be read.
        """
        place = self.places.at(path)
        if self.places.find(place.name) == place:
            for unit in self.at(place).units:
                if unit.has_line(line) and unit.names:
                    return unit.names[0]
        return ""

    def uncovered(self, closure: Closure, ran: Iterable[tuple[str, int]]) -> list[str]:
        """Code that ran, and is not in a closure; as entries of one that has it.

        Args:
            ran: paths of files, with first lines of functions; 0 for the file itself.

        Raises:
            CodeError: a file cannot be read.
        """
        found = set()
        for path, line in ran:
            place = self.places.at(path)
            module, name = self.at(place), place.name
            if self.places.find(name) != place:
                if not path.endswith(".py"):
                    continue  # such as a template that was made Python
                name = path
            if path not in closure.files:
                found.add(name)
            for unit in module.units:
                # NOTE: a decorator runs for functions that nobody uses, too
                if unit.has_line(line) and not unit.decorator:
                    keys = {f"{module.title}:{bound}" for bound in unit.names}
                    if keys and keys.isdisjoint(closure.definitions):
                        found.add(f"{name}:{unit.names[0]}")
        # NOTE: a module, other than a script, counts as a whole
        return sorted(
            entry
            for entry in found
            if entry.partition(":")[0] not in found - {entry} or split_entry(entry)[0]
        )

    def module(self, name: str) -> Optional[Module]:
        """A module of the project; None if it is not one.

        Raises:
            CodeError: it cannot be read.
        """
        place = self.places.find(name)
        return place and self.at(place)

    def named(self, text: str) -> tuple[Optional[Module], list[str]]:
        """The module of the project that a dotted text names, and its attributes.

        Raises:
            CodeError: it cannot be read.
        """
        name, _, attributes = text.partition(":")
        chain = attributes.split(".") if attributes else []
        while name and self.places.find(name) is None:
            name, _, last = name.rpartition(".")
            chain.insert(0, last)
        return self.module(name), chain

    def at(self, place: Place) -> Module:
        path = os.path.realpath(place.path)
        if path not in self._modules:
            summary = Summary([])
            if not os.path.isdir(path):
                try:
                    with open(path, "rb") as file:
                        source = file.read()
                    if os.path.splitext(path)[1] not in (".py", ""):
                        # NOTE: of a compiled module, all that counts is that it is same
                        text = source.decode("latin-1")
                        summary.units = [Unit("value", [], digest(text), effect=True)]
                    else:
                        summary = self._cache.summary(path, source)
                except (SyntaxError, ValueError, OSError) as exc:
                    raise CodeError(_unreadable(self.places.title(path), exc)) from exc
            self._modules[path] = Module(place, self._title(place), summary)
        return self._modules[path]

    def _title(self, place: Place) -> str:
        """A name for a module that no other one has."""
        title = place.name
        if self.places.find(title) != place:
            title = self.places.title(place.path)
        while self._titles.setdefault(title, place.path) != place.path:
            title += "'"
        return title


def _unreadable(title: str, exc: Exception) -> str:
    if isinstance(exc, SyntaxError):
        line = f", line {exc.lineno}" if exc.lineno else ""
        python = ".".join(map(str, sys.version_info[:2]))
        return f"{title}{line}: {exc.msg} (as Python {python} reads it)"
    if isinstance(exc, OSError):
        return f"{title}: {exc.strerror or exc}"
    return f"{title}: {exc}"


class _Cache:
    """Keeps summaries in a folder, one of each file, for the text that it has."""

    def __init__(self, folder: Optional[str]):
        self._folder = folder

    def summary(self, path: str, source: bytes) -> Summary:
        """The summary of a file.

        Raises:
            SyntaxError, ValueError: it is no Python.
        """
        if self._folder is None:
            return summarize(source, path)
        key = digest(str(FORMAT), source.decode("latin-1"))
        kept = os.path.join(self._folder, f"{digest(path)}.json")
        try:
            with open(kept, encoding="utf-8") as file:
                data = json.load(file)
            if data["key"] == key:
                return Summary.from_dict(data)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        summary = summarize(source, path)
        keep(kept, json.dumps({"key": key, **summary.as_dict()}))
        return summary


def keep(path: str, text: str) -> None:
    """Put a file in place at once, through no link; who cannot write does without."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=folder, delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError:
        pass


class _Walk:
    """Follows code from entries.

    Two things happen to a module: it is *loaded*, which runs its statements, and
    units of it are *counted*, with all that they refer to.
    """

    def __init__(self, project: Project):
        self._project = project
        self._loaded: dict[str, Module] = {}
        self._counted: dict[int, tuple[Module, Unit]] = {}
        self._used: set[tuple[str, tuple[str, ...]]] = set()
        self._whole: set[str] = set()
        self._imports: dict[str, dict[str, None]] = {}
        self._distributions: dict[str, str] = {}
        self._todo: list[Callable[[], None]] = []

    # entries

    def enter(self, entry: str) -> None:
        """Use what an entry names.

        Raises:
            CodeError: it is not there, or code that it uses cannot be read.
        """
        path, name, qualname = split_entry(entry)
        if path and not os.path.isfile(path):
            raise CodeError(f"{entry}: there is no such script")
        if path and not qualname:
            self._load_path(path, main=True)
        else:
            module = self._load_path(path) if path else self._load_name(name)
            if module is None:
                roots = ", ".join(self._project.places.roots) or "no folder"
                raise CodeError(f"{entry}: there is no module '{name}' in {roots}")
            if not qualname:
                self._count_all(module, main=True)
            elif not self._attribute(module, qualname.split(".")):
                known = [n for n, u in module.bindings.items() if u[0].kind != "import"]
                similar = get_close_matches(qualname, known, n=1)
                hint = f"; did you mean '{similar[0]}'?" if similar else ""
                raise CodeError(
                    f"{entry}: '{path or name}' does not define '{qualname}' at its "
                    f"top{hint}"
                )
        while self._todo:
            self._todo.pop()()

    def _load_path(self, path: str, main: bool = False) -> Module:
        place = self._project.places.at(path)
        self._load_parents(place.name)
        module = self._project.at(place)
        self._load(module, main)
        return module

    # modules that are imported

    def _load_name(self, name: str) -> Optional[Module]:
        """Import a module of the project, and the packages that it is in."""
        module = self._project.module(name)
        if module is not None:
            self._load_parents(name)
            self._load(module)
        return module

    def _load_parents(self, name: str) -> None:
        parts = name.split(".")
        for length in range(1, len(parts)):
            package = self._project.module(".".join(parts[:length]))
            if package is not None:
                self._load(package)

    def _load(self, module: Module, main: bool = False) -> None:
        if module.path in self._loaded and not main:
            return
        self._loaded[module.path] = module
        for unit in module.units:
            if unit.main and not main:
                continue
            for ref in unit.loads:
                self._load_ref(module, ref)
            if unit.kind == "import":
                self._load_for_its_effect(module, unit)
            elif unit.main or self._has_effect(module, unit):
                self._count(module, unit)

    def _load_for_its_effect(self, module: Module, unit: Unit) -> None:
        """What nothing in a module refers to is imported for what that does."""
        if module.used_names.isdisjoint(unit.names):
            for ref in unit.loads:
                name, chain = module.absolute(ref)
                if self._project.module(name) is None:
                    self._external(name, chain)

    def _load_ref(self, module: Module, ref: str) -> None:
        name, chain = module.absolute(ref)
        if self._load_name(name) and chain:
            self._load_name(f"{name}.{chain[0]}")

    # units that count

    def _count_all(self, module: Module, main: bool = False) -> None:
        """Count all of a module."""
        if module.path in self._whole and not main:
            return
        self._whole.add(module.path)
        self._load(module, main)
        for unit in module.units:
            if unit.kind != "import" and (main or not unit.main):
                self._count(module, unit)
            for ref in joined.from_iterable(unit.imports.values()):
                name, rest = module.absolute(ref)
                inner = ".".join([name, *rest[:1]])
                if self._project.module(inner) is None:
                    self._use(name, rest)
                elif module.is_package:
                    self._use(inner, rest[1:])
            for star in unit.stars:
                self._use(*module.absolute(star))

    def _count(self, module: Module, unit: Unit) -> None:
        if id(unit) not in self._counted:
            self._counted[id(unit)] = (module, unit)
            self._todo.append(partial(self._follow, module, unit))

    def _follow(self, module: Module, unit: Unit) -> None:
        """Use what a unit refers to."""
        for ref in unit.uses:
            if ":" in ref:
                self._use(*module.absolute(ref))
            else:
                self._name(module, ref.split("."))
        for ref in [*unit.loads, *unit.loads_later]:
            self._load_ref(module, ref)
        for star in unit.stars:
            if unit.kind != "import":
                self._use(*module.absolute(star))
        for text in unit.texts:
            self._text(module, text)
        for pattern in unit.patterns:
            self._pattern(module, pattern)
        if unit.open_:
            self._count_all(module)

    # names

    def _use(self, name: str, chain: Sequence[str]) -> None:
        """Use a module, or what an attribute of it stands for; when its turn comes."""
        key = (name, tuple(chain))
        if key not in self._used:
            self._used.add(key)
            self._todo.append(partial(self._resolve, name, list(chain)))

    def _resolve(self, name: str, chain: list[str]) -> None:
        module = self._load_name(name)
        if module is None:
            self._external(name, chain)
        elif not chain:
            self._count_all(module)
        elif not self._attribute(module, chain) and chain[0] not in _GIVEN:
            # NOTE: somebody gives it that name, in whatever way
            self._count_all(module)

    def _attribute(self, module: Module, chain: list[str]) -> bool:
        """Use an attribute of a module.

        Returns:
            bool: whether it has it.
        """
        if self._name(module, chain):
            return True
        inner = f"{module.name}.{chain[0]}"
        if module.is_package and self._project.module(inner) is not None:
            self._use(inner, chain[1:])
            return True
        if "__getattr__" in module.bindings:
            self._name(module, ["__getattr__"])
            if module.is_package:
                self._all_below(module.name)
            return True
        return False

    def _name(self, module: Module, chain: list[str]) -> bool:
        """Use a name of a module, and attributes of what it stands for.

        Returns:
            bool: whether it is bound there.
        """
        units = module.bindings.get(chain[0], ())
        for unit in units:
            if unit.kind != "import":
                self._count(module, unit)
            for ref in unit.imports.get(chain[0], ()):
                name, rest = module.absolute(ref)
                key = f"{module.title}:{chain[0]}"
                refs = self._imports.setdefault(key, {})
                refs[f"{name}:{'.'.join(rest)}"] = None
                self._use(name, [*rest, *chain[1:]])
        if units:
            return True
        # NOTE: of these, all that may have it, as the last one wins
        found = False
        for star in module.stars:
            name, _ = module.absolute(star)
            if self._project.module(name) is None:
                if chain[0] not in _BUILTIN_NAMES:
                    self._external(name, chain)
            elif self._binds(name, chain[0], set()):
                self._use(name, chain)
                found = True
        return found

    def _binds(self, name: str, attribute: str, seen: set[str]) -> bool:
        """Whether a module binds a name, itself or by ``import *``."""
        module = self._project.module(name)
        if module is None or name in seen:
            return False
        seen.add(name)
        return attribute in module.bindings or any(
            self._binds(module.absolute(star)[0], attribute, seen)
            for star in module.stars
        )

    def _external(self, name: str, chain: Sequence[str] = ()) -> None:
        """Use a module that is not the project's."""
        packages = self._project.packages
        if not name or packages.is_standard(name):
            return
        found = packages.of(".".join([name, *chain]))
        if not found:
            found = {name.partition(".")[0]: "not installed"}
        self._distributions.update(found)

    # what is found in texts

    def _text(self, module: Module, text: str) -> None:
        """A text that may be the path of a module, of a thing in it, or a script."""
        if text.endswith(".py"):
            folders = [os.path.dirname(module.path), *self._project.places.roots]
            for folder in folders:
                path = os.path.join(folder, text)
                if os.path.isfile(path):
                    self._load_path(path, main=True)
                    return
        if text.startswith("."):
            name, _, attributes = text.partition(":")
            text = f"{module.absolute(f'{name}:')[0]}:{attributes}"
        found, chain = self._project.named(text)
        if found is None:
            return
        if not chain:
            self._load_name(found.name)
            self._count_all(found)
        elif chain[0] in found.bindings or found.stars:
            self._load_name(found.name)
            self._attribute(found, chain)

    def _pattern(self, module: Module, start: str) -> None:
        """Modules that are imported by names which begin in some way."""
        if start.startswith("."):
            start = f"{module.absolute('.:')[0]}.{start.lstrip('.')}"
        package = start.rpartition(".")[0]
        if not start:
            package = module.name.partition(".")[0] if "." in module.name else ""
        self._all_below(package)

    def _all_below(self, package: str) -> None:
        for place in self._project.places.below(package):
            module = self._load_name(place.name)
            if module is not None:
                self._count_all(module)

    # what has an effect

    def _has_effect(self, module: Module, unit: Unit) -> bool:
        return unit.effect or not all(
            self._judge(module, how, name.split("."), set())
            for how, name in unit.doubts
        )

    def _judge(
        self, module: Module, how: str, chain: list[str], seen: set[tuple[str, str]]
    ) -> bool:
        """Whether it has no effect to use something in some way."""
        if (module.path, chain[0]) in seen:
            return False
        seen.add((module.path, chain[0]))
        units = module.bindings.get(chain[0])
        if not units:
            return not module.stars and is_harmless(how, "builtins", chain)
        return all(
            all(
                self._imported_is_harmless(module, how, ref, chain, seen)
                for ref in unit.imports[chain[0]]
            )
            if chain[0] in unit.imports
            else self._own_is_harmless(module, how, unit, chain, seen)
            for unit in units
        )

    def _imported_is_harmless(
        self,
        module: Module,
        how: str,
        ref: str,
        chain: list[str],
        seen: set[tuple[str, str]],
    ) -> bool:
        name, rest = module.absolute(ref)
        rest = [*rest, *chain[1:]]
        inner = self._project.module(name)
        while inner is not None and rest and rest[0] not in inner.bindings:
            name = f"{name}.{rest.pop(0)}"
            inner = self._project.module(name)
        if inner is None:
            return is_harmless(how, name, rest)
        return bool(rest) and self._judge(inner, how, rest, seen)

    def _own_is_harmless(
        self,
        module: Module,
        how: str,
        unit: Unit,
        chain: list[str],
        seen: set[tuple[str, str]],
    ) -> bool:
        if how == "method":
            return unit.kind != "class" or len(chain) == 1
        if len(chain) > 1:
            return False
        if how == "decorator":
            return unit.decorator >= 1
        if how == "factory":
            return unit.decorator >= 2
        return (
            how == "base"
            and unit.kind == "class"
            and not (unit.subclassed or unit.effect)
            and all(
                self._judge(module, inner, name.split("."), set(seen))
                for inner, name in unit.doubts
            )
        )

    # the result

    def closure(self) -> Closure:
        counted = list(self._counted.values())
        docs = any(unit.reads_docs for _, unit in counted)
        definitions = {key: digest(*sorted(it)) for key, it in self._imports.items()}
        texts: dict[str, list[str]] = {}
        for module in self._loaded.values():
            ordered = []
            for unit in module.units:
                if id(unit) not in self._counted:
                    continue
                text = unit.digest + (unit.docs if docs else "")
                for name in unit.names:
                    texts.setdefault(f"{module.title}:{name}", []).append(text)
                if not unit.names or module.in_order(unit):
                    ordered.append(text)
            if docs and module.docs:
                ordered.append(module.docs)
            if ordered:
                texts[module.title] = ordered
        for key, found in texts.items():
            before = [definitions[key]] if key in definitions else []
            only = found[0] if len(found) == 1 and not before else ""
            definitions[key] = only or digest(*before, *found)
        files = frozenset(
            os.path.realpath(module.path)
            for module in self._loaded.values()
            if not os.path.isdir(module.path)
        )
        return Closure(
            dict(sorted(definitions.items())),
            dict(sorted(self._distributions.items())),
            files,
        )
