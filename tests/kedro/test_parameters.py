"""DVC sees a parameter where it is defined; whatever else has a say counts by hash."""

import csv

import pytest

pytest.importorskip("kedro", reason="needs the extra dvc-parallel[kedro]")

BASE = "conf/base/parameters.yml"
REGISTRY = "src/shop/pipeline_registry.py"


def test_experiments_set_them(shop):
    shop.edit(REGISTRY, "params:factor", "params:numbers.factor")
    shop.write({"conf/base/parameters_more.yml": "numbers: {factor: 2, other: 1}\n"})
    shop.edit(BASE, "factor: 2\n", "")
    shop.update()
    assert shop.stages()["double"]["params"] == [
        {"conf/base/parameters_more.yml": ["numbers.factor"]}
    ]
    shop.dvc("repro", "-q")
    shop.commit()
    name = "conf/base/parameters_more.yml:numbers.factor"
    assert "Ran experiment" in shop.dvc("exp", "run", "-S", f"{name}=3").stdout
    assert shop.read("data/total.json") == "[39.0]"
    assert shop.ran() == []


def test_metrics_of_experiments(shop):
    shop.edit(
        "src/shop/nodes.py", "[plugin.add(doubled)]", "{'sum': plugin.add(doubled)}"
    )
    shop.edit(
        "conf/base/catalog.yml",
        "data/total.json",
        "data/total.json, metadata: {dvc: {metrics: true}}",
    )
    shop.update()
    shop.dvc("repro", "-q")
    shop.commit()
    shop.dvc("exp", "run", "-q", "-n", "three", "-S", f"{BASE}:factor=3")
    (row,) = shop.dvc("metrics", "diff").stdout.splitlines()[1:]
    assert row.split() == ["data/total.json", "sum", "26.0", "39.0", "13.0"]
    (row,) = shop.dvc("params", "diff").stdout.splitlines()[1:]
    assert row.split() == [BASE, "factor", "2", "3"]
    rows = list(csv.DictReader(shop.dvc("exp", "show", "--csv").stdout.splitlines()))
    (row,) = [row for row in rows if row["Experiment"] == "three"]
    assert row["sum"] == "39.0"
    assert row["factor"] == "3"


def source(shop, *args):
    """Where DVC sees the factor, and what the fingerprint says about it."""
    shop.update(*args)
    params = shop.stages()["double"].get("params")
    (source,) = shop.fingerprint("double")["parameters"]["params:factor"]
    return params, source


def test_what_has_a_say_in_a_value_counts(shop):
    in_file = ([{BASE: ["factor"]}], f"{BASE}:factor")
    assert source(shop) == in_file

    shop.write({"conf/local/parameters.yml": "factor: 5\n"})
    params, local = source(shop)
    assert params is None
    assert local.startswith("sha256:")
    shop.write({"conf/local/parameters.yml": "factor: 6\n"})
    assert source(shop)[1] != local
    shop.write({"conf/local/parameters.yml": "unused: 6\n"})
    assert source(shop) == in_file

    shop.write({"conf/base/globals.yml": "two: 2\n"})
    shop.edit(BASE, "factor: 2", 'factor: "${globals:two}"')
    params, from_globals = source(shop)
    assert params is None
    shop.write({"conf/base/globals.yml": "two: 3\n"})
    assert source(shop)[1] not in (from_globals, local)

    shop.write({"conf/test/parameters.yml": "factor: 7\n"})
    params, of_test = source(shop, "--env", "test")
    assert params is None
    assert "--env test" in shop.stages()["double"]["cmd"]
    # NOTE: as of the last update
    assert source(shop)[1] == of_test


RESOLVER = """\
CONFIG_LOADER_ARGS = {"custom_resolvers": {"times": lambda number: 2 * number}}
"""


