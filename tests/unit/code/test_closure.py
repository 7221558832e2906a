"""Which edits change what is known of the code that something uses."""

import shutil
import textwrap

import pytest

from dvc_parallel.code import CodeError, Project

# A project in which `pkg.main:run` uses something of each kind.
FILES = {
    "pkg/__init__.py": """
        from .helpers import exported as re_exported
        """,
    "pkg/main.py": '''
        """What this is."""
        import importlib
        import os.path as path
        from functools import partial
        from math import sin as wave

        from . import config, helpers as tools
        from .base import Base, deco
        from .stars import *
        import pkg.deep.inner
        from pkg import re_exported

        LIMIT = 1
        UNUSED = 1
        first, (second, *rest) = 1, (2, 3)
        double = partial(tools.multiply, 2)
        FACTOR = config.FACTOR

        class Model(Base):
            """A class counts whole."""
            size = 3

            def fit(self):
                return LIMIT

            def never_called(self):
                return 1

        @deco
        def run(data, default=config.DEFAULT):
            # A comment.
            """A docstring."""
            model = Model()
            tools.helper(data)
            starred()
            pkg.deep.inner.work()
            re_exported()
            name = importlib.import_module("pkg.by_name").plug
            other = "pkg.dotted.target"
            closure()()
            lazily()
            if isinstance(data, str):
                raise ValueError(wave(FACTOR + second))
            return double(default)

        def closure():
            def inner():
                return deep_constant
            return inner

        def lazily():
            from .late import late
            return late()

        deep_constant = 5

        def unused():
            """Uses things that nobody else does."""
            return tools.only_unused()
        ''',
    "pkg/helpers.py": """
        def helper(data):
            multiply = data
            return multiply

        def multiply(a, b):
            return a * b

        def exported():
            return 1

        def only_unused():
            return 1
        """,
    "pkg/config.py": """
        FACTOR = 1
        DEFAULT = 2
        OTHER = 3
        """,
    "pkg/base.py": """
        from functools import wraps

        class Root:
            def method(self): return 1

        class Base(Root):
            pass

        def deco(function):
            @wraps(function)
            def inner(*args):
                return function(*args)
            return inner
        """,
    "pkg/stars.py": """
        from .more_stars import *
        def not_used(): return 1
        """,
    "pkg/more_stars.py": """
        def starred(): return 1
        """,
    "pkg/deep/__init__.py": "",
    "pkg/deep/inner.py": """
        def work(): return 1
        def idle(): return 1
        """,
    "pkg/by_name.py": """
        def plug(): return 1
        """,
    "pkg/dotted.py": """
        def target(): return 1
        def not_target(): return 1
        """,
    "pkg/late.py": """
        import pkg.effects
        def late(): return 1
        """,
    "pkg/effects.py": """
        import os
        REGISTRY = {}
        def register(function):
            REGISTRY[function.__name__] = function
            return function
        os.environ["A"] = "1"
        @register
        def registered(): return 1
        def not_registered(): return 1
        if True:
            REGISTRY.update(a=1)
        """,
    "pkg/never.py": """
        print("nobody imports it")
        """,
}


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def said(folder, entry="pkg.main:run"):
    """What a fingerprint has of some code."""
    closure = Project([str(folder)]).closure([entry])
    return closure.definitions, closure.distributions


@pytest.fixture
def project(tmp_path):
    write(tmp_path, FILES)
    return tmp_path


