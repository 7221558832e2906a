from xml.etree import ElementTree as ET

import pytest

from benchmarks.plot import Axis, plot, points
from benchmarks.results import Measured, Results, Row

SVG = "{http://www.w3.org/2000/svg}"


def make_results(*measured):
    return Results("2020-01-01T00:00:00+00:00", {}, {}, {}, 1, 60.0, list(measured))


def fan(size, *rows, name="cp-fan"):
    return Measured(name, size, "", size + 1, {}, list(rows))


def test_well_formed():
    results = make_results(
        fan(200, Row("serial DVC", None, [42.8]), Row("<&>", 4, [7.0])),
        fan(50, Row("serial DVC", None, [4.6]), Row("<&>", 4, [])),
        fan(50, Row("serial DVC", None, [1.0]), name="no-op"),
    )
    root = ET.fromstring(plot(results))
    assert root.tag == f"{SVG}svg"
    labels = [text.text for text in root.iter(f"{SVG}text")]
    assert labels.count("serial DVC") == 2
    assert "<&> -j 4" in labels
    assert {"cp-fan", "no-op", "stages", "seconds"} <= set(labels)
    assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text


def test_all_points_are_inside():
    results = make_results(
        *(fan(size, Row("serial DVC", None, [size**2 / 1e3])) for size in (7, 2000))
    )
    root = ET.fromstring(plot(results))
    width, height = (float(root.get(key)) for key in ("width", "height"))
    dots = list(root.iter(f"{SVG}circle"))
    assert len(dots) == 4  # two of them in the legend
    for dot in dots:
        assert 0 < float(dot.get("cx")) < width
        assert 0 < float(dot.get("cy")) < height


def test_nothing_to_draw():
    ET.fromstring(plot(make_results()))
    ET.fromstring(plot(make_results(fan(5, Row("make", 4)))))


def test_points_are_sorted_medians():
    found = points(
        [
            fan(9, Row("make", 4, [1.0, 2.0, 9.0])),
            fan(3, Row("make", 4, [1.0]), Row("dvx", 4, [], ["no"])),
        ]
    )
    assert found == {"make -j 4": [(4, 1.0), (10, 2.0)]}


@pytest.mark.parametrize(
    "values,ticks",
    [
        ([1, 1], [1, 2]),
        ([3, 4], [2, 5]),
        ([0.03, 0.3], [0.02, 0.05, 0.1, 0.2, 0.5]),
        ([51, 1001], [50, 100, 200, 500, 1000, 2000]),
    ],
)
def test_ticks(values, ticks):
    axis = Axis(values, 0, 100)
    assert axis.ticks == pytest.approx(ticks)
    assert axis(axis.ticks[0]) == 0
    assert axis(axis.ticks[-1]) == 100