def test_resolvers_of_the_project_count(shop):
    shop.write({"src/shop/settings.py": RESOLVER})
    shop.edit(BASE, "factor: 2", 'factor: "${times:1}"')
    params, before = source(shop)
    assert params is None
    assert shop.ran() == ["clean", "double", "total"]
    assert shop.read("data/total.json") == "[26.0]"
    shop.edit("src/shop/settings.py", "2 *", "3 *")
    assert "'double' is stale: params:factor" in shop.fails("run", "double")
    assert source(shop)[1] not in (before, None)
    assert shop.ran() == ["double", "total"]
    assert shop.read("data/total.json") == "[39.0]"


def test_a_value_of_an_environment_is_the_one_of_a_run(shop, monkeypatch):
    shop.write({"conf/test/parameters.yml": "factor: 7\n"})
    monkeypatch.setenv("KEDRO_ENV", "test")
    shop.update()
    monkeypatch.delenv("KEDRO_ENV")
    assert shop.ran() == ["clean", "double", "total"]
    assert shop.read("data/total.json") == "[91.0]"
    shop.write({"conf/test/parameters.yml": "factor: 8\n"})
    monkeypatch.setenv("KEDRO_ENV", "other")
    error = shop.kedro("run", "--env", "test", "double", check=False).stderr
    assert "stage 'double' is stale: params:factor has changed" in error


def test_all_of_them(shop):
    shop.edit(REGISTRY, "params:factor", "parameters")
    shop.edit("src/shop/nodes.py", "value * factor", 'value * factor["factor"]')
    shop.update()
    assert shop.stages()["double"]["params"] == [{BASE: None}]
    assert shop.ran() == ["clean", "double", "total"]
    shop.edit(BASE, "factor: 2", "factor: 3")
    assert shop.ran() == ["double", "total"]
    assert "0 of their fingerprints changed" in shop.update().stdout
    shop.write({"conf/local/parameters.yml": "factor: 5\n"})
    shop.update()
    assert "params" not in shop.stages()["double"]
    assert shop.ran() == ["double", "total"]


@pytest.mark.parametrize(
    "text, name",
    [
        ("shop.numbers: {factor: 2}", "shop.numbers.factor"),
        ("shop: {more.numbers: {factor: 2}}", "shop.more.numbers.factor"),
        ("shop.factor: 2", "shop.factor"),
        ("shop: {factor: 1}\nshop.factor: 2", "shop.factor"),
    ],
)
def test_keys_with_dots(shop, text, name):
    """As they are in a namespace whose parameters are in a file of their own."""
    shop.edit(REGISTRY, "params:factor", f"params:{name}")
    shop.write({BASE: f"{text}\n"})
    shop.update()
    assert "params" not in shop.stages()["double"]
    shop.dvc("repro", "-q")
    assert shop.read("data/total.json") == "[26.0]"
    shop.write({BASE: f"{text.replace('2', '3')}\n"})
    shop.update()
    assert shop.ran() == ["double", "total"]
    assert shop.read("data/total.json") == "[39.0]"


def test_one_that_is_nowhere(shop):
    shop.edit(REGISTRY, "params:factor", "params:nowhere")
    assert "'params:nowhere'" in shop.fails("update")


SECRET = "tiger-9182"


def test_credentials_are_nowhere(shop):
    shop.write(
        {
            "conf/local/credentials.yml": f"lab: {{key: {SECRET}}}\n",
            "conf/base/catalog.yml": shop.read("conf/base/catalog.yml").replace(
                "filepath: data/raw.json",
                "filepath: data/raw.json, credentials: lab, load_args: "
                f"{{password: {SECRET}, url: 'https://u:{SECRET}@x/y?sig={SECRET}'}}",
            ),
        }
    )
    shop.edit(
        "src/shop/datasets.py", "metadata=None", "metadata=None, credentials=None"
    )
    shop.update()
    files = [shop.path / "dvc.yaml", *shop.path.glob(".kedro-dvc/**/*.json")]
    before = [path.read_text() for path in files]
    assert not any(SECRET in text for text in before)
    # NOTE: nor is there a hash of it
    for name in ("conf/local/credentials.yml", "conf/base/catalog.yml"):
        shop.edit(name, SECRET, "leopard-7")
    shop.update()
    assert [path.read_text() for path in files] == before
    assert shop.ran() == ["clean", "double", "total"]
