"""Names of stages, and nodes that are one stage."""

import pytest

pytest.importorskip("kedro", reason="needs the extra dvc-parallel[kedro]")

REGISTRY = "src/shop/pipeline_registry.py"

NAMESPACES = """\
from kedro.pipeline import Pipeline, node, pipeline

from .nodes import clean, double, total


def register_pipelines():
    price = Pipeline([
        node(clean, ["raw", "more"], "cleaned", name="clean"),
        node(double, ["cleaned", "params:factor"], "doubled", name="double.it"),
        node(total, "doubled", "total"),
    ])
    spaces = [
        pipeline(price, inputs={"raw", "more"}, namespace=name, parameters={"factor"})
        for name in ("a", "b.c")
    ]
    return {"__default__": sum(spaces, Pipeline([]))}
"""


@pytest.fixture
def in_namespaces(make_shop):
    from tests.kedro.shop import FILES

    catalog = FILES["conf/base/catalog.yml"] + (
        '"{namespace}.cleaned": '
        '{type: shop.datasets.Json, filepath: "data/{namespace}/cleaned.json"}\n'
    )
    files = {REGISTRY: NAMESPACES, "conf/base/catalog.yml": catalog}
    return make_shop(files=files)


def test_namespaces(in_namespaces):
    shop = in_namespaces
    shop.update()
    unnamed = [name for name in shop.stages() if "total" in name]
    assert {*shop.stages()} == {
        "a-clean", "a-double-it", "b-c-clean", "b-c-double-it", *unnamed,
    }  # fmt: skip
    assert len(unnamed) == 2
    stages = shop.stages()
    assert stages["a-double-it"]["deps"][1] == "data/a/cleaned.json"
    assert stages["b-c-double-it"]["outs"] == [".kedro-dvc/memory/b.c.doubled.pkl"]
    assert len(shop.ran("-j", "4")) == 6
    # NOTE: the command takes the name of the node, too
    shop.kedro("run", "a.double.it")

    shop.update("--group-by", "namespace")
    assert [*shop.stages()] == ["a", "b"]
    assert shop.stages()["a"]["meta"]["kedro"][:2] == ["a.clean", "a.double.it"]
    assert shop.ran() == ["a", "b"]
    # NOTE: what was written for single nodes goes
    assert not shop.exists(".kedro-dvc/a-clean.json")
    assert "0 of their fingerprints changed" in shop.update().stdout

    shop.update("--group-by", "none")
    assert len(shop.stages()) == 6
    assert not shop.exists(".kedro-dvc/options.json")


def test_two_nodes_of_one_name(in_namespaces):
    shop = in_namespaces
    shop.edit(REGISTRY, '"b.c"', '"a_b"')
    shop.edit(
        REGISTRY,
        "return {",
        'spaces[0] += Pipeline([node(len, "raw", "n", name="a-clean")])\n    return {',
    )
    error = shop.fails("update")
    assert "nodes 'a-clean' and 'a.clean' would both be stage 'a-clean'" in error or (
        "nodes 'a.clean' and 'a-clean' would both be stage 'a-clean'" in error
    )


def test_groups_that_would_wait_for_each_other_are_one(shop):
    # NOTE: clean and total share memory; double is between them, by files
    shop.edit(REGISTRY, '"cleaned", name', '["cleaned", "rest"], name')
    shop.edit(REGISTRY, 'node(total, "doubled"', 'node(total, ["doubled", "rest"]')
    shop.edit(
        "src/shop/nodes.py",
        "    return [with_tax(value) for value in raw] + more",
        "    return [with_tax(value) for value in raw] + more, 1",
    )
    shop.edit("src/shop/nodes.py", "def total(doubled)", "def total(doubled, rest)")
    catalog = "conf/base/catalog.yml"
    shop.write(
        {
            catalog: shop.read(catalog)
            + "doubled: {type: shop.datasets.Json, filepath: data/doubled.json}\n"
        }
    )
    shop.update()
    assert [*shop.stages()] == ["clean", "double", "total"]
    shop.update("--group-by", "memory")
    assert [*shop.stages()] == ["clean"]
    assert shop.stages()["clean"]["meta"]["kedro"] == ["clean", "double", "total"]
    assert shop.stages()["clean"]["outs"] == [
        "data/cleaned.json", "data/doubled.json", "data/total.json",
    ]  # fmt: skip
    assert shop.ran() == ["clean"]
    assert not shop.exists(".kedro-dvc/memory")


