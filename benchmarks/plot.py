"""Time against number of stages, as an SVG: one panel a workload, both axes log."""

import math
from collections.abc import Iterable, Sequence
from typing import Optional
from xml.sax.saxutils import escape, quoteattr

from .results import Measured, Results

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 210, 50, 60

# After Okabe and Ito, for the colour-blind, but none that is hard to see on white
# or on black. Those that do not suffice are used again, dashed.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#b58900", "#3a9bd9")

STYLE = """
  text { font: 13px sans-serif; fill: #222 }
  .page { fill: #fff }
  .grid { stroke: #ddd }
  .title { font-weight: bold }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd }
    .page { fill: #16181c }
    .grid { stroke: #3a3d42 }
  }
"""

Points = dict[str, list[tuple[float, float]]]


def plot(results: Results) -> str:
    """An SVG document.

    Args:
        results: of as many sizes of a workload as the lines shall have points.
    """
    by_name: dict[str, list[Measured]] = {}
    for measured in results.measured:
        by_name.setdefault(measured.name, []).append(measured)
    panels = {name: points(found) for name, found in by_name.items()}
    panels = {name: series for name, series in panels.items() if series}
    # The same tool has the same colour in all of the panels.
    labels = list(dict.fromkeys(label for s in panels.values() for label in s))
    height = HEIGHT * max(1, len(panels))
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img">'
        ),
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
    ]
    for at, (name, series) in enumerate(panels.items()):
        parts.append(f'<g transform="translate(0 {at * HEIGHT})">')
        parts.extend(_panel(name, series, labels))
        parts.append("</g>")
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def points(measured: Iterable[Measured]) -> Points:
    """Label of each line -> its (number of stages, median in seconds)."""
    found: Points = {}
    for item in measured:
        for row in item.rows:
            # A logarithm cannot tell what took no time.
            if row.median:
                label = f"{row.tool} -j {row.jobs}" if row.jobs else row.tool
                found.setdefault(label, []).append((item.stages, row.median))
    return {label: sorted(line) for label, line in found.items()}


class Axis:
    """From values to positions, by their logarithm, with ticks at 1, 2, 5, 10, ..."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        self.ticks = _ticks(min(values), max(values))
        self._low, self._high = math.log(self.ticks[0]), math.log(self.ticks[-1])
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log(value) - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)


def _ticks(low: float, high: float) -> list[float]:
    """At least two, the first not above `low` and the last not below `high`."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [m * 10.0**e for e in range(first, last + 2) for m in (1, 2, 5)]
    start = max(i for i, tick in enumerate(every) if tick <= low * (1 + 1e-9))
    end = min(i for i, tick in enumerate(every) if tick >= high * (1 - 1e-9))
    return every[start : max(end, start + 1) + 1]


def _panel(name: str, series: Points, labels: Sequence[str]) -> Iterable[str]:
    every = [point for line in series.values() for point in line]
    x = Axis([size for size, _ in every], LEFT, WIDTH - RIGHT)
    y = Axis([seconds for _, seconds in every], HEIGHT - BOTTOM, TOP)
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    yield _text(LEFT, 28, name, css="title")
    for tick in x.ticks:
        yield _line((x(tick), TOP), (x(tick), bottom))
        yield _text(x(tick), bottom + 20, f"{tick:g}", "middle")
    for tick in y.ticks:
        yield _line((LEFT, y(tick)), (right, y(tick)))
        yield _text(LEFT - 8, y(tick) + 4, f"{tick:g}", "end")
    yield _text((LEFT + right) / 2, bottom + 42, "stages", "middle")
    yield _text(LEFT - 8, TOP - 14, "seconds", "end")
    for at, (label, line) in enumerate(series.items()):
        number = labels.index(label)
        colour = COLOURS[number % len(COLOURS)]
        dash = None if number < len(COLOURS) else "6 4"
        yield _series(label, [(x(size), y(s)) for size, s in line], colour, dash)
        height = TOP + 10 + 22 * at
        yield _series(label, [(right + 16, height), (right + 40, height)], colour, dash)
        yield _text(right + 48, height + 4, label)


def _text(
    x: float, y: float, text: str, anchor: str = "start", css: Optional[str] = None
) -> str:
    attribute = f' class="{css}"' if css else ""
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}"{attribute}>{escape(text)}</text>'
    )


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line class="grid" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _series(
    label: str, line: list[tuple[float, float]], colour: str, dash: Optional[str]
) -> str:
    path = " ".join(f"{x},{y}" for x, y in line)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3.5"/>' for x, y in line)
    return (
        f'<g data-label={quoteattr(label)} stroke="{colour}" fill="{colour}">'
        f'<polyline points="{path}" fill="none" stroke-width="2"{dashes}/>{dots}</g>'
    )
