"""What the log of a CI takes for commands: ours, and nothing of what stages print."""

import io
import logging
import sys
from contextlib import ExitStack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dvc_parallel.engine.plain_reporter import PlainReporter
from dvc_parallel.engine.reporter_events import Phase, RunInfo, StageInfo
from dvc_parallel.reporting import ci_log, output_reporters
from dvc_parallel.reporting.ci_log import GitHub, GitLab, LogOfService, place_of
from dvc_parallel.reporting.output_reporters import GroupedReporter
from dvc_parallel.reporting.records.writer import Recorder
from tests.support.ci import log_commands

PIECES = [
    *(b"::error::x", b"::group::", b"::", b":", b"##[error]x", b"##[", b"#", b"["),
    *(b"::stop-commands::t", b"::t::", b"##[\\", b"\\"),
    *(b" ", b"\t", b"\x0b", b"\x0c", b"\x00", b"\x85", b"\xc2\x85", b"\xc2", b"\xa0"),
    *(b"\xe3\x80\x80", b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xef\xbb\xbf", b"\xc2\xad"),
    *(b"\n", b"\r", b"\r\n", b"\b", b"text"),
    *(b"\x1b[0Ksection_start:1:x\r\x1b[0K", b"section_end:1:x", b"\r\x1b[0K"),
    *(b"\x1b[0K", b"\x1b[31m", b"\x1b[m", b"\x1b", b"\x1b]0;", b"\x07"),
]
output = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["stdout", "stderr"]),
        st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join),
    ),
    max_size=12,
)


@pytest.mark.parametrize(
    "data, found",
    [
        (b"\xe3\x80\x80\t ::error file=x::y", ["error"]),
        (b"a\r::error::y", ["error"]),
        (b"a ::error::y", []),
        (b"a ##[error]y", ["error"]),
        (b"\x1b[0Ksection_start:1:a.b[collapsed=true]\r\x1b[0Ktitle", ["start"]),
    ],
)
def test_what_is_a_command(data, found):
    assert list(log_commands(data)) == found
    assert not list(log_commands(ci_log.harmless_in_log(data)))


@pytest.fixture
def written(monkeypatch):
    """What is written to both streams, as whole writes in their order."""
    texts = []

    def write(_stream, text):
        texts.append(text)

    for module in (ci_log, output_reporters):
        monkeypatch.setattr(module, "print_bytes", write)
    return texts


def run_of(*names):
    return RunInfo([StageInfo(name) for name in names], 2, "fail")


@pytest.fixture(scope="module")
def tmp_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tmp"))


@pytest.mark.parametrize("service", [None, GitHub(), GitLab()])
@pytest.mark.parametrize("ended", [Phase.RAN, Phase.FAILED, Phase.INTERRUPTED])
def test_no_output_is_a_command(service, ended, written, tmp_dir):
    expected = {
        GitHub: ["group", "endgroup"] if ended is Phase.RAN else [],
        GitLab: ["start", "end"] if ended is Phase.RAN else [],
    }

    @settings(max_examples=25)
    @given(output, st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join))
    def check(printed, name):
        written.clear()
        with ExitStack() as stack:
            recorder = Recorder(tmp_dir)
            stack.callback(recorder.close)
            if service:
                shown = GroupedReporter(recorder, ci_log.write, service)
            else:
                shown = PlainReporter(None, ci_log.write)
            reporters = [recorder, shown, LogOfService(service or GitLab(), shown)]
            for reporter in reporters:
                reporter.begun(
                    run_of(f"a{name!r}:{name.decode(errors='replace')}", "b")
                )
            for stage in (0, 1):
                for reporter in reporters:
                    reporter.phase(stage, Phase.COMMAND, cmd="::error::x")
            for stage, stream, data in printed:
                for reporter in (recorder, shown):
                    reporter.output(stage, stream, data)
            for stage in (0, 1):
                for reporter in reporters:
                    reporter.phase(stage, ended, error="::x\n::error::y", seconds=1.0)
        found = list(log_commands(b"".join(written)))
        ours = 2 * expected[type(service)] if service else []
        errors = [name for name in found if name == "error"]
        assert [name for name in found if name != "error"] == ours
        assert len(errors) == 2 * (ended is Phase.FAILED and type(service) is GitHub)

    check()


