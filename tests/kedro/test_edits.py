"""What runs again after an edit: what the edit can change, and what depends on it."""

import re
import sys
from importlib.metadata import version

import pytest

from tests.kedro.shop import STAGES
from tests.support.processes import dvc_alone

pytest.importorskip("kedro", reason="needs the extra dvc-parallel[kedro]")

NODES = "src/shop/nodes.py"


@pytest.fixture(scope="module")
def ran_before(tmp_path_factory):
    """A project that has run, to be copied."""
    import shutil

    from tests.kedro.shop import Shop

    made = []

    def copy(path):
        if not made:
            shop = Shop(tmp_path_factory.mktemp("before") / "shop", {})
            shop.update()
            shop.dvc("repro", "-q")
            shop.commit()
            made.append(shop)
        shutil.rmtree(path)
        shutil.copytree(made[0].path, path)

    return copy


@pytest.fixture
def done(shop, ran_before):
    ran_before(shop.path)
    return shop


@pytest.mark.parametrize(
    "name, old, new",
    [
        (NODES, "# a comment", "# another comment, and more of it"),
        (NODES, "def clean(raw, more):", "def clean(\n    raw,\n    more\n):"),
        (NODES, "def total(", "def unused():\n    return 1\n\n\ndef total("),
        ("src/shop/prices.py", "TAX = 1.5", '"""Prices."""\n\nTAX = 1.5\nOTHER = 3'),
        ("src/shop/base.py", "class Rule:", "class Other:\n    a = 1\n\n\nclass Rule:"),
        ("conf/base/parameters.yml", "unused: 1", "unused: 2"),
        ("conf/base/catalog.yml", "raw: {", "other: {type: a.B}\n# ...\nraw: {"),
    ],
)
def test_nothing_runs(done, name, old, new):
    done.edit(name, old, new)
    result = done.update()
    assert "0 of their fingerprints changed" in result.stdout
    assert done.ran() == []


