"""A dvc.yaml is read as ruamel.yaml reads it, or not at all."""

import random

import pytest
from dvc.exceptions import DvcException
from dvc.utils.serialize._yaml import parse_yaml

from dvc_parallel.engine.yaml_subset import read_plain

PLAIN = """\
# what there is to do
vars:
- seed: 42
  rate: 0.5

stages:
  make:
    cmd: "echo ${seed} > out/make.txt && ls '*'"
    deps:
      - in/0001.txt
      # the other one
      -   ../in/file with spaces.txt
      - 2024-01-01/data.txt
    outs:
    - out/make.txt:
        cache: false
        persist: true
    - 'it is: # 1'
    meta:
  each@1:
    foreach: ${items}
    do:
      cmd: touch ${item.name}  
"""  # noqa: W291

# What may be in a line, after its indentation
CONTENTS = [
    *["", "# é", "#\u2028a: b", "a:", "a: b", "b: c # d", "c: 'd'", 'd: "e"', "e: 010"],
    *["- a", "- a: b", "-  b: c", "- - a", "-", "- 'a': b", '"a": b', "a b: c", "a:b"],
    *["f: -1", "g: 1.5", "h: 1e3", "i: 0x1f", "j: 2024-01-01", "k: true", "l: True"],
    *["m: null", "n: ~", "o: yes", "p: [a]", "q: {a: b}", "r: |", "s: >-", "t: &a b"],
    *["u: *a", "<<: *a", "v: !!str 1", "w: 'it''s'", 'x: "\\n"', "y: a: b", "z: a:"],
    *[
        "---",
        "--- a: b",
        "...",
        "%YAML 1.1",
        "? a",
        "1: a",
        "a: - b",
        "a: 1:30",
        "\ta: b",
    ],
    *[
        "a: b\t",
        "a: \u00a0b",
        "a: @b",
        "a: `b",
        "a: b ",
        "a :b",
        "a : b",
        "- a:",
        "-\ta",
    ],
]


def ruamel(text):
    try:
        return parse_yaml(text, "dvc.yaml")
    except (DvcException, ValueError):
        return None


def test_what_people_write_is_plain():
    assert read_plain(PLAIN) == ruamel(PLAIN) is not None


@pytest.mark.parametrize("row", CONTENTS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\x00"])
def test_a_line(row, end):
    for text in (row + end, f"a0:\n  a: 1\n  {row}{end}", f"a0:\n- x\n- {row}{end}"):
        data = read_plain(text)
        assert data is None or repr(data) == repr(ruamel(text)), text


@pytest.mark.parametrize("seed", range(8))
def test_lines_at_random(seed):
    rng = random.Random(seed)
    plain = 0
    for _ in range(150):
        some = rng.sample(CONTENTS, 12 if rng.random() < 0.2 else 3)
        some += ["a: b", "b:", "c: d", "- a", "- e: f", "g: 1", "# a", ""]
        rows = [
            " " * rng.choice([0, 0, 2, 2, 4, 3]) + rng.choice(some)
            for _ in range(rng.randint(1, 6))
        ]
        text = "\n".join(rows)
        data = read_plain(text)
        plain += data is not None
        assert data is None or repr(data) == repr(ruamel(text)), text
    assert plain


@pytest.mark.parametrize("text", ["", "# a\n", "- a\n", "a\n", "a: b\na: c\n"])
def test_what_is_no_mapping_or_wrong_is_left_to_ruamel(text):
    assert read_plain(text) is None
