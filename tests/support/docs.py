"""The code blocks of the documentation, and a run of all commands of a page.

- ``console``: commands after ``$ ``, each with what it shows below it. They run, unless
  the first line is ``# needs <what>``, with one of :data:`NEEDS` that is not here.
- A first line ``# <name of a file>``, in a block of any other language: the file.
- ``sh``: commands for the clone, which have tests of their own.
- No language: what something prints.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from tests import HANGS

ROOT = Path(__file__).parents[2]

# What a block may need that is not there when tests run.
RUNNER = "the package above"
NEEDS = {
    "a cluster",
    "a running Dask scheduler",
    "an S3 bucket",
    "bash-completion",
    "fish",
    "half a minute",
    "Kedro",
    "Kubernetes",
    "scikit-learn",
    "Slurm",
    "strace",
    "these programs",
    "zsh",
    RUNNER,
}

# What of that is here: nothing, and what can be installed everywhere.
HERE = {"", *(name for name in ("strace",) if shutil.which(name))}

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([~\w./-]*\.\w+)")
_MARK = "\x1e"


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        file: the name of the file that it is, if it is one.
        needs: what it needs to run, if it says so.
    """

    language: str
    text: str

    @property
    def _title(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def file(self) -> str:
        match = _FILE.fullmatch(self._title)
        return match[1] if match and self.language != "console" else ""

    @property
    def needs(self) -> str:
        is_marked = self.language == "console" and self._title.startswith("# needs ")
        return self._title[len("# needs ") :] if is_marked else ""


@dataclass(frozen=True)
class Command:
    """A command, maybe of several lines, and the lines that it is said to show."""

    text: str
    shown: tuple[str, ...]

    @property
    def fails(self) -> bool:
        return any(line.startswith("ERROR:") for line in self.shown)


def blocks(page: str, *languages: str) -> list[Block]:
    """Blocks of a page in these languages; in all, if none is given."""
    found = [
        Block(language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))
        for indent, language, text in _BLOCK.findall((ROOT / page).read_text())
    ]
    return [block for block in found if not languages or block.language in languages]


def commands(block: Block) -> Iterator[Command]:
    """Commands of a ``console`` block."""
    lines = block.text.splitlines()[1 if block.needs else 0 :]
    while lines:
        first = lines.pop(0)
        assert first.startswith("$ "), f"not a command: {first}"
        text = [first[2:]]
        while lines and _goes_on(text):
            text.append(lines.pop(0))
        shown = []
        while lines and not lines[0].startswith("$ "):
            shown.append(lines.pop(0))
        yield Command("\n".join(text), tuple(shown))


def _goes_on(text: list[str]) -> bool:
    if here := re.search(r"<<'?(\w+)'?", text[0]):
        return len(text) == 1 or text[-1] != here[1]
    return text[-1].endswith("\\")


def run_page(page: str, folder: Path, edit=str, there: str = "") -> None:
    """Run all commands of a page, from top to bottom, in one shell.

    It begins in a folder that has the examples of the clone.

    Args:
        edit: changes a command before it runs.
        there: that of :data:`NEEDS` which is there.

    Raises:
        AssertionError: one has failed, or has not shown what the page says.
    """
    steps = list(_steps(page, there))
    script = ["exec 2>&1"]
    for step in steps:
        if isinstance(step, Block):
            script += [f"mkdir -p $(dirname {step.file})"]
            script += [f"cat > {step.file} <<'END OF FILE'\n{step.text}END OF FILE"]
        else:
            test = "-ne" if step.fails else "-eq"
            script += [edit(step.text), f"[ $? {test} 0 ] || exit 1"]
        script += [f"printf '{_MARK}'"]
    clone = folder / "clone"
    clone.mkdir()
    (clone / "examples").symlink_to(ROOT / "examples")
    result = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=clone,
        env={**os.environ, "HOME": str(folder)},
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=HANGS,
    )
    *printed, rest = result.stdout.split(_MARK)
    for step, text in zip(steps, printed):
        for line in step.shown if isinstance(step, Command) else ():
            if not _pattern(line).search(text):
                raise AssertionError(f"{page}: {step.text}: no '{line}' in\n{text}")
    if result.returncode:
        raise AssertionError(f"{page}: {steps[len(printed)].text}\n{rest}")


def _steps(page: str, there: str) -> Iterator[Union[Block, Command]]:
    for block in blocks(page):
        if block.file:
            yield block
        elif block.language == "console" and block.needs in (*HERE, there):
            yield from commands(block)


def _pattern(line: str) -> re.Pattern:
    """What a line looks like, whatever its figures, hashes and widths of columns."""
    words = re.split(r"(\b[0-9a-f]{8}\b|\d[\d.]*|\s+|\.\.\.)", line.strip())
    return re.compile("".join(map(_word_pattern, words)))


def _word_pattern(word: str) -> str:
    if word == "...":
        return ".*"
    if word.isspace():
        return r"\s+"
    if re.fullmatch(r"[0-9a-f]{8}", word):
        return "[0-9a-f]{8}"
    return r"[\d.]+" if word[:1].isdigit() else re.escape(word)


def dvc_commands(command: str) -> Iterator[list[str]]:
    """The arguments of each ``dvc`` in a line of shell."""
    for part in re.split(r"\s*(?:&&|\|\||[;|]|>.*)\s*", command):
        words = shlex.split(part, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0], re.DOTALL):
            words.pop(0)
        if words and words[0] == "dvc":
            yield words[1:]
