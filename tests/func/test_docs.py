"""Every command of the documentation runs."""

import ast
import email
import re
import subprocess
import sys

import pytest

from benchmarks.__main__ import parser, parts
from benchmarks.table import update
from benchmarks.tools import PEERS
from patches import PATCHES
from tests.support.capabilities import HAS_DASK, HAS_KEEP_GOING
from tests.support.docs import PROGRAM, PROGRAMS, ROOT, blocks

UPSTREAM = ROOT / "docs/upstream"
PAGES = [
    "README.md",
    "docs/cluster-own-workspace.md",
    "docs/guide.md",
    "docs/plan.md",
    "docs/pools.md",
    "docs/report.md",
    "docs/runs.md",
    "docs/validate.md",
    "docs/upstream/pull-request.md",
    "docs/upstream/issue-755.md",
]
if HAS_DASK:
    PAGES.insert(1, "docs/cluster.md")

DVC_YAML = """
    stages:
      part:
        foreach: [a, b, c]
        do: {cmd: "echo ${item} > ${item}.txt", outs: ["${item}.txt"]}
      all: {cmd: cat a.txt b.txt > all.txt, deps: [a.txt, b.txt], outs: [all.txt]}
"""

# The pipeline that the reference of `dvc repro` on dvc.org draws
BRANCHES = """
    stages:
      A1: {cmd: echo a > a1, outs: [a1]}
      A2: {cmd: cp a1 a2, deps: [a1], outs: [a2]}
      B1: {cmd: echo b > b1, outs: [b1]}
      B2: {cmd: cp b1 b2, deps: [b1], outs: [b2]}
      train: {cmd: cat a2 b2 > model, deps: [a2, b2], outs: [model]}
"""


def lines_of(block):
    for line in block.splitlines():
        assert line.startswith("$ "), line
        yield line[2:]


def commands(page, language="console"):
    return [line for _, block in blocks(page, language) for line in lines_of(block)]


@pytest.mark.parametrize("page", PAGES)
def test_commands(make_project, page):
    run_all(commands(page), make_project("docs", DVC_YAML))


def test_commands_for_dvc_org(make_project):
    project = make_project("docs", BRANCHES)
    run_all(commands("docs/upstream/dvc.org/repro.md", "cli"), project)
    assert project.read("model") == "a\nb\n"


def run_all(commands, project):
    for args in (["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", *args], cwd=project.path, check=True)
    assert commands
    for command in commands:
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
            ran += " of stage time in " in shown
    assert ran >= 8


def test_figures_are_those_of_the_benchmarks():
    measured = (ROOT / "docs/benchmarks.md").read_text()
    text = (UPSTREAM / "pull-request.md").read_text()
    benchmarks = re.findall(r"^python -m benchmarks .+$", text, re.MULTILINE)
    rows = re.findall(r"^\| \d.+ \| (.+) s \| (.+) s \|.*\|$", text, re.MULTILINE)
    assert len(rows) >= len(benchmarks) > 0
    sections = [
        measured.partition(f"\n{command}\n")[2].partition("```sh")[0]
        for command in benchmarks
    ]
    assert all(sections)
    for figure in (figure for seconds in rows for figure in seconds):
        assert any(f"| {figure} |" in section for section in sections), figure


def test_the_page_of_the_benchmarks_can_be_written_anew(tmp_path):
    text = (ROOT / "docs/benchmarks.md").read_text()
    page = tmp_path / "page.md"
    page.write_text(text)
    update(page, "| new |")
    head, tail = text.split("## Results")[0], text.split("## On Dask workers")[1]
    new = page.read_text()
    assert new.startswith(head)
    assert new.endswith(tail)
    assert "| new |" in new
    for tool in PEERS:
        assert f"\n| {tool} | " in head.lower(), tool


def test_commands_of_the_benchmarks_are_understood():
    text = (ROOT / "docs/benchmarks.md").read_text()
    commands = re.findall(r"^python -m benchmarks (.+)$", text, re.MULTILINE)
    assert any("--summary" in command for command in commands)
    for command in commands:
        assert parts(parser().parse_args(command.split()))


@pytest.mark.parametrize("number, patch", list(enumerate(PATCHES, 1)))
def test_pull_requests_have_the_titles_of_the_patches(number, patch):
    title = email.message_from_string(patch.read_text())["Subject"].replace("\n", "")
    title = title.partition("] ")[2]
    overview = (UPSTREAM / "pull-request.md").read_text()
    assert f" | {title} | " in overview
    texts = [*UPSTREAM.glob(f"{number}-*.md"), UPSTREAM / "pull-request.md"]
    assert texts[0].read_text().startswith(f"# {title}\n")


def test_files_of_dvc_are_in_the_patches():
    patches = "".join(path.read_text() for path in PATCHES)
    for page in UPSTREAM.glob("[!R]*.md"):
        for name in re.findall(r"`((?:dvc|tests)/[\w./]+)`", page.read_text()):
            assert f"+++ b/{name}" in patches, (page, name)


@pytest.mark.parametrize(
    "page", ["README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
)
def test_links_and_modules_exist(page):
    page = ROOT / page
    text = page.read_text()
    for target in re.findall(r"\]\((?!http|/)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`(\w+\.py)`", text):
        assert list(ROOT.glob(f"dvc_parallel/**/{name}")), name


def test_messages_of_troubleshooting_are_those_of_the_code():
    nodes = (
        node
        for path in ROOT.glob("dvc_parallel/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    known = "\n".join(
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    page = (ROOT / "docs/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    assert len(messages) > 20
    for message in messages:
        for part in message.split("..."):
            assert part.strip(" '") in known, (message, part)
