"""Kinds of datasets: what DVC gets for each, and what it cannot have."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ruamel.yaml import YAML

from dvc_parallel.kedro import KedroError
from dvc_parallel.kedro.datasets import dataset_of

pytest.importorskip("kedro", reason="needs the extra dvc-parallel[kedro]")

CATALOG = "conf/base/catalog.yml"
REGISTRY = "src/shop/pipeline_registry.py"
NODES = "src/shop/nodes.py"

TABLE = """

class Table(AbstractDataset):
    def __init__(self, table, con=None, load_args=None):
        self._file = Path(table)

    def load(self):
        return json.loads(self._file.read_text())

    def save(self, data):
        self._file.write_text(json.dumps(data))

    def _describe(self):
        return {}


class Parts(AbstractDataset):
    def __init__(self, path, dataset):
        self._path = Path(path)

    def load(self):
        files = sorted(self._path.glob("*.json"))
        return [value for file in files for value in json.loads(file.read_text())]

    def save(self, data):
        self._path.mkdir(parents=True, exist_ok=True)
        for index, value in enumerate(data):
            (self._path / f"{index}.json").write_text(json.dumps([value]))

    def _describe(self):
        return {}
"""


@pytest.fixture
def with_entry(make_shop):
    """A project with another entry of a dataset in its catalog."""
    from tests.kedro.shop import DATASETS, FILES

    def make(name, entry, more="", **files):
        lines = FILES[CATALOG].splitlines()
        kept = [line for line in lines if not line.startswith(f"{name}:")]
        text = "\n".join([*kept, f"{name}: {entry}", more]) + "\n"
        return make_shop(
            files={CATALOG: text, "src/shop/datasets.py": DATASETS + TABLE}
        )

    return make


def test_folders_and_what_is_cached(with_entry):
    shop = with_entry(
        "cleaned",
        "{type: shop.datasets.Parts, path: data/parts, dataset: shop.datasets.Json}",
        "doubled: {type: CachedDataset, dataset: "
        "{type: shop.datasets.Json, filepath: data/doubled.json}}",
    )
    shop.update()
    stages = shop.stages()
    assert stages["clean"]["outs"] == ["data/parts"]
    assert "data/parts" in stages["double"]["deps"]
    assert stages["double"]["outs"] == ["data/doubled.json"]
    assert shop.ran("-j", "2") == ["clean", "double", "total"]
    assert shop.read("data/total.json") == "[26.0]"


def test_patterns_and_two_names_of_a_file(with_entry):
    shop = with_entry(
        "cleaned@out",
        "{type: shop.datasets.Json, filepath: data/cleaned.json}",
        '"{name}@in": {type: shop.datasets.Json, filepath: "data/{name}.json"}\n'
        '"{name}bled": {type: shop.datasets.Json, filepath: "data/bled/{name}.json"}\n',
    )
    shop.edit(REGISTRY, '"more"], "cleaned"', '"more"], "cleaned@out"')
    shop.edit(REGISTRY, '["cleaned"', '["cleaned@in"')
    shop.update()
    stages = shop.stages()
    assert stages["double"]["deps"][1:] == ["data/cleaned.json"]
    assert stages["double"]["outs"] == ["data/bled/dou.json"]
    assert shop.ran() == ["clean", "double", "total"]


def test_versions_are_those_of_dvc(with_entry):
    entry = "{{type: shop.datasets.Versioned, filepath: data/{}.json, versioned: true}}"
    shop = with_entry("cleaned", entry.format("cleaned"))
    # NOTE: of what no stage makes, Kedro has versions
    shop.edit(
        CATALOG, "raw: {type: shop.datasets.Json", "raw: {type: shop.datasets.Versioned"
    )
    shop.write({"src/shop/datasets.py": shop.read("src/shop/datasets.py") + VERSIONED})
    (shop.path / "data/raw.json").unlink()
    shop.write({"data/raw.json/2026-01-02T03.04.05.678Z/raw.json": "[1, 2, 3]"})
    shop.edit(CATALOG, "data/raw.json", "data/raw.json, versioned: true")
    shop.update()
    shop.dvc("repro", "-q")
    assert shop.read("data/cleaned.json") == "[1.5, 3.0, 4.5, 4]"
    assert shop.read("data/total.json") == "[26.0]"

    (shop.path / "data/cleaned.json").unlink()
    shop.write({"data/cleaned.json/2026-01-02T03.04.05.678Z/cleaned.json": "[1]"})
    error = shop.fails("update")
    assert "dataset 'cleaned': 'data/cleaned.json' is a folder of Kedro's" in error
    assert "2026-01-02T03.04.05.678Z" in error


VERSIONED = """

