"""What there is to know about a Python file: its statements, and what each refers to.

A :class:`Unit` is a statement at the top of a file.  What it refers to is in *refs*:

    ``a.b.c``       the name ``a`` of the file, and attributes of what it stands for
    ``pkg.mod:b.c`` attributes of a module that was imported; dots in front, as in an
                    import, if it is relative

A summary depends on nothing but the text of its file, so that it can be kept.
"""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Optional, Union

from .canonical import canonical, digest, docstrings, says_nothing
from .harmless import METHODS

# Changes whenever summaries of the same file do.
FORMAT = 2

# With these, a function can get at any name of its module, or bind it.
_NAMESPACE = frozenset({"eval", "exec", "globals", "vars", "locals", "__dict__"})
_IMPORTING = frozenset({"import_module", "__import__", "run_module", "find_spec"})
_DOCS = frozenset({"__doc__", "getdoc", "getsource"})
# Texts that may be the path of a module, of a thing in it, or of a script.
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*(?:[.:][^\W\d]\w*)")
_SCRIPT = re.compile(r"[\w./-]+\.py")


_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NEW_SCOPES = (*_Function, ast.ClassDef, ast.Lambda, *_COMPREHENSIONS)
# Nodes that give a name to something; Python before 3.10 lacks most of them.
_NAMING = frozenset({"ExceptHandler", "MatchAs", "MatchStar", "MatchMapping"})


@dataclass
class Unit:
    """A statement at the top of a file.

    Attributes:
        kind: "def", "class", "import" (one that stands by itself), "value" (it gives
            names their values) or "statement".
        names: what it binds.
        digest: of its canonical form.
        docs: digest of its docstrings; empty if it has none.
        uses: refs, wherever in it.
        eager: names of the file that it reads when the file is imported.
        imports: the refs of names that it imports.
        loads: refs that are imported with the file.
        loads_later: those that its functions import.
        stars: modules of which it imports everything.
        texts: those that may be paths of modules.
        patterns: how modules begin that it imports by names which it makes up.
        open_: whether it can get at every name of its file.
        reads_docs: whether it may read docstrings.
        main: whether it is run in a script, and not in a module.
        effect: whether it does something when the file is imported, besides giving a
            value to its names.
        doubts: it does so only if one of these has an effect: pairs of how it is used
            ("call", "method", "decorator", "factory" of one, or "base"), and its names.
        decorator: how many calls of it have no effect, if they only make functions.
        subclassed: whether a class does something when it gets a subclass.
        lines: the first and the last one; not a part of what counts.
    """

    kind: str
    names: list[str]
    digest: str = ""
    docs: str = ""
    uses: list[str] = field(default_factory=list)
    eager: list[str] = field(default_factory=list)
    imports: dict[str, list[str]] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    loads_later: list[str] = field(default_factory=list)
    stars: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    open_: bool = False
    reads_docs: bool = False
    main: bool = False
    effect: bool = False
    doubts: list[list[str]] = field(default_factory=list)
    decorator: int = 0
    subclassed: bool = False
    lines: list[int] = field(default_factory=list)

    def has_line(self, line: int) -> bool:
        return bool(self.lines) and self.lines[0] <= line <= self.lines[1]


@dataclass
class Summary:
    """The statements of a file, and its own docstring's digest."""

    units: list[Unit]
    docs: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; what is as usual is left out."""
        units = [
            {name: value for name, value in asdict(unit).items() if value}
            for unit in self.units
        ]
        return {"units": units, "docs": self.docs}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Summary":
        units = [Unit(**{"names": [], **unit}) for unit in data["units"]]
        return cls(units, data["docs"])


def summarize(source: bytes, path: str) -> Summary:
    """The summary of a file.

    Raises:
        SyntaxError, ValueError: it is no Python.
    """
    with warnings.catch_warnings():
        # NOTE: those of invalid escapes are the author's
        warnings.simplefilter("ignore")
        tree = ast.parse(source, path)
    units: list[Unit] = []
    for statement in _statements(tree.body):
        units += _units(statement)
    first = tree.body[0] if tree.body else None
    docs = "".join(docstrings(first)) if first and says_nothing(first) else ""
    return Summary(units, digest(docs) if docs else "")


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that are run: not what only a type checker sees."""
    for statement in body:
        if isinstance(statement, ast.If) and _ends_with(
            statement.test, "TYPE_CHECKING"
        ):
            yield from _statements(statement.orelse)
        elif not says_nothing(statement):
            yield statement


