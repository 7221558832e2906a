"""Text of others on a terminal, which may move the cursor, but for what we put there.

A terminal takes some bytes for commands: to go elsewhere and write over what is there,
to change its title, to put something into the clipboard.  Of these, output may only
change colours, up to the end of its line.
"""

import re

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
# What cannot be shown, and halves of characters, which cannot even be written.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def harmless(data: bytes) -> bytes:
    """Output of a command, with colours that end in their lines and no other controls.

    Carriage returns are left: it is for the caller to know what they do.

    Args:
        data: in UTF-8, or at least not in an encoding with 8-bit controls.
    """
    shown = _CONTROLS.sub(lambda match: match[1] or b"", data)
    return _COLORED.sub(rb"\g<0>" + _RESET, shown)


def without_controls(data: bytes) -> bytes:
    """Output of a command as plain text."""
    return _CONTROLS.sub(b"", data)


def visible(text: str) -> str:
    """A name, a command or an error in which controls can be seen, and do nothing."""
    return _UNSEEN.sub(lambda match: repr(match[0])[1:-1], text)
