"""The canonical form: what does not change it, and that no release changes it."""

import ast

import pytest

from dvc_parallel.code.canonical import canonical
from dvc_parallel.code.summary import summarize

# All kinds of syntax that Python 3.9 has.
EVERYTHING = '''
"""Docstring."""
from __future__ import annotations
import a.b, c as d
from .e import (f, g as h)
from ..i import *

X: int = 1_000
Y: "str"
(Z): int = 0x10
BIG = 10 ** 5000 + 123456789012345678901234567890
T = u"text", b"bytes", r"\\raw", 1.50, 1e400, 2j, ..., None, True, "\\ud800"
ONE, *REST = [1, 2], (3,), {4}, {5: 6, **{}}, [*range(3)]
JOINED = "a" "b" f"{X}c" "d" f"{X!r:>{Y}}{{}}" f"" f"{X:}" f"{X=}" f'{T["k"]:%H}'


@d.e(1, *ONE, k=2, **{})
class C(a.B, metaclass=d.M):
    """Docstring."""
    __slots__ = ()

    @property
    def p(self, x, /, y: int = 1, *args, z=2, **kwargs) -> None:
        """Docstring."""
        nonlocal_ = lambda q, *r, s=1: (yield)
        global G
        del self.x, y[1:2, ::3]
        assert x, "why"
        return not x if x and y or z else -x ** ~y // (x @ z)


async def f(x):
    async with x as y, z:
        async for i in x:
            await i
        else:
            pass
    return [i async for i in x if i if not i for j in i], {k: v for k, v in x}, {*x}


def g():
    while (n := 1) < 2 <= 3 != 4 is not 5 not in 6:
        try:
            raise X from Y
        except (A, B) as e:
            continue
        except:
            break
        else:
            yield from x
        finally:
            x += 1
    def inner():
        nonlocal n
        n -= 1
    x[a] = y.z = w = (i for i in x)
    if a: pass
    elif b: ...
    else: c; d
    with a as (b, c): "text"
'''
# NOTE: with another form, each stage of each user would run again after an update
DIGESTS = """\
b22a7373 5071daff dad99461 6cecba97 ec0816c7
e497ac84 aaf83b10 1de27a4b 2ce7e68b ff3947f1"""


def test_the_form_is_what_it_was():
    units = summarize(EVERYTHING.encode("utf-8", "surrogatepass"), "x.py").units
    found = [unit.digest[:8] for unit in units if unit.digest]
    assert found == DIGESTS.split()


@pytest.mark.parametrize(
    "one, other",
    [
        ("def f(): pass", "def f():\n    # Why.\n    '''Docstring.'''\n    pass\n"),
        ("def f(): x = 1", "def f():\n    x = (1)  # Comment.\n    ...\n    'text'"),
        ("x = 'a' 'b'", 'x = "ab"'),
        ("x = 1000, 16", "x = (1_000, 0x10,)"),
        ("x = f'a{y}b' 'c'", "x = f'a{y}' f'b' f'c'"),
        ("x = f'{y:}'", "x = f'{y}'"),
        ("x = u'a'", "x = 'a'"),
        ("if a:\n  b\nelif c: d", "if a:\n b\nelse:\n if c: d"),
        ("x = 1\r\ny = '''a\r\nb'''", "x = 1\ny = '''a\nb'''"),
        ("x = y # type: int", "x = y"),
        ("\ufeffx = 1", "x = 1"),
    ],
)
def test_what_means_the_same_is_the_same(one, other):
    assert form(one) == form(other)


@pytest.mark.parametrize(
    "one, other",
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 'a'", "x = b'a'"),
        ("x = 'None'", "x = None"),
        ("x = 'a', 'b'", "x = 'a' 'b'"),
        ("x = 0.0", "x = -0.0"),
        ("x = a, b", "x = [a, b]"),
        ("x = a.b", "x = a.c"),
        ("f(a)", "f(*a)"),
        ("f(a=1)", "f({'a': 1})"),
        ("f(**a)", "f(*a)"),
        ("{**a}", "{None: a}"),
        ("def f(a, b): pass", "def f(a, *, b): pass"),
        ("def f(a, b): pass", "def f(a, /, b): pass"),
        ("def f(a, b=1): pass", "def f(a, *, b=1): pass"),
        ("def f(*, a=1, b): pass", "def f(*, a, b=1): pass"),
        ("x = f'{y!r}'", "x = f'{y!s}'"),
        ("x = f'{y}'", "x = '{y}'"),
        ("x = f'{y:a}'", "x = f'{y:b}'"),
        ("x: int", "(x): int"),
        ("import a", "import a as a"),
        ("from . import a", "from .. import a"),
        ("async def f(): pass", "def f(): pass"),
        ("x[1:2]", "x[1, 2]"),
        ("x[1:]", "x[:1]"),
        ("[i for i in x if i]", "[i for i in x]"),
        ("return_ = lambda: None", "return_ = lambda: 0"),
        ("for i in x: f()\nelse: g()", "for i in x: f()\ng()"),
        ("x = 10 ** 5000", "x = 10 ** 5001"),
        ("x = '1:a', ''", "x = '', '1:a'"),
    ],
)
def test_what_means_something_else_is_something_else(one, other):
    assert form(one) != form(other)


def test_depth_does_not_matter():
    text = "x = " + " + ".join(["a"] * 900)
    assert form(text) != form(text + " + a")
    assert summarize(text.encode(), "x.py").units[0].uses == ["a"]


def form(text):
    return canonical(ast.parse(text.encode("utf-8", "surrogatepass")))
