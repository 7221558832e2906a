"""Random modules: what runs counts, and what cannot be reached does not."""

import os
import sys
import tempfile
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dvc_parallel.code import Project
from dvc_parallel.code.trace import Trace

# How a function uses another one, `{m}.{f}`: what it needs at the top of its module and
# in its own body, and an expression.
STYLES = {
    "attribute": ("import {m}", "", "{m}.{f}()"),
    "alias": ("import {m} as a_{f}", "", "a_{f}.{f}()"),
    "from": ("from {m} import {f} as g_{f}", "", "g_{f}()"),
    "star": ("from {m} import *", "", "{f}()"),
    "lazy": ("", "from {m} import {f} as h_{f}", "h_{f}()"),
    "lazy module": ("", "import {m} as i_{f}", "i_{f}.{f}()"),
    "table": ("from {m} import {f}\nT_{f} = {{'a': {f}}}", "", "T_{f}['a']()"),
    "partial": (
        "import functools\nfrom {m} import {f}\nP_{f} = functools.partial({f})",
        "",
        "P_{f}()",
    ),
    "lambda": ("import {m}\nL_{f} = lambda: {m}.{f}()", "", "L_{f}()"),
    "text": ("from importlib import import_module", "", "import_module('{m}').{f}()"),
    "made up": (
        "import importlib",
        "n_{m} = '{m}'[:]",
        "importlib.import_module(n_{m}).{f}()",
    ),
    "getattr": ("import {m}", "k_{f} = '{f}'[:]", "getattr({m}, k_{f})()"),
    "decorator": (
        "import {m}\ndef D_{f}(g): return lambda: g() + {m}.{f}()\n"
        "@D_{f}\ndef d_{f}(): return 0",
        "",
        "d_{f}()",
    ),
    "base": (
        "import {m}\nclass B_{f}:\n    def go(self): return {m}.{f}()\n"
        "class C_{f}(B_{f}): pass",
        "",
        "C_{f}().go()",
    ),
    "closure": ("import {m}", "def inner():\n        return {m}.{f}()", "inner()"),
    "comprehension": ("import {m}", "", "sum([{m}.{f}() for _ in 'a'])"),
    "patched": ("import {m}\n{m}.hook_{f} = {m}.{f}", "", "{m}.hook_{f}()"),
    "global": ("", "global G\n    import {m} as G", "G.{f}()"),
}
# These make everything of a module count, or more than one can say.
UNCERTAIN = {"made up", "getattr", "global", "patched", "text"}


@st.composite
def projects(draw):
    """Texts of modules; which function uses which ones, and how."""
    modules = draw(st.integers(1, 4))
    functions = [
        (f"m{n}", f"f{n}_{k}")
        for n in range(modules)
        for k in range(draw(st.integers(1, 3)))
    ]
    uses = {}
    for place, function in enumerate(functions):
        later = functions[place + 1 :]
        chosen = draw(st.lists(st.sampled_from(later), max_size=2)) if later else []
        # NOTE: a module cannot import a name from one that imports it
        other = [it for it in chosen if it[0] != function[0]]
        uses[function] = [(it, draw(st.sampled_from(sorted(STYLES)))) for it in other]
    return functions, uses


def texts(functions, uses, values):
    modules = {}
    for module, name in functions:
        top, body, parts = [], [], [str(values[module, name])]
        for (m, f), style in uses[module, name]:
            for lines, text in zip((top, body), STYLES[style]):
                lines += [text.format(m=m, f=f)] if text else []
            parts.append(STYLES[style][2].format(m=m, f=f))
        lines = "".join(f"    {line}\n" for line in body)
        text = "\n".join(top)
        text += f"\ndef {name}():\n{lines}    return {' + '.join(parts)}\n"
        modules[module] = modules.get(module, "") + text
    return modules


def write(folder, modules):
    for module, text in modules.items():
        (Path(folder) / f"{module}.py").write_text(text)


def run(folder):
    """Run `m0.f0_0`, and say which functions that took."""
    before = set(sys.modules)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    trace = Trace([folder])
    trace.start()
    try:
        __import__("m0").f0_0()
    finally:
        trace.stop()
        sys.dont_write_bytecode = kept
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            if name[0] == "m" and name[1:].isdigit():
                del sys.modules[name]
        sys.path_importer_cache.pop(folder, None)
    ran = set()
    for path, line in trace.ran:
        lines = Path(path).read_text().splitlines()
        found = lines[line - 1] if line else ""
        if found.startswith("def f"):
            ran.add((Path(path).stem, found[4 : found.index("(")]))
    return ran, trace.ran


def reachable(uses):
    found, todo = set(), [("m0", "f0_0")]
    while todo:
        function = todo.pop()
        if function not in found:
            found.add(function)
            todo += [used for used, _ in uses[function]]
    return found


@given(projects(), st.randoms(use_true_random=False))
@settings(
    max_examples=int(os.environ.get("DVC_PARALLEL_EXAMPLES", "40")), deadline=None
)
def test_what_runs_counts_and_what_is_not_reachable_does_not(project, rand):
    functions, uses = project
    values = dict.fromkeys(functions, 1)
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.realpath(folder)
        write(folder, texts(functions, uses, values))
        before = Project([folder]).closure(["m0:f0_0"])
        try:
            ran, traced = run(folder)
        except (AttributeError, ImportError, NameError, TypeError):
            # NOTE: one use has taken the name of another one
            assume(False)
        assert ("m0", "f0_0") in ran
        assert not Project([folder]).uncovered(before, traced)
        certain = not UNCERTAIN & {style for used in uses.values() for _, style in used}
        reached = reachable(uses)
        for function in rand.sample(functions, min(3, len(functions))):
            write(folder, texts(functions, uses, {**values, function: 2}))
            changed = Project([folder]).closure(["m0:f0_0"]) != before
            if function in ran:
                assert changed, function
            elif certain and function not in reached:
                assert not changed, function


def test_the_styles_do_what_they_say(tmp_path):
    """Each of them comes to the function; else, the test above would say nothing."""
    for style in STYLES:
        functions = [("m0", "f0_0"), ("m1", "f1_0")]
        uses = {functions[0]: [(functions[1], style)], functions[1]: []}
        write(tmp_path, texts(functions, uses, dict.fromkeys(functions, 1)))
        assert run(str(tmp_path))[0] == set(functions), style


def test_what_ran_and_is_not_covered_is_named(tmp_path):
    (tmp_path / "m0.py").write_text(
        "import pickle, m1\n"
        "def f0_0():\n    return vars(m1)['hid' + 'den']()\n"
        "def other(): return 1\n"
    )
    (tmp_path / "m1.py").write_text("def hidden(): return 1\ndef more(): return 1\n")
    project = Project([str(tmp_path)])
    closure = project.closure(["m0:other"])
    _, ran = run(str(tmp_path))
    assert project.uncovered(closure, ran) == ["m0:f0_0", "m1:hidden"]
    wider = project.closure(["m0:other", *project.uncovered(closure, ran)])
    assert project.uncovered(wider, ran) == []