CATALOG, PARAMETERS = "conf/base/catalog.yml", "conf/base/parameters.yml"
EDITS = {
    "node": (NODES, "for value in raw]", "for value in raw[1:]]", STAGES),
    "second node": (NODES, "value * factor", "value * factor + 1", STAGES[1:]),
    "helper": ("src/shop/prices.py", "* TAX", "* TAX + 1", STAGES),
    "constant": ("src/shop/prices.py", "1.5", "2.5", STAGES),
    "base class": ("src/shop/base.py", "1000", "1", STAGES[1:]),
    "decorator": (NODES, "function(*args)", "function(*args)[1:]", STAGES[1:]),
    "string import": (
        "src/shop/plugins/addition.py",
        "sum(values)",
        "-sum(values)",
        ["total"],
    ),
    "data": ("data/raw.json", "[1, ", "[5, ", STAGES),
    "load_args": (CATALOG, "raw.json", "raw.json, load_args: {first: 2}", STAGES),
    "save_args": (
        CATALOG,
        "cleaned.json",
        "cleaned.json, save_args: {indent: 1}",
        # NOTE: which makes the same of it
        ["clean", "double"],
    ),
    "swapped inputs": (
        "src/shop/pipeline_registry.py",
        '["raw", "more"]',
        '["more", "raw"]',
        STAGES,
    ),
    "parameter": (PARAMETERS, "factor: 2", "factor: 3", STAGES[1:]),
    "class of a dataset": (
        "src/shop/datasets.py",
        "json.dumps(data, ",
        "json.dumps(data + [0], ",
        STAGES,
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_it_and_what_depends_on_it_run(done, edit):
    name, old, new, stages = EDITS[edit]
    done.edit(name, old, new)
    done.update()
    assert done.ran() == stages
    assert "up to date" in done.dvc("status").stdout


def test_edits_of_code_need_no_update(done):
    for edit in ("second node", "helper"):
        name, old, new, stages = EDITS[edit]
        done.edit(name, old, new)
        assert "modified:           .kedro-dvc/" in done.dvc("status").stdout
        # NOTE: which is an ordinary file for others
        assert "modified:           .kedro-dvc/" in dvc_alone(done, "status").stdout
        assert done.ran("-j", "2") == stages
        assert "0 of their fingerprints changed" in done.update().stdout
    done.edit(NODES, "# a comment", "# another one")
    assert done.ran() == []

    done.edit("src/shop/prices.py", "1.5", "9")
    plan = [sys.executable, "-m", "dvc_parallel", "plan"]
    assert "clean" in done.run(plan).stdout
    done.edit(NODES, "def total(", "def summed(")
    failed = done.dvc("repro", check=False)
    assert "stage 'total': shop.nodes:total: " in failed.stderr
    assert "run `kedro dvc update`" in " ".join(failed.stderr.split())


NAMED = """\
from kedro.pipeline import Pipeline, node

from .nodes import clean


def register_pipelines():
    return {"__default__": Pipeline([
        node(clean, ["raw", "params:model"], "cleaned", name="clean"),
    ])}
"""


def test_code_that_parameters_and_entries_name(shop):
    shop.write({"src/shop/pipeline_registry.py": NAMED})
    shop.edit(
        PARAMETERS, "factor: 2", "model: {class: shop.base.Rule, a: shop, b: a.b}"
    )
    inner = "{type: shop.datasets.Json, filepath: data/cleaned.json}"
    shop.edit(CATALOG, inner, f"{{type: CachedDataset, dataset: {inner}}}")
    shop.edit(
        CATALOG,
        "data/raw.json",
        "data/raw.json, load_args: {by: shop.plugins.addition:add}",
    )
    shop.update()
    code = shop.fingerprint("clean")["code"]
    assert {"shop.base:Rule", "shop.datasets:Json", "shop.plugins.addition:add"} <= {
        *code
    }
    shop.edit("src/shop/base.py", "1000", "1")
    assert "1 of their fingerprints changed" in shop.update().stdout


def test_a_function_of_a_package_counts_by_its_version(shop):
    shop.write(
        {
            "src/shop/pipeline_registry.py": NAMED.replace(
                "from .nodes import clean", "from click import unstyle as clean"
            ).replace(', "params:model"', "")
        }
    )
    shop.update()
    assert shop.fingerprint("clean")["values"] == {"click": version("click")}


def test_a_trace_covers_code_that_no_name_shows(done, monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_KEDRO_TRACE", "1")
    done.write({"src/shop/hidden.py": "def one():\n    return 1\n"})
    done.edit(
        NODES,
        "return [plugin.add(doubled)]",
        "import runpy\n"
        "    extra = runpy.run_path('%s/hidden.%s' % ('src/shop', 'py'))\n"
        "    return [plugin.add(doubled) + extra['one']()]",
    )
    traced = done.dvc("repro")
    assert re.findall("WARNING: .*", traced.stderr) == [
        "WARNING: stage 'total' ran code that its fingerprint does not cover: "
        "shop.hidden; the next `kedro dvc update` covers it"
    ]
    # NOTE: what a stage depends on does not change while it runs
    assert done.ran() == []

    done.update()
    assert done.fingerprint("total")["also"] == ["shop.hidden"]
    assert "WARNING" not in done.dvc("repro").stderr
    done.edit("src/shop/hidden.py", "return 1", "return 2")
    assert done.ran() == ["total"]
    assert "0 of their fingerprints changed" in done.update().stdout

    (done.path / "src/shop/hidden.py").unlink()
    assert "shop.hidden" in done.dvc("status", check=False).stderr
    done.edit(NODES, " + extra['one']()", "")
    done.update()
    assert "also" not in done.fingerprint("total")


def test_a_trace_that_cannot_be_checked_costs_no_result(done, monkeypatch):
    monkeypatch.setenv("DVC_PARALLEL_KEDRO_TRACE", "1")
    done.write({"src/shop/hidden.py": "def one():\n    return 1\n"})
    done.edit(
        NODES,
        "return [plugin.add(doubled)]",
        "import pathlib, runpy\n"
        "    path = '%s/hidden.%s' % ('src/shop', 'py')\n"
        "    extra = runpy.run_path(path)['one']()\n"
        "    pathlib.Path(path).write_text('def (')\n"
        "    return [plugin.add(doubled) + extra]",
    )
    told = done.dvc("repro").stderr
    assert "WARNING: stage 'total': its code is not checked: " in told
    assert done.exists("data/total.json")


def test_the_code_of_nodes_is_watched(done):
    from dvc_parallel.commands.watched_files import WatchedFiles

    watched = WatchedFiles(str(done.path))
    watched.load()
    before, _ = watched.look()
    done.edit("src/shop/base.py", "1000", "10000")
    after, _ = watched.look()
    changed = {name for name, stamp in after.items() if before[name] != stamp}
    assert changed == {str(done.path / "src/shop/base.py")}
    assert "Running stage 'double'" in done.dvc("repro").stdout
    watched.load()
    # NOTE: fingerprints, which that has written, do not set off one more run
    assert watched.look()[0] == after
