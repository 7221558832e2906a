"""Every command of the documentation runs, or is understood where it cannot."""

import ast
import email
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec

import dvc
import pytest
from dvc.cli import parse_args
from dvc.cli.parser import get_main_parser

from benchmarks.__main__ import parser, parts
from benchmarks.table import update
from benchmarks.tools import PEERS
from dvc_parallel.backport.seam import NEWEST
from dvc_parallel.commands import repro_watch
from patches import PATCHES, lines_added
from tests.support import prose
from tests.support.capabilities import HAS_DASK, HAS_KEEP_GOING
from tests.support.docs import (
    NEEDS,
    ROOT,
    RUNNER,
    blocks,
    commands,
    dvc_commands,
    run_page,
)
from tests.support.processes import quick_commands

UPSTREAM = ROOT / "docs/upstream"
DOCS = [
    "README.md",
    "CONTRIBUTING.md",
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md"))),
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("examples/*/*.md"))),
    "benchmarks/README.md",
]
# Written for a discussion or a page elsewhere, which has its own pipeline.
PROPOSALS = [page for page in DOCS if page.startswith("docs/upstream/")]
PAGES = [
    page
    for page in DOCS
    if page not in PROPOSALS
    and any(not block.needs for block in blocks(page, "console"))
]
TOX = (ROOT / "tox.ini").read_text()
TOX_ENV = re.compile(r"py3\d+|(quick-)?dvc[\d.]+")
of_the_newest = pytest.mark.skipif(
    dvc.version_tuple != NEWEST, reason="pages are about the newest DVC"
)
COMMAND = re.compile(r"^(\$|dvc|dvc-parallel|pip|git) ", re.MULTILINE)
# What a block can be.
LANGUAGES = ["console", "sh", "yaml", "python", "toml", "mermaid", ""]