def edit(project, file, old, new):
    path = project / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "file, old, new",
    [
        ("pkg/main.py", "LIMIT = 1", "LIMIT = 2"),
        ("pkg/main.py", "1, (2, 3)", "1, (2, 4)"),
        ("pkg/main.py", "partial(tools.multiply, 2)", "partial(tools.multiply, 3)"),
        ("pkg/main.py", "deep_constant = 5", "deep_constant = 6"),
        ("pkg/main.py", "math import sin", "math import cos"),
        ("pkg/main.py", "size = 3", "size = 4"),
        ("pkg/main.py", "never_called(self):", "never_called(self, more):"),
        ("pkg/main.py", "@deco\n", ""),
        ("pkg/main.py", "isinstance(data, str)", "isinstance(data, int)"),
        ("pkg/main.py", "return deep_constant", "return -deep_constant"),
        ("pkg/helpers.py", "return multiply", "return multiply + 1"),
        ("pkg/helpers.py", "return a * b", "return b * a"),
        ("pkg/helpers.py", "def exported():\n    return 1", "def exported(): return 2"),
        ("pkg/__init__.py", "exported as", "helper as"),
        ("pkg/config.py", "FACTOR = 1", "FACTOR = 1.0"),
        ("pkg/config.py", "DEFAULT = 2", "DEFAULT = 3"),
        ("pkg/base.py", "def method(self): return 1", "def method(self): return 2"),
        ("pkg/base.py", "return function(*args)", "return function(*args[1:])"),
        ("pkg/more_stars.py", "return 1", "return 2"),
        ("pkg/stars.py", "def not_used", "def starred(): pass\ndef not_used"),
        ("pkg/deep/inner.py", "def work(): return 1", "def work(): return 2"),
        ("pkg/by_name.py", "return 1", "return 2"),
        ("pkg/dotted.py", "def target(): return 1", "def target(): return 2"),
        ("pkg/late.py", "return 1", "return 2"),
        ("pkg/effects.py", '"1"', '"2"'),
        ("pkg/effects.py", "def registered(): return 1", "def registered(): return 2"),
        ("pkg/effects.py", "a=1", "a=2"),
        ("pkg/deep/__init__.py", "", "print(1)"),
    ],
)
def test_what_is_used_counts(project, file, old, new):
    before = said(project)
    edit(project, file, old, new)
    assert said(project) != before


@pytest.mark.parametrize(
    "file, old, new",
    [
        ("pkg/main.py", "# A comment.", "# Another one."),
        ("pkg/main.py", '"""A docstring."""', '"""Another one,\n\n    longer."""'),
        ("pkg/main.py", '"""What this is."""\n', ""),
        ("pkg/main.py", '"""A class counts whole."""', ""),
        ("pkg/main.py", "first, (second, *rest) =", "(first, (\n  second, *rest\n)) ="),
        ("pkg/main.py", "UNUSED = 1", "UNUSED = 2"),
        ("pkg/main.py", "UNUSED = 1", "import json, numpy\nnew = lambda: numpy + json"),
        ("pkg/main.py", "tools.only_unused()", "tools.only_unused"),
        ("pkg/main.py", "def closure", "\n\n\nif 0x0:\n    pass\n\ndef closure"),
        ("pkg/helpers.py", "def only_unused():\n    return 1", ""),
        ("pkg/config.py", "OTHER = 3", "OTHER = 4"),
        ("pkg/stars.py", "def not_used(): return 1", "def not_used(): return 2"),
        ("pkg/deep/inner.py", "def idle(): return 1", "def idle(): return 2"),
        ("pkg/dotted.py", "def not_target(): return 1", "def not_target(): return 2"),
        ("pkg/effects.py", "def not_registered(): return 1", ""),
        ("pkg/never.py", "print", "input"),
    ],
)
def test_what_is_not_used_does_not(project, file, old, new):
    before = said(project)
    edit(project, file, old, new)
    assert said(project) == before


def test_order_of_definitions_does_not_count(project):
    before = said(project)
    text = "def multiply(a, b):\n    return a * b\n"
    edit(project, "pkg/helpers.py", text, "")
    edit(project, "pkg/helpers.py", "def helper", f"{text}\ndef helper")
    assert said(project) == before


