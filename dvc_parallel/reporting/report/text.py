"""Text from outside, names, commands and logs, made fit to be shown."""

import os
import re
from typing import BinaryIO

from dvc_parallel.engine.terminal import duration, visible

# Lines of a log that are shown.
TAIL_LINES = 200

# ECMA-48 (5th edition, 1991), 5.4: control sequences; 5.6: control strings, such as the
# titles and links of terminals.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
)
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# What a backslash in Markdown takes the meaning of (GFM 0.29, 6.1).
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def clean(text: str) -> str:
    """Text without what a page cannot hold: controls, halves of characters."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return _UNSEEN.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def shorten(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def literal(text: str) -> str:
    """A line that Markdown shows as it is, in a table, too."""
    return _PUNCTUATION.sub(r"\\\g<0>", visible(" ".join(text.split())))


def tail(log: BinaryIO, most: int) -> tuple[str, bool]:
    """The last lines of a log, whatever bytes it holds and however large it is.

    Args:
        log: the log, opened for reading.
        most: how many bytes at its end are looked at.

    Returns:
        tuple: the text, and whether there was more before it.

    Raises:
        OSError: it cannot be read.
    """
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - most))
    data = log.read(most)
    more = size > most
    lines = data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
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
