"""A run as Markdown: nothing of it becomes a link, a picture or HTML."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dvc_parallel.engine.terminal import visible
from dvc_parallel.reporting.report import markdown as module
from dvc_parallel.reporting.report.markdown import markdown
from dvc_parallel.reporting.report.sections import Failure
from tests.support.ci import log_commands
from tests.support.journals import Journal, summed_up

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PIECES = [
    *("|", "\\", "`", "![x](http://y)", "[x](y)", "<b>", "</pre>", "</details>", "*a*"),
    *(
        "\n",
        "\n\n",
        "\r",
        "# x",
        "- ",
        "~~~",
        "```",
        "&amp;",
        "&#124;",
        "_",
        "$x$",
        "é",
    ),
    *(
        "<!--",
        "<script>",
        "http://x.y",
        "www.x.y",
        "name",
        " ",
        "::error::x",
        "##[error]x",
        "\x1b[31m",
        "\u202e",
    ),
]
text = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)


def make(journal, folder, logs=(), state="failed"):
    run, found = summed_up(journal, folder)
    failures = [Failure(*each) for each in zip(found.failed, logs)]
    return markdown(run.header, state, found, failures)


def line(text):
    return visible(" ".join(text.split()))


def test_what_it_shows(tmp_path):
    names = ["prepare", "train@a", "train@b", "last", "idle"]
    journal = Journal(
        {1: [0], 2: [0], 3: [1, 2], 4: []},
        [1.0, 3.0, 9.0, 1.0, None],
        names=names,
        failing=frozenset({1}),
    )
    shown = make(journal, tmp_path, ["a\n\n<b>"])
    assert shown.startswith("### dvc repro \\-j 2 failed\n\n5 stages: 2 ran, ")
    assert "</b> after 3.00 s: failed to reproduce &#x27;train@a&#x27;<" in shown
    assert "<pre>\na\n\n&lt;b&gt;\n</pre>" in shown
    rows = [
        re.split(r" *\| *", row)[1:-1] for row in shown.splitlines() if row[:1] == "|"
    ]
    assert rows[0] == ["Stage", "Outcome", "Time", "Command", "Critical path"]
    assert [row[0] for row in rows[2:]] == ["train\\@a", "train\\@b", "prepare"]
    assert rows[3][1:] == ["ran", "9.00 s", "9.00 s", "yes"]


@pytest.mark.parametrize("most", [1, 100])
def test_of_many_stages_those_that_took_longest(tmp_path, monkeypatch, most):
    monkeypatch.setattr(module, "MOST_STAGES", most)
    failing = frozenset({0, 1})
    journal = Journal({}, [1.0, 1.0, 2.0], failing=failing, on_error="keep-going")
    shown = make(journal, tmp_path, ["x"])
    assert ("\n2 more took less time.\n" in shown) == (most == 1)
    assert "1 more failed." in shown


@settings(max_examples=60)
@given(st.tuples(text, text), text)
def test_nothing_of_a_run_is_markup(tmp_path_factory, names, log):
    journal = Journal({}, [1.0, 2.0], names=[*names], failing=frozenset({0}))
    shown = make(journal, tmp_path_factory.mktemp("run"), [log])
    assert not list(log_commands(shown.encode()))
    tokens = PARSER.parse(shown)
    inline = [child for token in tokens for child in token.children or ()]
    assert {token.type for token in inline} <= {"text", "text_special", "softbreak"}
    blocks = [token.type for token in tokens]
    opened = [it[: -len("_open")] for it in blocks if it.endswith("_open")]
    assert [it for it in opened if it not in ("th", "td")] == [
        *("heading", "paragraph", "paragraph", "table", "thead", "tr", "tbody"),
        *("tr", "tr"),
    ]
    assert opened.count("td") == 2 * 5
    html = [token.content for token in tokens if token.type == "html_block"]
    assert len(html) == 3
    tags = re.findall(r"<(/?\w+)", "".join(html))
    assert tags == [
        *("details", "summary", "b", "/b", "/summary", "pre", "/pre", "/details")
    ]
    cells = [
        "".join(child.content for child in after.children)
        for before, after in zip(tokens, tokens[1:])
        if before.type == "td_open"
    ]
    assert [cells[0], cells[5]] == [*map(line, names)]
