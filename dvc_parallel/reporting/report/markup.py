"""Parts of a page, written so that nothing from outside becomes a part of it."""

from collections.abc import Iterable, Sequence
from html import escape

from .text import clean, time

NONE = "\u2013"
LONG = 40  # characters of what may be broken anywhere, as in page.js


def html(text: str) -> str:
    """Text as a page shows it, whatever is in it."""
    return escape(clean(text))


def paths(text: str) -> str:
    """Text that is broken into lines between folders, where there is little room."""
    return html(text).replace("/", "/<wbr>")


def section(name: str, title: str, content: str) -> str:
    """A part of the page with a heading; ``content`` is HTML."""
    return (
        f'<section aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{html(title)}</h2>{content}</section>'
    )


def table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells; columns whose title starts with "#" are numbers."""
    columns = "".join(
        f'<th scope="col" class="number">{html(title[1:])}</th>'
        if title.startswith("#")
        else f'<th scope="col">{html(title)}</th>'
        if title
        else "<td></td>"
        for title in head
    )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def text_cell(text: str) -> str:
    return f'<th scope="row">{html(text)}</th>'


def name_cell(name: str) -> str:
    """The name of a stage, which is not broken into lines unless it is long."""
    kind = "name long" if len(name) > LONG else "name"
    return f'<th scope="row" class="{kind}">{paths(name)}</th>'


def cell(text: str, kind: str = "") -> str:
    kind = kind or ("long" if len(text) > LONG else "")
    return f'<td class="{kind}">{paths(text)}</td>'


def seconds_cell(seconds: float) -> str:
    return cell(time(seconds) if seconds else NONE, "number")


def bars(parts: Iterable[tuple[float, str]]) -> str:
    # NOTE: attributes of SVG, as the policy allows no styles of elements
    bars, start = "", 0.0
    for share, phase in parts:
        bars += (
            f'<rect class="{phase}" x="{start:.2%}" width="{share:.2%}" height="100%"/>'
        )
        start += share
    return f'<svg aria-hidden="true">{bars}</svg>'