@pytest.fixture(scope="module")
def folder_of_commands(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bin")
    with quick_commands(folder):
        yield folder


@pytest.fixture
def commands_in_path(folder_of_commands, monkeypatch):
    monkeypatch.setenv("PATH", f"{folder_of_commands}{os.pathsep}{os.environ['PATH']}")


@of_the_newest
@pytest.mark.usefixtures("commands_in_path")
@pytest.mark.parametrize("page", PAGES)
def test_commands(page, tmp_path):
    if page == "docs/cluster.md" and not HAS_DASK:
        pytest.skip("needs distributed")
    run_page(page, tmp_path, for_this_dvc)


def for_this_dvc(command):
    return command if HAS_KEEP_GOING else command.replace("--keep-going ", "")


@pytest.mark.parametrize("page", [page for page in DOCS if page not in PROPOSALS])
def test_no_block_is_left_out(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, block
        if block.language == "sh":
            for line in block.text.replace("\\\n", "").splitlines():
                check_in_clone(line)
        elif block.language == "console":
            assert not block.needs or block.needs in NEEDS, block
            if block.needs not in ("", RUNNER):
                check_options(block)
        elif block.language == "":
            assert not COMMAND.search(block.text), block
        elif block.language != "mermaid":
            assert block.file, block


def check_in_clone(line):
    """What the line is about is in the clone."""
    words = shlex.split(line, comments=True)
    for before, word in zip(["", *words], words):
        if before == "-m":
            assert find_spec(word) or word in ("venv", "pip", "tox"), line
        if before == "-e" and "tox" in line:
            for env in word.split(","):
                assert f"[testenv:{env}]" in TOX or TOX_ENV.fullmatch(env), line
        if re.match(r"(tests|examples|docs|benchmarks)/", word):
            assert (ROOT / word).exists(), line
    if words[:3] == ["python", "-m", "benchmarks"]:
        assert parts(parser().parse_args(words[3:]))


def check_options(block):
    """DVC understands the commands of a block."""
    for command in commands(block):
        for args in dvc_commands(for_this_dvc(command.text)):
            assert parse_args(args)


@of_the_newest
def test_commands_within_text_have_options_that_exist():
    (parsers,) = [
        action.choices
        for action in get_main_parser()._actions
        if isinstance(action.choices, dict)
    ]
    known = {
        ("dvc", name): set(parser._option_string_actions)
        for name, parser in parsers.items()
    }
    reference = (ROOT / "docs/commands.md").read_text()
    for section in reference.split("\n## `dvc-parallel ")[1:]:
        name = section.split(maxsplit=1)[0]
        options = re.findall(r"`(-[\w-]+)", section)
        known["dvc-parallel", name] = {*options, "-h", "--help", "-v"}
    known["dvc-parallel", "repro"] = {*known["dvc", "repro"], repro_watch.OPTION}
    seen = 0
    for page in set(DOCS) - set(PROPOSALS):
        text = (ROOT / page).read_text()
        for program, name, rest in re.findall(
            r"`(?:\w+=\S+ )*(dvc|dvc-parallel) ([a-z]+)( [^`\n]*)`", text
        ):
            options = known.get((program, name)) or known.get(("dvc", name))
            for option in re.findall(r" (--?[a-z][\w-]*)", rest):
                seen += 1
                assert option in options, (page, name, rest)
    assert seen > 20


@pytest.mark.parametrize("page", PROPOSALS)
def test_commands_for_others(page):
    for block in blocks(page, "console"):
        check_options(block)


@pytest.mark.parametrize(
    "block, error",
    [
        ("$ echo a > b && cat b\na\n", None),
        ("$ cat <<'END'\none\ntwo\nEND\none\n", None),
        ("$ echo took 3.25 s\ntook 1 s\n", None),
        ("$ echo a\nb\n", "no 'b' in\na"),
        ("$ false\n", "false"),
        ("$ echo ERROR: no; false\nERROR: no\n", None),
        ("$ echo ERROR: no\nERROR: no\n", "echo ERROR"),
        ("# needs Slurm\n$ false\n$ true\n", None),
        ("oh\n", "not a command"),
    ],
)
def test_a_page_fails_as_it_should(tmp_path, block, error):
    page = tmp_path / "page.md"
    page.write_text(f"```console\n{block}```\n")
    if error is None:
        run_page(page, tmp_path)
    else:
        with pytest.raises(AssertionError, match=error):
            run_page(page, tmp_path)


@of_the_newest
def test_the_command_reference_is_what_the_parsers_give(tmp_path):
    """If not: ``python -m tests.support.command_reference``."""
    page = tmp_path / "commands.md"
    command = [sys.executable, "-m", "tests.support.command_reference", page]
    subprocess.run(command, cwd=ROOT, check=True)
    assert page.read_text() == (ROOT / "docs/commands.md").read_text()


STUMBLES = {
    "DVC takes exception to an option": "takes exception to",
    "It takes\n  for granted that all runs": "takes for granted",
    "1 stages have run, in 11 hours": "1 stages",
    "removes file(s)": "e(s)",
    "`dvc repro` is what it was": "is what it was",
    "`--help` tells more of it": "tells more of",
    "Who needs much is not starved": "is not starved",
    "it is an error if there is is none": "is is",
    "nobody waits for a worker": "nobody waits for",
}


@pytest.mark.parametrize("text", STUMBLES)
def test_prose_that_stumbles_is_found(text):
    found = [" ".join(words.split()) for _, words, _ in prose.check(text)]
    assert STUMBLES[text] in found


@pytest.mark.parametrize(
    "text",
    ["1 stage, 11 stages, 1.1 hours", "He had had it", "a\n\nA", "an (s) in brackets"],
)
def test_prose_that_does_not(text):
    assert not list(prose.check(text))


def test_where_prose_is():
    page = "as ever\n```\nas ever\n```\n`as ever`, as ever\n"
    assert [line for line, *_ in prose.check(prose.without_code(page))] == [1, 5]
    module = '"""As ever."""\n\ndef one():\n    """As ever."""\n    return "as ever"\n'
    assert [line for line, *_ in prose.check(prose.shown_by(module))] == [5]


SHOWN_BY_BASH = """
. ~/.local/share/bash-completion/completions/{program}
COMP_WORDS=({program} {command} {start}); COMP_CWORD=2
_shtab_{name} {program} {start} {command}
echo ${{COMPREPLY[@]}}
"""
SHOWN_BY_FISH = "complete -C '{program} {command} {start}'"


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion(tmp_path, monkeypatch, shell):
    """By the lines that the guide has for the shell."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    monkeypatch.setenv("HOME", str(tmp_path))
    (block,) = [
        block
        for block in blocks("docs/guide.md", "console")
        if block.needs.startswith(shell)
    ]
    for command in commands(block):
        subprocess.run(["bash", "-ec", command.text], cwd=tmp_path, check=True)
    template = {"bash": SHOWN_BY_BASH, "fish": SHOWN_BY_FISH}[shell]
    for program, command, start, expected in (
        ("dvc", "repro", "--job", "--jobs"),
        ("dvc-parallel", "repro", "--job", "--jobs"),
        ("dvc-parallel", "logs", "--fol", "--follow"),
    ):
        name = program.replace("-", "_")
        script = template.format(
            program=program, command=command, start=start, name=name
        )
        shown = subprocess.run(
            [shell, "-c", script], check=True, capture_output=True, text=True
        )
        assert shown.stdout.split()[:1] == [expected]


# The pipeline that the reference of `dvc repro` on dvc.org draws
BRANCHES = """
    stages:
      A1: {cmd: echo a > a1, outs: [a1]}
      A2: {cmd: cp a1 a2, deps: [a1], outs: [a2]}
      B1: {cmd: echo b > b1, outs: [b1]}
      B2: {cmd: cp b1 b2, deps: [b1], outs: [b2]}
      train: {cmd: cat a2 b2 > model, deps: [a2, b2], outs: [model]}
"""


@pytest.mark.usefixtures("commands_in_path")
def test_commands_for_dvc_org(make_project):
    project = make_project("docs", BRANCHES)
    for block in blocks("docs/upstream/dvc.org/repro.md", "cli"):
        for command in commands(block):
            project.run(command.text, shell=True)
    assert project.read("model") == "a\nb\n"


@pytest.mark.usefixtures("commands_in_path")
def test_scripts_of_figures(tmp_path):
    """They need nothing of ours: DVC, and what it is to be called with."""
    scripts = [block for block in blocks("docs/upstream/series.md", "sh") if block.file]
    assert {script.file for script in scripts} == {"copies.sh", "sleeps.sh"}
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    for script in scripts:
        result = subprocess.run(
            ["bash", "-c", script.text, script.file, "2", "-j 2"],
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
        assert re.search(r"^real\t0m", result.stderr, re.MULTILINE)
    assert len([*tmp_path.glob("*/dvc.lock")]) == len(scripts)


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


@pytest.mark.parametrize("number, patch", list(enumerate(PATCHES, 1)))
def test_pull_requests_have_the_titles_of_the_patches(number, patch):
    title = email.message_from_string(patch.read_text())["Subject"].replace("\n", "")
    title = title.partition("] ")[2]
    (text,) = UPSTREAM.glob(f"{number}-*.md")
    assert text.read_text().startswith(f"# {title}\n")
    overview = (UPSTREAM / "series.md").read_text()
    (row,) = [row for row in overview.splitlines() if f" | {title} | " in row]
    code, tests = lines_added(patch)
    assert row.endswith(f" | {code}, {tests} |")


def test_files_and_tests_of_dvc_are_in_the_patches():
    patches = "".join(path.read_text() for path in PATCHES)
    for page in UPSTREAM.glob("[!R]*.md"):
        for name, test in re.findall(
            r"`((?:dvc|tests)/[\w./]+)(?:::(\w+))?`", page.read_text()
        ):
            ours = ROOT / name
            if ours.exists():
                assert f"def {test}" in ours.read_text(), (page, name, test)
            else:
                assert f"+++ b/{name}" in patches, (page, name)
                assert f"def {test}" in patches, (page, name, test)


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
