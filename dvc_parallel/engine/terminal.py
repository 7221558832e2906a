"""Streams and terminals, where the text of others must not move the cursor.

A terminal takes some bytes for commands: to go elsewhere and write over what is there,
to change its title, to put something into the clipboard.  Of these, output may only
change colours, up to the end of its line.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Optional, TextIO, Union

# ECMA-48 (5th edition, 1991), 5.4: control sequences, of which 8.3.117, SGR, selects
# colours; 5.6: control strings; 5.3: C1 controls, here as they are in UTF-8; 5.2: C0
# controls, without tabs and ends of lines.
_CONTROLS = re.compile(
    rb"(\x1b\[[0-9;:]*m)"
    rb"|\x1b\[[0-?]*[ -/]*[@-~]"
    rb"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    rb"|\x1b[ -/]*[0-~]?"
    rb"|\xc2[\x80-\x9f]"
    rb"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
_COLORED = re.compile(rb"\x1b\[[^\n]*")
_RESET = b"\x1b[0m"
# What cannot be shown: controls; what changes the direction of what follows (Unicode
# Standard Annex 9, 2.1 to 2.6), or ends a line unlike all others; and halves of
# characters, which cannot even be written.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)

# Bytes that are kept of a line that is being overwritten.
LINE_LIMIT = 2**16


def write(stream: TextIO, text: bytes) -> None:
    """Write bytes to stdout or stderr."""
    stream.flush()
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(text.decode(errors="replace"))
    else:
        # NOTE: as the command has printed it, whatever its encoding
        binary.write(text)
    stream.flush()


def is_dumb() -> bool:
    """Whether terminals know no control sequences, as far as users have said."""
    return os.environ.get("TERM", "dumb") in ("", "dumb", "unknown")


def has_colors(stream: Union[TextIO, BinaryIO]) -> bool:
    """Whether a stream is a terminal with colours, and the user wants them.

    See https://no-color.org: any value but the empty one means no.
    """
    return stream.isatty() and not is_dumb() and not os.environ.get("NO_COLOR")


def columns_of(stream: Any) -> Optional[int]:
    """How wide the terminal is that a stream writes to, None if that is not known."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (AttributeError, OSError, ValueError):
        return None


def last_states(data: bytes, columns: Optional[int] = None) -> tuple[bytes, bytes]:
    """Output without what has been overwritten in it, as progress bars do.

    Args:
        data: whole lines, or the last one without its end.
        columns: width of a terminal for lines that were overwritten, as what is wider
            would not be overwritten there as a whole.

    Returns:
        what can be shown; and the last line if that is being overwritten, for which
        the rest is to come.
    """
    if b"\r" not in data:
        return data, b""
    *lines, rest = (_last_state(line, columns) for line in data.split(b"\n"))
    if not data.endswith(b"\n"):
        end = data[data.rfind(b"\n") + 1 :]
        if b"\r" in end and len(rest) < LINE_LIMIT:
            # NOTE: so that it counts as overwritten with what comes next, too
            state = b"\r" + _last_state(end) + b"\r" * end.endswith(b"\r")
            return b"".join(line + b"\n" for line in lines), state
    return b"\n".join([*lines, rest]), b""


def _last_state(line: bytes, columns: Optional[int] = None) -> bytes:
    # NOTE: some programs go back character by character
    state = line.rstrip(b"\r\b")
    _, overwritten, state = state.rpartition(b"\r")
    if not overwritten or columns is None:
        return state
    text = without_controls(state).decode(errors="replace")
    # NOTE: this imports rich
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= columns:
        return state
    return set_cell_size(text, max(0, columns)).encode()


def harmless(data: bytes) -> bytes:
    """Output of a command, with colours that end in their lines and no other controls.

    Carriage returns are left: it is for the caller to know what they do.

    Args:
        data: in UTF-8, or at least not in an encoding with 8-bit controls.
    """
    shown = _CONTROLS.sub(lambda match: match[1] or b"", data)
    return _COLORED.sub(rb"\g<0>" + _RESET, shown)


def harmless_on(stream: Union[TextIO, BinaryIO], data: bytes) -> bytes:
    """Output of a command for a stream: as it is, if that is no terminal."""
    if not stream.isatty():
        return data
    return harmless(data) if has_colors(stream) else without_controls(data)


def without_controls(data: bytes) -> bytes:
    """Output of a command as plain text."""
    return _CONTROLS.sub(b"", data)


def visible(text: str, *, lines: bool = False) -> str:
    """Text of others, with its controls made visible and harmless.

    Args:
        lines: whether it may be more than one line, as commands and errors may, and
            names may not.
    """
    shown = _UNSEEN.sub(_escaped, text)
    return shown if lines else shown.replace("\n", "\\n")


def _escaped(match: re.Match) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def duration(seconds: float) -> str:
    """Some seconds as users read them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def plural(count: int, noun: str) -> str:
    """A number of things, such as "1 stage" and "2 stages"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def speedup(busy: float, seconds: float, shown: str) -> str:
    """How many times as fast as one job some were, such as "1.6x"; "" if they were not.

    Args:
        busy: seconds that all stages took, added up.
        seconds: that the run took.
        shown: what it is a part of, as "{}".
    """
    ratio = busy / max(seconds, 1e-3)
    return shown.format(f"{ratio:.1f}x") if ratio >= 1.05 else ""


def whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, in chunks that cut no control in two; none spans two lines."""
    rest = b""
    for chunk in chunks:
        chunk = rest + chunk
        # NOTE: where there is no end of a line, characters stay whole
        end = 1 + chunk.rfind(b"\n") or len(chunk) - chunk.endswith(b"\xc2")
        yield chunk[:end]
        rest = chunk[end:]
    yield rest


@contextmanager
def escaping_streams() -> Iterator[None]:
    """Let stdout and stderr escape what their encoding lacks, instead of failing."""
    before: list[tuple[Any, Any]] = []
    for stream in (sys.stdout, sys.stderr):
        # NOTE: there may be none, or one of a test, or one of colorama's around it
        if hasattr(stream, "reconfigure") and stream.errors != "backslashreplace":
            before.append((stream, stream.errors))
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in before:
            stream.reconfigure(errors=errors)