def test_one_pipeline_of_several(shop):
    shop.update("--pipeline", "second")
    assert [*shop.stages()] == ["double", "total"]
    assert shop.fingerprint("total")["pipeline"] == "second"
    shop.update("-p", "first", "-p", "second")
    assert [*shop.stages()] == ["double", "total", "clean"]
    assert "there is no pipeline 'third'; there are:" in shop.fails(
        "update", "-p", "third"
    )


def test_stages_of_nodes_that_are_gone_go_and_others_stay(shop):
    shop.update()
    text = shop.read("dvc.yaml").replace(
        "  double:\n", "  # by hand\n  mine:\n    cmd: echo\n  double:\n    desc: two\n"
    )
    shop.write({"dvc.yaml": text})
    shop.update()
    assert shop.read("dvc.yaml") == text
    shop.edit(REGISTRY, '        node(total, "doubled", "total", name="total"),\n', "")
    shop.update()
    assert [*shop.stages()] == ["clean", "mine", "double"]
    assert not shop.exists(".kedro-dvc/total.json")
    assert text.startswith(shop.read("dvc.yaml"))

    shop.edit(REGISTRY, 'name="double"', 'name="mine"')
    assert "dvc.yaml has a stage 'mine' that is not one of Kedro's" in shop.fails(
        "update"
    )
    assert shop.exists(".kedro-dvc/double.json")


KINDS = """\
from functools import partial, wraps

from kedro.pipeline import Pipeline, node

from .prices import with_tax


def twice(function):
    @wraps(function)
    def wrapper(*args):
        return function(function(*args))
    return wrapper


def scaled(by):
    def scale(raw):
        return [value * by for value in raw]
    return scale


class Add:
    def __init__(self, what):
        self.what = what

    def __call__(self, raw):
        return [value + self.what for value in raw]


def power(raw, exponent):
    return [value ** exponent for value in raw]


def negative(raw):
    return [-value for value in raw]


def register_pipelines():
    return {"__default__": Pipeline([
        node(partial(power, exponent=2), "raw", "a", name="partial"),
        node(lambda raw: raw[::-1], "raw", "b", name="lambda"),
        node(scaled(3), "raw", "c", name="closure"),
        node(Add(4), "raw", "d", name="object"),
        node(Add(5).__call__, "raw", "e", name="method"),
        node(twice(negative), "raw", "f", name="wrapped"),
        node(sum, "raw", "g", name="builtin"),
    ])}
"""


def test_kinds_of_functions(make_shop):
    shop = make_shop(files={REGISTRY: KINDS})
    shop.update()
    names = {*shop.stages()}
    assert names == {
        "partial", "lambda", "closure", "object", "method", "wrapped", "builtin",
    }  # fmt: skip
    assert {*shop.ran()} == names

    def changed_by(old, new):
        before = {name: shop.fingerprint(name) for name in names}
        shop.edit(REGISTRY, old, new)
        shop.update()
        return {name for name in names if before[name] != shop.fingerprint(name)}

    # NOTE: of a lambda, the definition that it is in counts, with all that this uses
    assert changed_by("exponent=2", "exponent=3") >= {"partial"}
    assert changed_by("scaled(3)", "scaled(4)") >= {"closure"}
    assert changed_by("value * by", "value * by + 1") == {"closure", "lambda"}
    assert changed_by("+ self.what", "- self.what") == {"object", "method", "lambda"}
    assert changed_by("Add(4)", "Add(6)") >= {"object"}
    assert changed_by("Add(5)", "Add(7)") >= {"method"}
    assert changed_by("raw[::-1]", "raw[1:]") >= {"lambda"}
    assert changed_by("function(function(*args))", "function(*args)") == {
        "wrapped",
        "lambda",
    }
    assert changed_by("-value for", "1 - value for") == {"wrapped", "lambda"}
