"""What a piece of code says, as text that is the same for all that mean the same.

It is made of the syntax tree, so that formatting, comments and positions are not in it;
nor are docstrings, and other statements that do nothing.  It is the same in Python 3.9
to 3.14, whose trees of the same source differ:

- later Pythons have more fields (``type_params``), so that empty ones are left out;
- PEP 701 cuts the texts of an f-string in other places, so that neighbours are one.
"""

import ast
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

# Fields that say nothing, or what is said by another one.
_SILENT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_fields: dict[type, tuple[str, ...]] = {}


def digest(*texts: str) -> str:
    """A hash of some texts, which tells them apart."""
    state = blake2b(digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.hexdigest()


def says_nothing(statement: ast.AST) -> bool:
    """Whether a statement has no effect, as ``pass`` and a docstring have none."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Docstrings of a piece of code, and other texts that stand alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def canonical(tree: ast.AST) -> str:
    """The text of a piece of code.

    It does not recurse: trees can be deeper than Python's stack.
    """
    text: list[str] = []
    stack: list[Any] = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            text.append(item)
        elif isinstance(item, ast.Constant):
            text.append(_constant(item.value))
        elif isinstance(item, ast.JoinedStr):
            stack.append(")")
            stack += reversed(list(_joined(item.values)))
            stack.append("JoinedStr(")
        elif isinstance(item, ast.AST):
            stack.append(")")
            stack += reversed(list(_parts(item)))
            stack.append(type(item).__name__ + "(")
        elif item is None:
            text.append("-")
        else:
            text.append(_constant(item))
    return "".join(text)


def _parts(node: ast.AST) -> Iterator[Any]:
    kind = type(node)
    names = _fields.get(kind)
    if names is None:
        names = tuple(name for name in kind._fields if name not in _SILENT)
        _fields[kind] = names
    for name in names:
        value = getattr(node, name, None)
        if value is None:
            continue
        if isinstance(value, list):
            if value and isinstance(value[0], ast.stmt):
                value = [item for item in value if not says_nothing(item)]
            if value:
                yield f"{name}["
                yield from value
                yield "]"
        elif name == "format_spec" and not list(_joined(value.values)):
            continue
        else:
            yield f"{name}="
            yield value


def _joined(values: Iterable[ast.AST]) -> Iterator[Any]:
    """Parts of an f-string: texts, each as long as can be, and what is between them."""
    text = ""
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            text += value.value
            continue
        if text:
            yield _constant(text)
            text = ""
        yield value
    if text:
        yield _constant(text)


def _constant(value: Any) -> str:
    if isinstance(value, str):
        return f"'{len(value)}:{value}'"
    if isinstance(value, int) and not isinstance(value, bool):
        # NOTE: Python refuses to write long ones in decimal
        return f"int:{value:x};"
    return f"{type(value).__name__}:{value!r};"