def test_a_line_of_more_than_is_read_at_a_time(written, tmp_dir):
    """The rest of it does not begin with what its end would make a command."""
    recorder = Recorder(tmp_dir)
    shown = GroupedReporter(recorder, ci_log.write, GitHub())
    for reporter in (recorder, shown):
        reporter.begun(run_of("a"))
    for reporter in (recorder, shown):
        reporter.phase(0, Phase.COMMAND, cmd="x")
        reporter.output(0, "stdout", b" " * (2**21 - 5) + b"::error::forged\n")
        reporter.phase(0, Phase.RAN, seconds=1.0)
    recorder.close()
    assert list(log_commands(b"".join(written))) == ["group", "endgroup"]


class Stream(io.BytesIO):
    def isatty(self):
        return False


@example([b" :", b":error::x"])
@example([b"#", b"#[error]x"])
@example([b"a##", b"[error]x"])
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join)))
def test_no_log_that_is_shown_in_parts_is_a_command(parts):
    stream = Stream()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTIONS", "true")
        shown = b"".join(ci_log.harmless_output(stream, part) for part in parts)
    assert not list(log_commands(shown))
    assert ci_log.harmless_output(stream, shown) == shown


def test_messages_that_quote_a_command(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    logger = logging.getLogger("dvc")
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    try:
        for _ in range(2):
            ci_log.guard_messages()
        logger.warning("no\n%s", "::error::forged \x1b[0K")
        try:
            raise ValueError("\n##[error]forged")
        except ValueError:
            logger.exception("")
    finally:
        logger.removeHandler(handler)
        for other in logger.handlers:
            if isinstance(other.formatter, ci_log._Messages):
                other.setFormatter(other.formatter._formatter)
    out = capsys.readouterr().out
    assert out.startswith("no\n\\::error::forged \n")
    assert "\n##[\\error]forged" in out
    assert not list(log_commands(out.encode()))


def test_colours_are_shown_unless_not_wanted(monkeypatch):
    assert ci_log.harmless_in_log(b"\x1b[31mred\n") == b"\x1b[31mred\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert ci_log.harmless_in_log(b"\x1b[31mred\n") == b"red\n"


def test_an_error_is_escaped_as_github_wants_it():
    place = {"file": "a,b:c.yaml", "line": "3"}
    told = GitHub().error("x: 100%", "a::b\nc, %0A", place)
    assert told == (
        b"::error title=x%3A 100%25,file=a%2Cb%3Ac.yaml,line=3::a::b%0Ac, %250A\n"
    )


def test_only_some_errors_are_shown_at_their_places(written):
    told = LogOfService(GitHub(), PlainReporter(None, ci_log.write))
    told.begun(run_of(*map(str, range(99))))
    for stage in range(99):
        told.phase(stage, Phase.FAILED, error="why")
    assert len(written) == ci_log.MOST_ERRORS


DVC_YAML = """\
# stages:
vars:
  - {train: 1}
stages:
  # train:
  prepare:
    cmd: |
      train:
  "train":
    foreach: [svm]
    do: {cmd: echo}
  a b : {cmd: "train: x"}
plots:
  other:
"""


@pytest.mark.parametrize(
    "name, line",
    [("prepare", 6), ("train@svm", 9), ("train", 9), ("a b", 12), ("other", None)],
)
def test_the_line_of_a_stage(name, line):
    assert ci_log._line_of(name.partition("@")[0], DVC_YAML) == line


def test_the_place_of_a_stage(tmp_path, monkeypatch):
    folder = tmp_path / "clone" / "sub"
    folder.mkdir(parents=True)
    for path in (folder, folder.parent, tmp_path):
        (path / "dvc.yaml").write_text("\nstages: \n  a:\n    cmd: x\n")
    (folder / "flow.yaml").write_text("stages: {a: {cmd: x}}\nplots:\n  a:\n")
    (folder / "data.dvc").write_text("cmd: x\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder.parent))
    assert place_of("a@1") == {"file": "sub/dvc.yaml", "line": "3"}
    assert place_of("../dvc.yaml:a") == {"file": "dvc.yaml", "line": "3"}
    assert place_of("../../dvc.yaml:a") == {}
    assert place_of("data.dvc") == {"file": "sub/data.dvc"}
    assert ci_log._line_of("a", (folder / "flow.yaml").read_text()) is None