def test_the_folder_of_the_checkout_does_not_count(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "deep" / "er"
    shutil.copytree(project, other)
    assert said(other) == said(project)
    one, two = (said(it, str(it / "pkg/main.py")) for it in (project, other))
    assert one == two


def test_closure_names_what_it_has(project):
    closure = Project([str(project)]).closure(["pkg.config:FACTOR"])
    assert set(closure.definitions) == {"pkg.config:FACTOR"}
    assert closure.distributions == {}
    files = {"pkg/__init__.py", "pkg/helpers.py", "pkg/config.py"}
    assert closure.files == {str(project / file) for file in files}


@pytest.mark.parametrize(
    "entry, message",
    [
        ("pkg.man:run", "pkg.man:run: there is no module 'pkg.man' in "),
        ("pkg.main:ran", "define 'ran' at its top; did you mean 'run'?"),
        ("src/x.py", "src/x.py: there is no such script"),
        ("broken", "broken.py, line 2: "),
    ],
)
def test_errors_name_the_entry(project, entry, message):
    (project / "broken.py").write_text("x = 1\ny = (\n")
    with pytest.raises(CodeError) as error:
        said(project, entry)
    assert message in str(error.value)


SCRIPT = {
    "train.py": """
        from lib import used
        def main(): return used()
        def unused(): return 1
        if __name__ == "__main__":
            main()
        """,
    "lib.py": """
        def used(): return 1
        if __name__ == "__main__":
            print(used(), 1)
        """,
}


@pytest.mark.parametrize(
    "file, old, new, changes",
    [
        ("train.py", "    main()", "    main(), 1", True),
        ("train.py", "return used()", "return used(), 1", True),
        ("train.py", "return 1", "return 2", False),
        ("lib.py", "return 1", "return 2", True),
        ("lib.py", "print(used(), 1)", "print(used(), 2)", False),
    ],
)
def test_a_script_is_run_as_main(tmp_path, file, old, new, changes):
    write(tmp_path, SCRIPT)
    entry = str(tmp_path / "train.py")
    before = said(tmp_path, entry)
    edit(tmp_path, file, old, new)
    assert (said(tmp_path, entry) != before) == changes


def closure_of(folder, text, entry="mod:run", **files):
    write(folder, {"mod.py": text, **{f"{k}.py": v for k, v in files.items()}})
    return Project([str(folder)]).closure([entry])


# In each, `run` may come to `other` or `lib.hidden`, in a way that nobody can see.
@pytest.mark.parametrize(
    "text",
    [
        "import lib\ndef run(name): return getattr(lib, name)()",
        "from lib import *\ndef run(name): return eval(name)()\ndef more(): hidden()",
        "def run(name): return globals()[name]()\nfrom lib import hidden",
        "import importlib as i\ndef run(name): return i.import_module(name).hidden()",
        "def run(name): return __import__('lib').hidden()",
        "import sys, lib\ndef run(name): return sys.modules['lib'].hidden()",
        "import lib\nTABLE = {'a': lib}\ndef run(name): return TABLE[name].hidden()",
        "import lib\nlib.hook = lib.hidden\ndef run(): pass",
        "import lib\ndef run(): return setattr(lib, 'hook', 1)",
        "import runpy\ndef run(): runpy.run_path('lib.py', run_name='__main__')",
        "import subprocess\ndef run(): subprocess.run(['python', 'lib.py'])",
        "import lib\nclass A: x = lib.hidden\ndef run(): return A.x()",
        "import lib\ndef run(a: 'lib.hidden'): pass",
        "import lib\ndef run(a=lib.hidden): pass",
        "try:\n    from nope import hidden\nexcept ImportError:\n"
        "    from lib import hidden\ndef run(): return hidden()",
        "from lib import lazy as run",
        "def run():\n    setup()\n    return L.hidden()\n"
        "def setup():\n    global L\n    import lib as L",
        "def run():\n    setup()\n    return L()\n"
        "def setup():\n    global L\n    from lib import hidden\n    L = hidden",
    ],
)
def test_what_may_be_used_counts(tmp_path, text):
    lib = (
        "def hidden(): return 1\n"
        "def lazy():\n    import lib\n    return lib.hidden()\n"
        "if __name__ == '__main__':\n    hidden()\n"
    )
    before = closure_of(tmp_path, text, lib=lib)
    after = closure_of(tmp_path, text, lib=lib.replace("1", "2"))
    assert after != before


def test_a_local_name_is_not_the_one_of_the_module(tmp_path):
    text = """
        def data(): return {}
        def key(): return {}
        def run(data):
            return [key for key in data] + [lambda key: key]
        """
    before = closure_of(tmp_path, text.format(1, 1))
    assert closure_of(tmp_path, text.format(2, 2)) == before


def test_what_only_a_type_checker_sees_does_not_count(tmp_path):
    text = """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from lib import Thing
        def run(a: "Thing"): pass
        """
    before = closure_of(tmp_path, text, lib="class Thing: x = 1")
    assert closure_of(tmp_path, text, lib="class Thing: x = 2") == before


def test_docstrings_count_where_they_are_read(tmp_path):
    text = '''
        """{}"""
        def run(parse): return parse(__doc__)
        '''
    before = closure_of(tmp_path, text.format("one"))
    assert closure_of(tmp_path, text.format("two")) != before


def test_order_of_statements_counts_where_they_change_something(tmp_path):
    text = "X = []\n{}\n{}\ndef run(): return Y\n"
    statements = "X.append(1)", "Y = list(X)"
    before = closure_of(tmp_path, text.format(*statements))
    after = closure_of(tmp_path, text.format(*reversed(statements)))
    assert after != before


def test_packages_count_by_version(tmp_path):
    site = tmp_path / "site-packages"
    info = site / "Some_Thing-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text("thing/__init__.py,,\nthing/a.py,,\n")
    write(tmp_path, {"mod.py": "import thing.a\ndef run(): return thing.a.b(1)"})

    def closure():
        return Project([str(tmp_path)], packages=[str(site)]).closure(["mod:run"])

    one = closure()
    assert one.distributions == {"some-thing": "1.2"}
    info.rename(site / "Some_Thing-1.3.dist-info")
    two = closure()
    assert two.distributions == {"some-thing": "1.3"}
    shutil.rmtree(site)
    assert closure().distributions == {"thing": "not installed"}


def test_an_installed_package_goes_before_a_folder_without_code(tmp_path):
    site = tmp_path / "site-packages"
    (site / "datasets-1.dist-info").mkdir(parents=True)
    (site / "datasets-1.dist-info/RECORD").write_text("datasets/__init__.py,,\n")
    write(
        tmp_path,
        {
            "datasets/load.py": "",
            "mod.py": "import datasets\ndef run(): datasets.load()",
        },
    )
    project = Project([str(tmp_path)], packages=[str(site)])
    closure = project.closure(["mod:run"])
    assert closure.distributions == {"datasets": "1"}
    assert closure.files == {str(tmp_path / "mod.py")}


def test_unchanged_files_are_not_parsed_again(project, tmp_path_factory, mocker):
    cache = str(tmp_path_factory.mktemp("cache"))
    parse = mocker.spy(__import__("ast"), "parse")
    first = Project([str(project)], cache).closure(["pkg.main:run"])
    assert parse.call_count == len(first.files)
    assert Project([str(project)], cache).closure(["pkg.main:run"]) == first
    assert parse.call_count == len(first.files)
    edit(project, "pkg/config.py", "FACTOR = 1", "FACTOR = 2")
    assert Project([str(project)], cache).closure(["pkg.main:run"]) != first
    assert parse.call_count == len(first.files) + 1


def test_a_damaged_cache_is_none(project, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    first = Project([str(project)], str(cache)).closure(["pkg.main:run"])
    for path, text in zip(sorted(cache.iterdir()), ["", "[]", "{}", "\0"] * 100):
        path.write_text(text)
    assert Project([str(project)], str(cache)).closure(["pkg.main:run"]) == first
