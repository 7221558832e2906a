"""The code blocks of the documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


# Stands for all programs of the pages: makes whatever a stage called so may have made.
PROGRAM = """
import sys
for suffix in (".json", ".pt", ".txt"):
    with open(sys.argv[1] + suffix, "w") as fobj:
        fobj.write(sys.argv[1])
"""


PROGRAMS = ["fetch", "join", "load", "plot", "report", "train"]


def blocks(page, *languages):
    """Blocks of code in a page, with their languages."""
    pattern = rf"```({'|'.join(languages)})\n(.*?)```"
    return re.findall(pattern, (ROOT / page).read_text(), re.DOTALL)
