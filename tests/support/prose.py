"""Words and phrases that stumble: ``python -m tests.support.prose [FILE ...]``.

Looks at the text of pages, without code, and at texts in the modules of the package.
Without files, at all of them.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = (
    "*.md",
    "docs/**/*.md",
    "examples/*/*.md",
    "benchmarks/*.md",
    "dvc_parallel/**/*.py",
)

# What not to write -> what to write.
RULES = {
    r"takes? exception to": "fails on, does not accept",
    r"takes? (it )?for granted": "assumes",
    r"\b(?<![\d.,-])1 (stages|jobs|runs|files|workers|hours|minutes|seconds|slots)\b": (
        "the singular"
    ),
    r"\w\(s\)": "the plural, or a text for each",
    r"\b(is|are) what (it|they) (was|were)\b": "is unchanged",
    r"\bas ever\b": "as before, as without -j",
    r"\btells? more of\b": "describes, explains",
    r"\bmore of it\b": "details",
    r"\b(is|are) (in place among)\b": "is interleaved with",
    r"\b(is|are) not starved\b": "do not starve",
    r"\bleaves? what\b|\bwould have left\b": "produces the same files as",
    r"\btimes of (all )?stages add up\b": "X s of stage time in Y s: 1.6x",
    r"\bno waiting for levels\b": "no level barriers",
    r"\bnobody waits for\b": "say what happens",
    r"\bwho(ever)? needs much\b": "large requests",
    r"(?<!,) but for (that|this|what|the|those)\b": "except",
    r"\bheed(s|ed)?\b": "use, follow, obey",
    r"\bin vain\b": "without effect; or say what happens",
    r"\bin order to\b": "to",
    r"\b(simply|obviously|of course)\b": "nothing: leave it out",
    r"\b(?!that\b|had\b)([a-z]+) \1\b": "the word once",
    r"\butili[sz]e": "use",
}
_RULES = [
    (re.compile(rule.replace(" ", r"(?: +|\n *)"), re.IGNORECASE), better)
    for rule, better in RULES.items()
]
_CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`|<!--.*?-->", re.DOTALL | re.MULTILINE)


def check(text: str) -> Iterator[tuple[int, str, str]]:
    """What stumbles in a text: its line from 1 on, it, and what is better."""
    for rule, better in _RULES:
        for match in rule.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield line, match[0], better


def without_code(page: str) -> str:
    """A page of markdown without its code, with the same lines."""
    return _CODE.sub(lambda match: "\u2026" + "\n" * match[0].count("\n"), page)


def shown_by(module: str) -> str:
    """The texts in a module that are no docstrings, each in its line."""
    tree = ast.parse(module)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None
    }
    lines = [""] * module.count("\n")
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings:
            lines[node.lineno - 1] += node.value.replace("\n", " \u2026 ") + " \u2026 "
    return "\n".join(lines)


def problems(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        text = path.read_text()
        text = shown_by(text) if path.suffix == ".py" else without_code(text)
        for line, found, better in sorted(check(text)):
            words = " ".join(found.split())
            yield f"{path.relative_to(ROOT)}:{line}: '{words}'; better: {better}"


def main(argv: list[str]) -> int:
    paths = [Path(arg).resolve() for arg in argv]
    found = list(problems(paths or sorted({p for f in FILES for p in ROOT.glob(f)})))
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
