"""``kedro dvc update`` writes stages, and ``dvc repro`` runs them."""

import os

import pytest

from tests.kedro.shop import STAGES
from tests.support.project import assert_same

pytest.importorskip("kedro", reason="needs the extra dvc-parallel[kedro]")


def test_a_stage_for_each_node(shop):
    shop.update()
    stages = shop.stages()
    assert list(stages) == STAGES
    assert stages["double"] == {
        "cmd": "kedro dvc run double",
        "deps": [".kedro-dvc/double.json", "data/cleaned.json"],
        "params": [{"conf/base/parameters.yml": ["factor"]}],
        "outs": [".kedro-dvc/memory/doubled.pkl"],
        "meta": {"kedro": "double"},
    }
    assert stages["total"]["deps"] == [
        ".kedro-dvc/total.json",
        ".kedro-dvc/memory/doubled.pkl",
    ]


def test_serially_and_in_parallel(make_shop):
    serial, parallel = make_shop("serial"), make_shop("parallel")
    for project, options in ((serial, []), (parallel, ["-j", 4])):
        project.update()
        project.dvc("repro", *options)
        assert project.read("data/total.json") == "[26.0]"
    assert_same(serial, parallel)
    assert "up to date" in parallel.dvc("status").stdout


def test_again_changes_nothing(shop):
    shop.update()
    before = shop.left()
    result = shop.update()
    assert "0 of their fingerprints changed" in result.stdout
    assert shop.left() == before
    assert "+++" not in shop.update("--check").stdout


def test_check_prints_what_would_change(shop):
    result = shop.update("--check", check=False)
    assert result.returncode == 1
    assert "+  clean:\n" in result.stdout
    assert not shop.exists("dvc.yaml")
    assert not shop.exists(".kedro-dvc")
    shop.update()
    shop.edit("src/shop/prices.py", "1.5", "2")
    before = shop.left()
    result = shop.update("--check", check=False)
    assert result.returncode == 1
    assert "+++ .kedro-dvc/clean.json" in result.stdout
    assert "shop.prices:TAX" in result.stdout
    assert shop.left() == before


def test_a_stage_that_is_stale_writes_nothing(shop):
    shop.update()
    shop.edit("src/shop/prices.py", "1.5", "2")
    result = shop.kedro("run", "clean", check=False)
    assert result.returncode == 1
    assert "stage 'clean' is stale: shop.prices:TAX has changed" in result.stderr
    assert "run `kedro dvc update`" in result.stderr
    assert not shop.exists("data/cleaned.json")
    shop.update()
    shop.kedro("run", "clean")
    assert shop.read("data/cleaned.json") == "[2, 4, 6, 4]"


@pytest.mark.parametrize(
    "old, new",
    [('name="double"', 'name="twice"'), ('"second": second, ', "")],
)
def test_a_stage_whose_node_or_pipeline_is_gone_says_what_to_do(shop, old, new):
    shop.update()
    shop.edit("src/shop/pipeline_registry.py", old, new)
    error = shop.fails("run", "double")
    assert "'double'" in error or "'second'" in error
    assert error.endswith("; if nodes have changed, run `kedro dvc update`")


def test_options_and_what_is_gone_are_no_fingerprints_that_changed(shop):
    shop.update()
    counted = shop.update("-p", "first", "-p", "second").stdout
    assert shop.exists(".kedro-dvc/options.json")
    assert "3 stages, 0 of their fingerprints changed" in counted
    assert (
        "1 stages, 0 of their fingerprints changed" in shop.update("-p", "first").stdout
    )
    assert not shop.exists(".kedro-dvc/total.json")


def test_a_file_that_is_written_again_keeps_its_attributes(shop):
    shop.update()
    path = shop.path / ".kedro-dvc/clean.json"
    try:
        os.setxattr(path, "user.note", b"kept")
    except OSError:
        pytest.skip("the file system has no attributes")
    path.chmod(0o640)
    shop.edit("src/shop/prices.py", "1.5", "2")
    assert "1 of their fingerprints changed" in shop.update().stdout
    assert os.getxattr(path, "user.note") == b"kept"
    assert path.stat().st_mode & 0o777 == 0o640


def test_lines_of_a_log_are_whole(shop):
    warning = "x" * 90
    warn = f"import logging\n\nlogging.getLogger('shop').warning('{warning}')\n"
    shop.write({"src/shop/settings.py": warn})
    assert shop.update().stdout == (
        f"WARNING shop: {warning}\n3 stages, 3 of their fingerprints changed\n"
    )
    lines = shop.kedro("run", "clean").stdout.splitlines()
    assert all(line.startswith(("INFO ", "WARNING ")) for line in lines), lines
    (line,) = [line for line in lines if "Running node" in line]
    assert line.endswith("Running node: clean: clean([raw;more]) -> [cleaned]")


def test_what_a_node_raises_is_shown_whole(shop):
    shop.edit(
        "src/shop/prices.py", "return value * TAX", f"raise ValueError('{'x' * 90}')"
    )
    shop.update()
    result = shop.kedro("run", "clean", check=False)
    assert result.returncode == 1
    assert result.stderr.endswith(f"\nValueError: {'x' * 90}\n")
    assert "src/shop/prices.py" in result.stderr


def test_a_node_starts_without_dvc(shop):
    shop.update()
    times = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    lines = shop.kedro("run", "clean", env=times).stderr.splitlines()
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"kedro", "dvc_parallel"} <= loaded
    assert not {"dvc", "networkx"} & loaded
