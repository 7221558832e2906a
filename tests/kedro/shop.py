"""A Kedro project without any package but Kedro, in which code counts in many ways."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.support.project import Project

DATASETS = """\
import json
from pathlib import Path

from kedro.io import AbstractDataset


class Json(AbstractDataset):
    def __init__(self, filepath, load_args=None, save_args=None, metadata=None):
        self._filepath = Path(filepath)
        self._load_args = load_args or {}
        self._save_args = save_args or {}

    def load(self):
        return json.loads(self._filepath.read_text())[: self._load_args.get("first")]

    def save(self, data):
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        self._filepath.write_text(json.dumps(data, **self._save_args))

    def _describe(self):
        return {"filepath": str(self._filepath)}
"""

NODES = """\
from importlib import import_module

from .base import Rule
from .prices import with_tax


class Round(Rule):
    def apply(self, value):
        return self.limit(round(value, 2))


def logged(function):
    def wrapper(*args):
        return function(*args)
    return wrapper


def clean(raw, more):
    # a comment
    return [with_tax(value) for value in raw] + more


@logged
def double(cleaned, factor):
    return [Round().apply(value * factor) for value in cleaned]


def total(doubled):
    plugin = import_module("shop.plugins.addition")
    return [plugin.add(doubled)]
"""

FILES = {
    "pyproject.toml": """\
[tool.kedro]
package_name = "shop"
project_name = "shop"
kedro_init_version = "1.0.0"
""",
    "conf/base/catalog.yml": """\
raw: {type: shop.datasets.Json, filepath: data/raw.json}
more: {type: shop.datasets.Json, filepath: data/more.json}
cleaned: {type: shop.datasets.Json, filepath: data/cleaned.json}
total: {type: shop.datasets.Json, filepath: data/total.json}
""",
    "conf/base/parameters.yml": "factor: 2\nunused: 1\n",
    "conf/local/.gitkeep": "",
    "data/raw.json": "[1, 2, 3]",
    "data/more.json": "[4]",
    "src/shop/__init__.py": "",
    "src/shop/settings.py": "",
    "src/shop/base.py": """\
class Rule:
    def limit(self, value):
        return min(value, 1000)
""",
    "src/shop/prices.py": """\
TAX = 1.5


def with_tax(value):
    return value * TAX
""",
    "src/shop/plugins/__init__.py": "",
    "src/shop/plugins/addition.py": "def add(values):\n    return sum(values)\n",
    "src/shop/datasets.py": DATASETS,
    "src/shop/nodes.py": NODES,
    "src/shop/pipeline_registry.py": """\
from kedro.pipeline import Pipeline, node

from .nodes import clean, double, total


def register_pipelines():
    first = Pipeline([node(clean, ["raw", "more"], "cleaned", name="clean")])
    second = Pipeline([
        node(double, ["cleaned", "params:factor"], "doubled", name="double"),
        node(total, "doubled", "total", name="total"),
    ])
    return {"first": first, "second": second, "__default__": first + second}
""",
}

STAGES = ["clean", "double", "total"]


class Shop(Project):
    """The project, with ``kedro dvc`` and what its runs have done."""

    def __init__(self, path: Path, files):
        super().__init__(path)
        self.write({**FILES, **files})
        self.commit()

    def commit(self) -> None:
        for args in (["add", "-A"], ["commit", "-qm", "as it is"]):
            subprocess.run(["git", *args], cwd=self.path, check=True)

    def edit(self, name: str, old: str, new: str) -> None:
        text = self.read(name)
        assert old in text, f"no {old!r} in {name}"
        self.write({name: text.replace(old, new)})

    def kedro(self, *args, check=True, **kwargs) -> subprocess.CompletedProcess:
        """Run ``kedro dvc``."""
        command = [str(Path(sys.executable).with_name("kedro")), "dvc", *args]
        return self.run(command, check, **kwargs)

    def update(self, *args, **kwargs) -> subprocess.CompletedProcess:
        return self.kedro("update", *args, **kwargs)

    def ran(self, *args) -> list:
        """Names of the stages that ``dvc repro`` runs."""
        result = self.dvc("repro", *args)
        return sorted(re.findall(r"^Running stage '(.*)'", result.stdout, re.MULTILINE))

    def fingerprint(self, stage: str) -> dict:
        return json.loads(self.read(f".kedro-dvc/{stage}.json"))

    def stages(self) -> dict:
        from ruamel.yaml import YAML

        return YAML(typ="safe").load(self.read("dvc.yaml"))["stages"]

    def fails(self, *args, **kwargs) -> str:
        """What ``kedro dvc`` says when it fails: one line."""
        before = self.read("dvc.yaml") if self.exists("dvc.yaml") else None
        result = self.kedro(*args, check=False, **kwargs)
        assert result.returncode == 1, result.stdout + result.stderr
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("ERROR: ")
        assert before == (self.read("dvc.yaml") if self.exists("dvc.yaml") else None)
        return lines[0]