def _ends_with(node: ast.AST, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (
        isinstance(node, ast.Attribute) and node.attr == name
    )


def _units(statement: ast.stmt) -> Iterator[Unit]:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        # NOTE: each name by itself, as each is used, or not, by itself
        for name, ref, loads in _imported(statement):
            if name == "*":
                yield Unit("import", [], loads=loads, stars=[ref])
            else:
                yield Unit("import", [name], imports={name: [ref]}, loads=loads)
        return
    yield _unit(statement)


def _unit(statement: ast.stmt) -> Unit:
    bound = _Bound([statement])
    unit = Unit("statement", sorted(bound.names | set(bound.imports)))
    if isinstance(statement, _Function):
        unit.kind, unit.decorator = "def", _decorator(statement)
    elif isinstance(statement, ast.ClassDef):
        unit.kind = "class"
        unit.subclassed = any(
            isinstance(item, _Function) and item.name == "__init_subclass__"
            for item in statement.body
        ) or any(word.arg != "metaclass" for word in statement.keywords)
    elif (
        isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Delete))
        or type(statement).__name__ == "TypeAlias"
    ):
        unit.kind = "value"
    decorators = getattr(statement, "decorator_list", ())
    first = min([statement.lineno, *(node.lineno for node in decorators)])
    unit.lines = [first, statement.end_lineno or first]
    unit.main = _is_main(statement)
    unit.digest = digest(canonical(statement))
    if docs := list(docstrings(statement)):
        unit.docs = digest(*docs)
    _Refs(unit, bound).run(statement)
    effects = _Effects()
    effects.visit(statement)
    unit.effect, unit.doubts = effects.certain, effects.doubts
    return unit


def _is_main(statement: ast.stmt) -> bool:
    """Whether it is ``if __name__ == "__main__":``, with nothing else to it."""
    return (
        isinstance(statement, ast.If)
        and not statement.orelse
        and isinstance(statement.test, ast.Compare)
        and len(statement.test.ops) == 1
        and isinstance(statement.test.ops[0], ast.Eq)
        and {
            getattr(side, "id", None) or getattr(side, "value", None)
            for side in (statement.test.left, *statement.test.comparators)
        }
        == {"__name__", "__main__"}
    )


