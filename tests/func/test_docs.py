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


# Stands for all programs of the pages: makes whatever a stage called so may have made.
PROGRAM = """
import sys
for suffix in (".json", ".pt", ".txt"):
    with open(sys.argv[1] + suffix, "w") as fobj:
        fobj.write(sys.argv[1])
"""
PROGRAMS = ["fetch", "join", "load", "plot", "report", "train"]


def blocks(page, *languages):
    """Blocks of code in a page, with their languages."""
    pattern = rf"```({'|'.join(languages)})\n(.*?)```"
    return re.findall(pattern, (ROOT / page).read_text(), re.DOTALL)


def lines_of(block):
    for line in block.splitlines():
        assert line.startswith("$ "), line
        yield line[2:]


def commands(page):
    return [line for _, block in blocks(page, "console") for line in lines_of(block)]


@pytest.mark.parametrize("page", PAGES)
def test_commands(make_project, page):
    project = make_project("docs", DVC_YAML)
    for args in (["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", *args], cwd=project.path, check=True)
    run = commands(page)
    assert run
    for command in run:
        check(project, command)


def check(project, command):
    """Run a command that has to succeed."""
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
    return result.stdout


def test_recipes(make_project):
    """Each dvc.yaml of the page in a project of its own, with the commands after it."""
    project = None
    programs = {f"{name}.py": PROGRAM for name in PROGRAMS}
    ran = 0
    for number, (language, block) in enumerate(
        blocks("docs/pools.md", "yaml", "console")
    ):
        if language == "yaml":
            project = make_project(f"recipe{number}", block, programs)
            continue
        for command in lines_of(block):
            shown = check(project, command)
            ran += "Ran " in shown
    assert ran >= 8


@pytest.mark.parametrize("page", ["README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_and_modules_exist(page):
    page = ROOT / page
    text = page.read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`(\w+\.py)`", text):
        assert list(ROOT.glob(f"dvc_parallel/**/{name}")), name
