"""The page of a run: nothing of a run becomes code in it, and it is small."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from dvc_parallel.engine.own_files import OwnFolder
from dvc_parallel.reporting.records.log_files import end_of
from dvc_parallel.reporting.report.page import page
from dvc_parallel.reporting.report.sections import Failure
from dvc_parallel.reporting.report.text import TAIL_LINES, clean, tail, time
from tests.support.journals import Journal, large, summed_up

EVIL = "</script><script>alert(1)</script><!--{{data}}&amp;\"'\ud800\x00\x1b[31m"
SHOWN = "</script><script>alert(1)</script><!--{{data}}&amp;\"'?"


class Parser(HTMLParser):
    """Collects what a browser would: elements, and texts by the element."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "rect", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def make_page(tmp_path):
    def make(journal, log="", **header):
        run, found = summed_up(journal, tmp_path)
        failures = [Failure(stage, log, "x.log") for stage in found.failed]
        return page({**run.header, **header}, "failed", found, failures)

    return make


@pytest.mark.parametrize(
    "started, shown",
    [
        ("2026-11-29T01:45:46.011+00:00", "2026-11-29 01:45:46 UTC"),
        ("2026-11-29T01:45:46+02:00", "2026-11-28 23:45:46 UTC"),
        ("yesterday", "yesterday"),
    ],
)
def test_when_the_run_started(make_page, started, shown):
    text = make_page(Journal({}, [1.0]), started=started)
    assert f", started {shown}: " in text


def test_nothing_of_a_run_becomes_code(make_page):
    journal = Journal(
        {1: [0]}, [1.0, 1.0], names=[f"a{EVIL}", f"b{EVIL}"], failing=frozenset({1})
    )
    text = make_page(journal, log=clean(EVIL), command=f"dvc {EVIL}", dvc=EVIL)
    text.encode()  # no halves of characters
    assert "\0" not in text
    parser = Parser(text)
    assert not parser.open
    assert [attrs.get("type") for attrs in parser.all("script")] == [
        "application/json",
        None,
    ]
    data, _ = parser.texts["script"]
    assert [row[0] for row in json.loads(data)["stages"]] == [f"a{SHOWN}", f"b{SHOWN}"]
    assert parser.texts["title"] == [f"dvc {SHOWN} · 20261121-083000-test"]
    assert parser.texts["pre"] == [SHOWN]
    assert any(f"b{SHOWN}" in text for text in parser.texts["b"])


def test_a_heading_does_not_name_any_number_of_targets(make_page):
    targets = " ".join(f"stage{number}" for number in range(100))
    text = make_page(Journal({}, [1.0]), command=f"dvc repro -f {targets}")
    heading = text[text.index("<h1>") : text.index("</h1>")]
    assert "dvc repro -f stage0 stage1" in heading
    assert "…" in heading
    assert "stage99" not in heading


def test_the_policy_of_the_page_allows_its_own_code_only(make_page):
    parser = Parser(make_page(Journal({}, [1.0])))
    (policy,) = [
        attrs["content"]
        for attrs in parser.all("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = parser.texts["style"]
    _, script = parser.texts["script"]
    for kind, code in (("style", style), ("script", script)):
        digest = b64encode(sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    for _, attrs in parser.tags:
        assert not {"style", "src", "href"} & set(attrs)
        assert not any(name.startswith("on") for name in attrs)


def test_it_needs_nothing_from_elsewhere(make_page):
    text = make_page(Journal({}, [1.0]))
    assert not re.search(r"https?:|url\(|@import|//[a-z]", text.replace("// ", ""))


def test_large_runs_make_pages_of_moderate_size(make_page):
    failing = frozenset(range(0, 3000, 10))
    journal = large(3000, 16, failing=failing, on_error="ignore")
    assert len(make_page(journal, log="x" * 100)) < 1_000_000


def test_empty_run(make_page):
    text = make_page(Journal({1: [0]}, [1.0, 1.0], killed_at=-1))
    assert not Parser(text).open
    assert "Critical path" not in text


@pytest.mark.parametrize(
    "data, shown",
    [
        (b"", ""),
        (b"one\ntwo", "one\ntwo"),
        (b"one\r\ntwo\r\n", "one\ntwo"),
        (b" 10%\r 50%\r100%\ndone\n", "100%\ndone"),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07text", "red text"),
        (b"caf\xe9 \xff\x00 tab\t.", "caf\ufffd \ufffd tab\t."),
    ],
)
def test_tail(data, shown):
    assert tail(data, 1000) == (shown, False)


def test_tail_of_many_lines():
    text, more = tail("".join(f"{i}\n" for i in range(1000)).encode(), 1000)
    assert more
    assert text.split("\n") == [str(i) for i in range(1000 - TAIL_LINES, 1000)]


def test_tail_of_a_huge_log_does_not_read_it(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as fobj:
        fobj.seek(2**40)  # a hole
        fobj.write(b"\nlast \xe2\x82")
    text, more = tail(end_of(OwnFolder(str(tmp_path)), "log", 1001), 1000)
    assert more
    assert text == "last \ufffd"


def test_tail_of_one_long_line():
    assert tail(b"y" * 3000, 1000) == ("y" * 1000, True)


@pytest.mark.parametrize(
    "seconds, shown",
    [
        (0, "0.0 ms"),
        (0.00312, "3.1 ms"),
        (0.0599, "60 ms"),
        (0.0999, "0.10 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (7322, "2 h 2 min"),
    ],
)
def test_time(seconds, shown):
    assert time(seconds) == shown
