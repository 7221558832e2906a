import json

import pytest

from benchmarks.__main__ import main
from benchmarks.results import Measured, Results, Row, machine, now
from benchmarks.table import END, START, table, update
from benchmarks.tools import OURS, SERIAL


def make_results(*rows, rounds=3):
    measured = Measured("cp-fan", 50, "50 stages", 51, {1: 2.0, 4: 0.5}, list(rows))
    return Results(
        now(), machine(), {SERIAL: "dvc 3"}, {}, rounds, 60.0, [measured, measured]
    )


def cells(results):
    """Tool and jobs -> cells of its row in the first table, but for CPU."""
    found = {}
    for line in table(results).splitlines():
        if line.startswith("| ") and not line.startswith("| tool"):
            row = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault((row[0], row[1]), [row[2], *row[4:]])
    return found


def test_json_round_trip(tmp_path):
    results = make_results(
        Row(SERIAL, None, [10.0, 11.5]),
        Row(OURS, 4, [1.0], ["timed out after 60 s"], None, [0.25], True),
        Row("ninja", 4, cannot="ĝi ne estas ĉi tie"),
    )
    path = tmp_path / "results.json"
    results.save(path)
    assert Results.load(path) == results
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["machine"]["cores"] >= 1
    assert data["date"].endswith("+00:00")


def test_results_of_several_runs(tmp_path):
    one = make_results(Row(SERIAL, None, [1.0]), rounds=1)
    other = make_results(Row(OURS, 4, [2.0]), rounds=2)
    other.tools = {OURS: "dvc 3, dvc-parallel"}
    paths = []
    for results in (one, other):
        paths.append(tmp_path / f"{len(paths)}.json")
        results.save(paths[-1])
    both = Results.load(*paths)
    assert both.tools == {**one.tools, **other.tools}
    assert both.measured == one.measured + other.measured
    assert both.rounds == 2


def test_ratios():
    found = cells(
        make_results(
            Row(SERIAL, None, [8.0, 10.0, 99.0]),
            Row(OURS, 1, [11.0]),
            Row(OURS, 4, [1.0, 1.0, 2.0], same_as_serial=True),
        )
    )
    assert found[SERIAL, "-"][:3] == ["10.00", "1.000", "5.00"]
    assert found[OURS, "1"][:3] == ["11.00", "1.100", "5.50"]
    assert found[OURS, "4"][:3] == ["1.00", "0.100", "2.00"]
    assert "same dvc.lock" in found[OURS, "4"][3]


def test_rows_without_figures_say_why():
    found = cells(
        make_results(
            Row(
                SERIAL, None, [], ["timed out after 60 s", "left out after a time-out"]
            ),
            Row(OURS, 4, [3.0, 3.0], ["wrong result: no all.txt"]),
            Row("dvx", 4, [], ["`dvx` exited with 1: a | b"]),
            Row("make", 4, cannot="no `make` on this machine"),
        )
    )
    assert found[SERIAL, "-"][:3] == ["timed out", "-", "-"]
    assert "2 of 2 runs failed: timed out after 60 s" in found[SERIAL, "-"][3]
    # serial DVC would have taken longer than the limit
    assert found[OURS, "4"][:2] == ["3.00", "< 0.050"]
    assert found[OURS, "4"][3] == "1 of 3 runs failed: wrong result: no all.txt"
    assert found["dvx", "4"][0] == "failed"
    assert found["make", "4"][0] == "cannot"
    assert found["make", "4"][3] == "no `make` on this machine"


def test_ratio_to_what_serial_would_have_taken_longer_than():
    """Longer than its own limit, not than that of another workload."""
    timed_out = Row(SERIAL, None, [], ["timed out after 30 s"])
    results = make_results(timed_out, Row(OURS, 4, [3.0]))
    for measured in results.measured:
        measured.limit = 30.0
    assert cells(results)[OURS, "4"][1] == "< 0.100"
    assert "at most 30 s for a run" in table(results)


def test_a_difference_from_serial_is_shouted():
    found = cells(make_results(Row(OURS, 4, [1.0], same_as_serial=False)))
    assert found[OURS, "4"][1] == "-"
    assert "DIFFERS" in found[OURS, "4"][3]


def test_start_delays():
    found = cells(make_results(Row(OURS, 4, [1.0, 1.0], start_delays=[0.1, 2.5])))
    assert "up to 2.50 s late" in found[OURS, "4"][3]


def test_columns_are_aligned():
    rows = [Row(SERIAL, None, [8.0]), Row(OURS, 16, [123.0])]
    lines = table(make_results(*rows)).splitlines()
    starts = {
        tuple(i for i, char in enumerate(line) if char == "|")[:-1]
        for line in lines
        if line.startswith("|")
    }
    assert len(starts) == 1


@pytest.mark.parametrize("rows", [[], [Row(SERIAL, None)]])
def test_an_empty_table(rows):
    assert SERIAL in table(make_results(*rows))


def test_tables_replace_those_of_an_earlier_run_in_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n", encoding="utf-8")
    for text in ("| new |", "| newer |"):
        update(page, text)
    shown = page.read_text(encoding="utf-8")
    assert shown == f"before\n{START}\n\n| newer |\n\n{END}\nafter\n"


def test_a_page_without_a_place_for_tables_stays_as_it_is(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"page\.md has no lines"):
        update(page, "| new |")
    assert page.read_text(encoding="utf-8") == "text\n"


def test_results_of_some_workloads_only(capsys, tmp_path):
    results = make_results(Row(SERIAL, None, [1.0]))
    other = Measured("no-op", 50, "second run", 51, {}, [Row(SERIAL, None, [2.0])])
    results.measured = [other, *results.measured]
    results.save(tmp_path / "results.json")
    main(["--from", str(tmp_path / "results.json"), "--workloads", "no-op"])
    shown = capsys.readouterr().out
    assert "### Second run" in shown
    assert "cp-fan" not in shown
