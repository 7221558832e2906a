"""Every command of the documentation runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.capabilities import HAS_KEEP_GOING

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/guide.md", "docs/runs.md"]

DVC_YAML = """
    stages:
      part:
        foreach: [a, b, c]
        do: {cmd: "echo ${item} > ${item}.txt", outs: ["${item}.txt"]}
      all: {cmd: cat a.txt b.txt > all.txt, deps: [a.txt, b.txt], outs: [all.txt]}
"""


def commands(page):
    for block in re.findall(
        r"```console\n(.*?)```", (ROOT / page).read_text(), re.DOTALL
    ):
        for line in block.splitlines():
            assert line.startswith("$ "), line
            yield line[2:]


@pytest.mark.parametrize("page", PAGES)
def test_commands(make_project, page):
    project = make_project("docs", DVC_YAML)
    for args in (["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", *args], cwd=project.path, check=True)
    run = list(commands(page))
    assert run
    for command in run:
        command = re.sub(r"^python ", f"{sys.executable} ", command)
        if not HAS_KEEP_GOING:
            command = command.replace("--keep-going ", "")
        result = subprocess.run(
            command,
            shell=True,
            cwd=project.path,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"


@pytest.mark.parametrize("page", ["README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_and_modules_exist(page):
    page = ROOT / page
    text = page.read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`(\w+\.py)`", text):
        assert list(ROOT.glob(f"dvc_parallel/**/{name}")), name