from kedro.io import AbstractVersionedDataset


class Versioned(AbstractVersionedDataset):
    def __init__(self, filepath, version=None):
        super().__init__(Path(filepath), version)

    def load(self):
        return json.loads(Path(self._get_load_path()).read_text())

    def save(self, data):
        path = Path(self._get_save_path())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))

    def _describe(self):
        return {}
"""


def test_what_is_in_a_service(with_entry):
    table = "{{type: shop.datasets.Table, table: '{}'}}"
    shop = with_entry(
        "raw", table.format("<raw>"), "doubled: " + table.format("<doubled>")
    )
    raw, doubled = shop.path.parent / "raw", shop.path.parent / "doubled"
    raw.write_text("[1, 2, 3]")
    shop.edit(CATALOG, "<raw>", str(raw))
    shop.edit(CATALOG, "<doubled>", str(doubled))
    warned = shop.update().stderr
    assert "stage 'clean' will always run" in warned
    assert "dataset 'raw' (shop.datasets.Table)" in warned
    stages = shop.stages()
    assert stages["clean"]["always_changed"] is True
    marker = ".kedro-dvc/markers/doubled"
    assert stages["double"]["outs"] == [{marker: {"persist": True}}]
    assert marker in stages["total"]["deps"]
    assert shop.ran() == ["clean", "double", "total"]
    assert shop.ran() == ["clean"]
    first = shop.read(marker)
    raw.write_text("[1, 2, 4]")
    assert shop.ran() == ["clean", "double", "total"]
    assert shop.read(marker) != first

    shop.edit(
        CATALOG,
        f"table: '{raw}'",
        f"table: '{raw}', metadata: {{dvc: {{always_changed: false}}}}",
    )
    assert "always run" not in shop.update().stderr
    assert "always_changed" not in shop.stages()["clean"]


@pytest.mark.parametrize(
    "kind, path, dep, always",
    [
        ("Json", "https://a.b/raw.json?sig=1", "https://a.b/raw.json", False),
        ("Json", "data/raw/*.json", "data/raw", False),
        ("SQLQueryDataset", "data/raw.sql", "data/raw.sql", True),
    ],
)
def test_where_data_comes_from_is_a_dependency(with_entry, kind, path, dep, always):
    shop = with_entry("raw", f"{{type: shop.datasets.{kind}, filepath: '{path}'}}")
    shop.update()
    stage = shop.stages()["clean"]
    own = ".kedro-dvc/clean.json"
    assert stage["deps"] == [own, dep, "data/more.json"]
    assert ("always_changed" in stage) == always
    shop.edit(CATALOG, f"{kind}, filepath: '{path}'", "Json, filepath: data/b.json")
    shop.update()
    assert shop.stages()["clean"]["deps"] == [own, "data/more.json", "data/b.json"]


class Web(BaseHTTPRequestHandler):
    """Serves what is in a variable, as a file that DVC can depend on."""

    content = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.send_header("ETag", f'"{self.content.hex()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.content)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *args):
        pass


FETCH = """

class Fetched(Json):
    def __init__(self, filepath):
        self._url = filepath

    def load(self):
        from urllib.request import urlopen

        return json.loads(urlopen(self._url).read())

    def _describe(self):
        return {}