def _imported(
    node: Union[ast.Import, ast.ImportFrom],
) -> Iterator[tuple[str, str, list[str]]]:
    """The names that an import binds, with their refs, and the refs that it loads."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            ref = f"{module}:" if alias.name == "*" else f"{module}:{alias.name}"
            yield alias.asname or alias.name, ref, [ref]
        else:
            top = alias.name.partition(".")[0]
            bound = alias.name if alias.asname else top
            yield alias.asname or top, f"{bound}:", [f"{alias.name}:"]


class _Bound:
    """Names that some statements bind in their own scope.

    Attributes:
        names: those of values and definitions.
        imports: the refs of those that are imported.
        globals: those of them that are the file's.
    """

    def __init__(self, body: Iterable[ast.AST]):
        self.names: set[str] = set()
        self.imports: dict[str, list[str]] = {}
        self.globals: set[str] = set()
        self._outer: set[str] = set()
        self._stack = list(body)
        while self._stack:
            node = self._stack.pop()
            self._stack += self._look(node)
        self.imports.pop("*", None)
        bound = self.names | set(self.imports)
        # NOTE: those that it binds
        self.globals &= bound
        self.names -= self._outer | self.globals | set(self.imports)

    def _look(self, node: ast.AST) -> Iterable[Any]:
        """Take names from a node, and say which others are in the same scope."""
        if isinstance(node, _NEW_SCOPES):
            return self._scope(node)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, ref, _ in _imported(node):
                self.imports.setdefault(name, []).append(ref)
        elif isinstance(node, ast.Global):
            self.globals.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            self._outer.update(node.names)
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                self.names.add(node.id)
        elif type(node).__name__ in _NAMING:
            named = getattr(node, "name", None) or getattr(node, "rest", None)
            self.names.update([named] if named else [])
        elif isinstance(node, ast.If) and _ends_with(node.test, "TYPE_CHECKING"):
            return node.orelse
        return ast.iter_child_nodes(node)

    def _scope(self, node: Any) -> Iterable[Any]:
        """A definition, whose body is another scope; the rest is in this one."""
        if isinstance(node, _COMPREHENSIONS):
            # NOTE: only what a walrus binds leaves it
            inner = ast.walk(node)
            return [item.target for item in inner if isinstance(item, ast.NamedExpr)]
        if not isinstance(node, ast.Lambda):
            self.names.add(node.name)
            self._stack += node.decorator_list
        if isinstance(node, ast.ClassDef):
            return [*node.bases, *node.keywords]
        return _defaults(node)


def _defaults(node: Any) -> list[ast.expr]:
    """What a function takes for arguments that it does not get."""
    return [*node.args.defaults, *filter(None, node.args.kw_defaults)]


class _Refs:
    """Collects what a statement at the top of a file refers to."""

    def __init__(self, unit: Unit, bound: _Bound):
        self.unit = unit
        self.bound = bound
        self.scopes: list[tuple[str, _Bound]] = []
        # Names of the file that its functions bind, with refs of those they import.
        self.globals: dict[str, list[str]] = {}
        self.uses: set[str] = set()
        self.eager: set[str] = set()
        self.texts: set[str] = set()
        self.patterns: set[str] = set()
        self.loads: list[str] = []
        self.loads_later: list[str] = []

    def run(self, statement: ast.stmt) -> None:
        unit = self.unit
        try:
            self.visit(statement)
        except RecursionError:
            # NOTE: all names that there are, in whatever scope
            for node in ast.walk(statement):
                if isinstance(node, ast.Name):
                    self.uses.add(node.id)
            unit.open_ = True
        unit.uses, unit.eager = sorted(self.uses), sorted(self.eager)
        unit.texts, unit.patterns = sorted(self.texts), sorted(self.patterns)
        unit.loads = list(dict.fromkeys(self.loads))
        unit.loads_later = list(dict.fromkeys(self.loads_later))
        unit.names = sorted({*unit.names, *self.globals})
        unit.imports = {**self.globals, **self.bound.imports}
        unit.imports = {name: refs for name, refs in unit.imports.items() if refs}

    def visit(self, node: Any) -> None:
        for item in node if isinstance(node, list) else [node]:
            if isinstance(item, ast.AST):
                method = f"visit_{type(item).__name__}"
                getattr(self, method, self.children)(item)

    def children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self.visit(child)

    # names

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.refer(node.id, [])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            self.word(base.attr)
            chain.append(base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            self.refer(base.id, chain[::-1])
        else:
            self.visit(base)

    def refer(self, name: str, chain: list[str]) -> None:
        """Note that a name is used, in the scope that is being visited."""
        self.word(name)
        lazy = any(kind == "function" for kind, _ in self.scopes)
        inner = True
        for kind, scope in reversed(self.scopes):
            if kind == "class" and not inner:
                continue
            if kind != "comprehension":
                inner = False
            if name in scope.imports:
                self.uses.update(_attribute(r, chain) for r in scope.imports[name])
            if name in scope.globals:
                break
            # NOTE: in the body of a class, it may be read before it is bound there
            if kind != "class" and (name in scope.names or name in scope.imports):
                return
        refs = self.bound.imports.get(name, ())
        self.uses.update(_attribute(ref, chain) for ref in refs)
        self.uses.add(".".join([name, *chain]))
        if not lazy:
            self.eager.add(name)

    def word(self, name: str) -> None:
        if name in _NAMESPACE:
            self.unit.open_ = True
        elif name in _DOCS:
            self.unit.reads_docs = True

    def visit_BinOp(self, node: ast.BinOp) -> None:
        # NOTE: long sums are deep trees, to the left
        left: ast.expr = node
        while isinstance(left, ast.BinOp):
            self.visit(left.right)
            left = left.left
        self.visit(left)

    # scopes

    def visit_FunctionDef(self, node: Any) -> None:
        self.visit(node.decorator_list)
        self.visit(node.args.defaults)
        self.visit(node.args.kw_defaults)
        with self.params(node):
            for argument in _arguments(node.args):
                self.annotation(argument.annotation)
            self.annotation(node.returns)
            self.function(node, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args.defaults)
        self.visit(node.args.kw_defaults)
        self.function(node, [node.body])

    def function(self, node: Any, body: list[Any]) -> None:
        bound = _Bound(body)
        bound.names.update(argument.arg for argument in _arguments(node.args))
        self.inside("function", bound, body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.visit(node.decorator_list)
        with self.params(node):
            self.visit(node.bases)
            self.visit(node.keywords)
            self.inside("class", _Bound(node.body), node.body)

    def visit_TypeAlias(self, node: Any) -> None:
        with self.params(node):
            self.visit(node.value)

    @contextmanager
    def params(self, node: Any) -> Iterator[None]:
        """Be in a scope with the type parameters of a definition."""
        bound = _Bound([])
        params = getattr(node, "type_params", ())
        bound.names.update(param.name for param in params)
        self.scopes.append(("comprehension", bound))
        for param in params:
            self.visit(getattr(param, "bound", None))
            self.visit(getattr(param, "default_value", None))
        yield
        self.scopes.pop()

    def visit_ListComp(self, node: Any) -> None:
        self.visit(node.generators[0].iter)
        bound = _Bound([generator.target for generator in node.generators])
        body: list[ast.AST] = []
        for place, generator in enumerate(node.generators):
            body += [generator.target, *generator.ifs]
            body += [generator.iter] if place else []
        body += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self.inside("comprehension", bound, body)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def inside(self, kind: str, bound: _Bound, body: Any) -> None:
        for name in bound.globals:
            refs = self.globals.setdefault(name, [])
            refs += bound.imports.get(name, ())
        self.scopes.append((kind, bound))
        self.visit(body)
        self.scopes.pop()

    # imports

    def visit_Import(self, node: Union[ast.Import, ast.ImportFrom]) -> None:
        lazy = any(kind == "function" for kind, _ in self.scopes)
        loads = self.loads_later if lazy else self.loads
        for name, ref, loaded in _imported(node):
            loads += loaded
            if name == "*":
                self.unit.stars.append(ref)

    visit_ImportFrom = visit_Import

    def visit_If(self, node: ast.If) -> None:
        if _ends_with(node.test, "TYPE_CHECKING"):
            self.visit(node.orelse)
        else:
            self.children(node)

    def visit_Call(self, node: ast.Call) -> None:
        if any(_ends_with(node.func, name) for name in _IMPORTING):
            first = node.args[0] if node.args else None
            first = first or next((k.value for k in node.keywords), None)
            self.importing(first)
        self.children(node)

    def importing(self, name: Optional[ast.AST]) -> None:
        """Note that a module is imported by a name that is a value."""
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            self.texts.add(name.value)
            return
        start = name
        while isinstance(start, ast.BinOp):
            start = start.left
        if isinstance(start, ast.JoinedStr) and start.values:
            start = start.values[0]  # type: ignore[assignment]
        known = isinstance(start, ast.Constant) and isinstance(start.value, str)
        self.patterns.add(start.value if known else "")  # type: ignore[union-attr]

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if dotted(node.value) == "sys.modules":
            self.importing(node.slice)
        self.children(node)

    # texts

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and len(node.value) < 200:
            text = node.value
            if _DOTTED.fullmatch(text) or _SCRIPT.fullmatch(text):
                self.texts.add(text)
            self.word(text)

    def annotation(self, node: Optional[ast.expr]) -> None:
        """An annotation, of which texts are code."""
        if node is None:
            return
        self.visit(node)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                try:
                    self.visit(ast.parse(inner.value, mode="eval").body)
                except (SyntaxError, ValueError):
                    continue

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        self.annotation(node.annotation)
        self.visit(node.value)


def _arguments(args: ast.arguments) -> list[ast.arg]:
    others = [arg for arg in (args.vararg, args.kwarg) if arg]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *others]


def _attribute(ref: str, chain: list[str]) -> str:
    if not chain:
        return ref
    rest = ".".join(chain)
    return ref + rest if ref.endswith(":") else f"{ref}.{rest}"


def dotted(node: ast.AST) -> str:
    """The names and dots that an expression consists of; empty if there is more."""
    chain = []
    while isinstance(node, ast.Attribute):
        chain.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(chain)])


# Arguments that functions are given to call them.
_CALLED = ("key", "default", "object_hook")
_WITHOUT_EFFECT = (ast.Import, ast.ImportFrom, ast.Global, ast.Break, ast.Continue)


class _Effects(ast.NodeVisitor):
    """Finds out whether a statement does more, when its file is imported, than to
    give values to names.  When in doubt, it does."""

    def __init__(self) -> None:
        self.certain = False
        self.doubts: list[list[str]] = []

    def doubt(self, how: str, node: ast.AST) -> None:
        if name := dotted(node):
            self.doubts.append([how, name])
        else:
            self.certain = True

    def generic_visit(self, node: ast.AST) -> None:
        if not (says_nothing(node) or isinstance(node, _WITHOUT_EFFECT)):
            self.certain = True

    def visit_FunctionDef(self, node: Any) -> None:
        self.decorators(node)
        self.expressions(*_defaults(node))

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.decorators(node)
        for base in [*node.bases, *(keyword.value for keyword in node.keywords)]:
            self.doubt("base", base.value if isinstance(base, ast.Subscript) else base)
        self.body(node.body)

    def visit_Assign(self, node: Any) -> None:
        targets = getattr(node, "targets", None) or [node.target]
        self.targets(*targets)
        self.expressions(*filter(None, [getattr(node, "value", None)]))

    visit_AnnAssign = visit_AugAssign = visit_Delete = visit_Assign

    def visit_TypeAlias(self, node: Any) -> None:
        """Its value is made when somebody asks for it."""

    def visit_If(self, node: Any) -> None:
        self.expressions(node.test)
        self.body(node.body, node.orelse)

    visit_While = visit_If

    def visit_For(self, node: ast.For) -> None:
        self.targets(node.target)
        self.expressions(node.iter)
        self.body(node.body, node.orelse)

    def visit_Try(self, node: Any) -> None:
        self.body(node.body, *(handler.body for handler in node.handlers))
        self.body(node.orelse, node.finalbody)

    visit_TryStar = visit_Try

    def body(self, *bodies: Iterable[ast.stmt]) -> None:
        for body in bodies:
            for item in _statements(body):
                self.visit(item)

    def targets(self, *targets: ast.AST) -> None:
        """An attribute or an item of something is changed, which others may see."""
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, (ast.Attribute, ast.Subscript)):
                    self.certain = True

    def decorators(self, definition: Any) -> None:
        for node in definition.decorator_list:
            if isinstance(node, ast.Call):
                self.doubt("factory", node.func)
                self.expressions(*node.args, *(word.value for word in node.keywords))
            else:
                self.doubt("decorator", node)

    def expressions(self, *nodes: Any) -> None:
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if isinstance(node, ast.Lambda):
                stack += _defaults(node)
                continue
            if isinstance(node, ast.Call):
                method = node.func
                if isinstance(method, ast.Attribute) and (method.attr in METHODS):
                    # NOTE: a module may have a function of that name
                    if name := dotted(method):
                        self.doubts.append(["method", name])
                    stack.append(method.value)
                else:
                    self.doubt("call", method)
                # NOTE: it is called, whatever it is
                self.certain |= any(word.arg in _CALLED for word in node.keywords)
                stack += [*node.args, *(word.value for word in node.keywords)]
                continue
            if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom)):
                self.certain = True
            stack += ast.iter_child_nodes(node)


def _decorator(node: Union[ast.FunctionDef, ast.AsyncFunctionDef]) -> int:
    """How many calls of a function, each of what the last gave, only make functions.

    A decorator has one; one with arguments has two.
    """
    made: dict[str, int] = {}
    for item in node.body:
        if isinstance(item, _Function):
            if not all(
                isinstance(wrapper, ast.Call) and _ends_with(wrapper.func, "wraps")
                for wrapper in item.decorator_list
            ):
                return 0
            made[item.name] = _decorator(item)
        elif isinstance(item, ast.Return):
            if isinstance(item.value, ast.Lambda):
                return 1
            if isinstance(item.value, ast.Name):
                # NOTE: what it returns, if not made here, is what it got
                return 1 + made.get(item.value.id, 0)
            return 0
        elif not says_nothing(item):
            return 0
    return 0
