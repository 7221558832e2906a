"""The lines of the view."""

import pytest

from dvc_parallel.engine.reporter_events import Phase, RunInfo, StageInfo
from dvc_parallel.reporting.live import DOING, LiveView, fitted

SUBJECTS = [f"preprocess_recordings_of_subject_{i:02}" for i in range(40)]
GRID = [f"train@resnet-lr-0.{a}-seed-{b}-long" for a in (1, 2) for b in range(3)]


@pytest.fixture
def make_view(monkeypatch):
    """Make the view of a run whose stages run their commands, if not told otherwise."""
    monkeypatch.setenv("TERM", "xterm")
    views = []

    def make(names, over=0, phase=Phase.COMMAND):
        view = LiveView(clock=lambda: 1000.0)
        views.append(view)
        view.begun(RunInfo([StageInfo(name) for name in names], 40, "fail"))
        for stage in range(len(names)):
            view.phase(stage, phase, cmd="")
            if stage < over:
                view.phase(stage, Phase.UNCHANGED, seconds=1.0)
        return view

    yield make
    for view in reversed(views):
        view.close()


def texts(view, width, height):
    lines = [line.plain for line in view.lines(width, height)]
    assert all(len(line) <= width for line in lines)
    # NOTE: there is room for what is printed
    assert len(lines) <= max(2, height * 2 // 3)
    return lines


@pytest.mark.parametrize("width", [15, 24, 40])
@pytest.mark.parametrize(
    "names",
    [
        SUBJECTS,
        [f"{name}_smoothed_by_8mm" for name in SUBJECTS],
        [name.replace("_of", "@of") for name in SUBJECTS],
        ["train@svm", "train@a_random_forest_of_many_trees", "evaluate"],
    ],
)
def test_names_that_are_cut_differ(names, width):
    shown = fitted(names, width)
    assert len({*shown}) == len(names)
    assert all(len(name) <= width for name in shown)


def test_what_is_cut_out_is_in_the_middle():
    assert fitted(SUBJECTS[:2], 15) == ["preproc…ject_00", "preproc…ject_01"]
    assert fitted(GRID[:1], 24) == ["train@resne…-seed-0-long"]
    assert len({*fitted(GRID, 24)}) == len(GRID)
    assert fitted(["a_long_name_of_a_stage@item"], 15) == ["a_long_…ge@item"]
    assert fitted(["a_long_name@the_item"], 15) == ["a_lon…@the_item"]
    assert fitted(["long_enough", "short"], 5) == ["nough", "short"]


@pytest.mark.parametrize("size", [(60, 15), (100, 30)])
def test_names_on_a_terminal(make_view, size):
    lines = texts(make_view(SUBJECTS), *size)
    assert lines[-1] == f"and {40 - len(lines) + 2} more"
    assert [line.split()[0][-3:] for line in lines[1:-1]] == [
        f"_{i:02}" for i in range(len(lines) - 2)
    ]


@pytest.mark.parametrize("size", [(60, 15), (100, 30)])
def test_stages_for_which_there_is_no_room_are_shown_as_groups(make_view, size):
    names = [f"train@{i}" for i in range(40)] + [f"test@{i}" for i in range(2)]
    lines = texts(make_view(names, over=12), *size)
    assert "12/42, 30 running" in lines[0]
    listed = len(lines) - 3
    assert lines[1].split()[:2] == ["train@12", "0:00"]
    assert lines[-2].split() == [
        "train@*",
        "12/40",
        *f"{28 - listed} more running".split(),
    ]
    assert lines[-1].split() == ["test@*", "0/2", "2", "running"]


def test_many_groups_and_other_stages_share_a_line(make_view):
    names = [f"{stage}@{i}" for stage in "abcdefgh" for i in range(3)] + ["x", "y"]
    lines = texts(make_view(names), 60, 9)
    shown = [line.split() for line in lines[1:]]
    assert len(shown) == 5
    assert shown[-1][0] == "and"
    listed = [words for words in shown[:-1] if "*" not in words[0]]
    grouped = [int(words[2]) for words in shown[:-1] if "*" in words[0]]
    assert len(listed) + sum(grouped) + int(shown[-1][1]) == len(names)


def test_what_does_not_run_is_neither_running_nor_done(make_view):
    view = make_view(["good", "bad", "late", "never", "runs", "fails"], over=1)
    view.phase(1, Phase.FAILED, seconds=1.0, error="why")
    for stage in (2, 3):
        view.phase(stage, Phase.NOT_RUN, failed=1)
    view.phase(5, Phase.LOCK, failing=True)
    head = texts(view, 80, 24)[0]
    assert head.endswith(" 2/6, 1 running, 1 failed, 2 not run")
    assert head.count("━") == (80 // 4) * 2 // 6
    view = make_view(["waits"], phase=Phase.LOCK)
    head, line = texts(view, 80, 24)
    assert head.endswith(" 0/1, 0 running")
    assert line.split()[2:] == DOING[Phase.LOCK].split()


def test_a_stage_whose_command_has_failed_is_not_being_saved(make_view):
    view = make_view(["good", "bad"])
    view.phase(0, Phase.LOCK)
    view.phase(1, Phase.LOCK, failing=True)
    assert [line.split()[2:] for line in texts(view, 80, 24)[1:]] == [
        DOING[Phase.LOCK].split(),
        ["failed"],
    ]
    view.phase(1, Phase.FAILED, seconds=1.0, error="why")
    assert len(texts(view, 80, 24)) == 2


def test_only_the_name_of_a_stage_has_its_color(make_view):
    _, line = make_view(["train"]).lines(40, 10)
    assert not line.style
    first = line.spans[0]
    assert line.plain[first.start : first.end] == "train"
