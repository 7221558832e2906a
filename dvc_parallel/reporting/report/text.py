"""Text from outside, names, commands and logs, made fit to be shown."""

import re

from dvc_parallel.engine.terminal import duration, visible, without_controls

# Lines of a log that are shown.
TAIL_LINES = 200

# What a backslash in Markdown takes the meaning of (GFM 0.29, 6.1).
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def clean(text: str) -> str:
    """Text without what a page cannot hold: controls, halves of characters."""
    data = text.encode("utf-8", "replace").replace(b"\r", b"")
    return without_controls(data).decode("utf-8", "replace")


def shorten(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def literal(text: str) -> str:
    """A line that Markdown shows as it is, in a table, too."""
    return _PUNCTUATION.sub(r"\\\g<0>", visible(" ".join(text.split())))


def tail(log: bytes, most: int) -> tuple[str, bool]:
    """The last lines of a log, and whether there was more before them.

    Args:
        log: its last bytes, whatever they are.
        most: how many of them are looked at.
    """
    more = len(log) > most
    text = log[-most:].decode("utf-8", "replace")
    lines = text.replace("\r\n", "\n").split("\n")
    if more and len(lines) > 1:
        del lines[0]  # where it begins is not known
    while lines and not lines[-1]:
        del lines[-1]
    more = more or len(lines) > TAIL_LINES
    # NOTE: of a progress bar, what a terminal would still show
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in lines[-TAIL_LINES:]]
    return clean("\n".join(shown)), more


def time(seconds: float) -> str:
    """A duration as people read it."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.{1 if seconds < 0.00995 else 0}f} ms"
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    return duration(max(60.0, seconds))