"""


def test_a_dependency_that_is_fetched(with_entry):
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/raw.json"
            shop = with_entry(
                "raw", f"{{type: shop.datasets.Fetched, filepath: '{url}'}}"
            )
            shop.write(
                {"src/shop/datasets.py": shop.read("src/shop/datasets.py") + FETCH}
            )
            Web.content = b"[1, 2, 3]"
            shop.update()
            assert shop.ran("-j", "2") == ["clean", "double", "total"]
            assert shop.read("data/total.json") == "[26.0]"
            assert shop.ran() == []
            Web.content = b"[1, 2, 4]"
            assert shop.ran() == ["clean", "double", "total"]
            assert shop.read("data/total.json") == "[29.0]"
        finally:
            server.shutdown()


def test_metrics_plots_and_what_is_not_cached(with_entry):
    entry = "{{type: shop.datasets.Json, filepath: {}, metadata: {{dvc: {{{}}}}}}}"
    shop = with_entry(
        "total",
        entry.format("data/total.json", "metrics: true"),
        "doubled: " + entry.format("data/doubled.json", "plots: true, cache: false"),
    )
    shop.update()
    stages = shop.stages()
    assert stages["total"]["metrics"] == [{"data/total.json": {"cache": False}}]
    assert stages["double"]["plots"] == [{"data/doubled.json": {"cache": False}}]
    assert "outs" not in stages["total"]


@pytest.mark.parametrize(
    "options, what",
    [
        ("{dvc: {metric: true}}", "unknown key 'metric'"),
        ("{dvc: {metrics: 1}}", "metadata.dvc.metrics is 1, not true or false"),
        ("{dvc: {metrics: true, plots: true}}", "both metrics and plots"),
        ("{dvc: metrics}", "metadata.dvc is 'metrics', not a mapping"),
    ],
)
def test_metadata_that_means_nothing(options, what, tmp_path):
    entry = {"type": "a.B", "filepath": "x"}
    metadata = YAML(typ="safe").load(options)
    with pytest.raises(KedroError, match=f"dataset 'total': .*{what}"):
        dataset_of("total", {**entry, "metadata": metadata}, tmp_path)


INCREMENTAL = "{type: partitions.IncrementalDataset, path: data/parts}"
ENTRY = "{{type: shop.datasets.Json, filepath: {}}}"


@pytest.mark.parametrize(
    "name, entry, what",
    [
        ("raw", INCREMENTAL, "dataset 'raw' is an IncrementalDataset"),
        ("cleaned", ENTRY.format("data/total.json"), "'clean' and 'total' both write"),
        (
            "cleaned",
            ENTRY.format("data/raw.json"),
            "'clean' both reads and writes 'data/r",
        ),
        (
            "cleaned",
            ENTRY.format("data/total.json/x"),
            "'data/total.json/x' is in 'data/to",
        ),
        ("cleaned", ENTRY.format("/tmp/x.json"), "which is outside of the DVC repo"),
        ("cleaned", ENTRY.format("data/*.json"), "DVC needs a path without *"),
        (
            "raw",
            ENTRY.format("data/total.json"),
            "wait for each other because of 'data/",
        ),
        ("raw", "{type: MemoryDataset}\nraw2: {type: a}", None),
    ],
)
def test_what_dvc_cannot_have(with_entry, name, entry, what):
    shop = with_entry(name, entry)
    if what is None:
        shop.edit(CATALOG, "raw:", "other:")
        what = "dataset 'raw', which node 'clean' loads, is not in the catalog"
    assert what in shop.fails("update")


def test_a_node_that_confirms(shop):
    shop.edit(REGISTRY, 'name="clean"', 'name="clean", confirms="raw"')
    assert "node 'clean' confirms raw" in shop.fails("update")


def test_what_cannot_be_pickled(shop):
    shop.edit(NODES, "    return [Round()", "    return lambda: [Round()")
    shop.edit(NODES, "plugin.add(doubled)", "plugin.add(doubled())")
    shop.update()
    result = shop.kedro("run", "clean")
    result = shop.kedro("run", "double", check=False)
    assert result.returncode == 1
    assert "dataset 'doubled' of node 'double' cannot be pickled" in result.stderr
    assert "--group-by memory" in result.stderr
    assert not shop.exists(".kedro-dvc/memory/doubled.pkl")
    shop.update("--group-by", "memory")
    assert list(shop.stages()) == ["clean", "double"]
    assert shop.ran() == ["clean", "double"]
    assert shop.read("data/total.json") == "[26.0]"
    assert not [*shop.path.glob(".kedro-dvc/**/*.pkl")]
