"""LockfileText against DVC's own round trip, at random."""

import datetime as dt
from collections import OrderedDict
from contextlib import suppress
from copy import deepcopy

from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dvc_parallel.engine.lockfile_text import LockfileText
from dvc_parallel.engine.yaml_subset import dumps_simple
from tests.support.lockfile_texts import (
    ENTRY,
    KEEPS_ZONES,
    LOCK,
    TRICKY,
    check_contents,
    check_puts,
    check_values,
    dvc_put,
    is_same,
    move_before,
)

CHARS = st.sampled_from(
    "abcT 019eExo_.:-+#'\"\\/\n\t,?!&*[]{}|>%@`=~$é数\x85\u2028🚀\ufeff"
)
TOKENS = st.text(CHARS, min_size=1, max_size=6) | st.sampled_from(TRICKY)
LONG = st.integers(50, 85).map(lambda n: n * "x")
STRINGS = st.one_of(
    st.sampled_from(TRICKY),
    st.from_regex(r"[a-zA-Z0-9_/.$-]{1,12}", fullmatch=True),
    st.from_regex(r"[0-9]{1,4}[eExob_.:-][0-9a-f]{1,4}", fullmatch=True),
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.text("019e", min_size=32, max_size=32),
    st.text(CHARS, max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    st.lists(TOKENS, max_size=40).map(" ".join),
    st.lists(st.text("abc-/=.é", min_size=1, max_size=30), max_size=20).map(" ".join),
    LONG,
    st.tuples(LONG, TOKENS, TOKENS).map("".join),
    st.tuples(LONG, TOKENS, TOKENS).map(" ".join),
    st.text(CHARS, min_size=70, max_size=400),
)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-100, 100),
    st.floats(),
    st.floats(-10, 10),
    st.decimals(-100, 100, places=3).map(float),
    st.builds(lambda m, e: m * 10.0**e, st.integers(-999, 999), st.integers(-30, 30)),
)
TIMES = st.datetimes()
if KEEPS_ZONES:
    TIMES |= st.datetimes(timezones=st.just(dt.timezone.utc))
SCALARS = st.one_of(
    *(STRINGS, NUMBERS, st.none(), st.booleans(), st.dates()),
    TIMES.map(lambda time: time.replace(fold=0)),
)
# NOTE: no floats, the last digit of which changes when they are keys of odd entries
KEYS = st.one_of(
    *(st.sampled_from(["lr", "train", "a", "b"]), STRINGS, st.integers()),
    *(st.none(), st.booleans(), st.dates()),
)
VALUES = st.recursive(
    st.one_of(STRINGS, NUMBERS, st.none(), st.booleans(), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.lists(inner, min_size=1, max_size=2).map(lambda nodes: nodes + nodes[:1]),
    ),
    max_leaves=8,
)
DATA = st.fixed_dictionaries(
    {"path": STRINGS},
    optional={
        "hash": st.just("md5"),
        "md5": st.text("0123456789abcdef", min_size=32, max_size=32) | STRINGS,
        "size": st.integers(0),
        "nfiles": st.integers(0, 9),
        "isexec": st.booleans(),
        "cloud": st.dictionaries(STRINGS, st.fixed_dictionaries({"etag": STRINGS})),
        "files": st.lists(st.fixed_dictionaries({"relpath": STRINGS, "md5": STRINGS})),
    },
)
ENTRIES = st.fixed_dictionaries(
    {"cmd": STRINGS | st.lists(STRINGS, max_size=5)},
    optional={
        "deps": st.lists(DATA, max_size=3),
        "params": st.dictionaries(
            STRINGS, st.dictionaries(STRINGS, VALUES, max_size=3)
        ),
        "outs": st.lists(DATA, max_size=3),
    },
).map(OrderedDict)
NAMES = st.sampled_from("abcd") | STRINGS
PUTS = st.tuples(NAMES, ENTRIES | st.just(ENTRY), st.none() | st.integers(0, 9))


# NOTE: to search for longer, load another profile of hypothesis
sampled = settings(max_examples=settings.default.max_examples // 4)


@sampled
@given(puts=st.lists(PUTS, min_size=1, max_size=5))
def test_puts_are_what_dvc_does(puts):
    lock, text = LockfileText.parse(""), ""
    stages = {}
    for name, entry, place in puts:
        names = list(stages)
        before = None if place is None or not names else names[place % len(names)]
        lock.put(name, deepcopy(entry), before)
        move_before(stages, name, entry, before)
        with suppress(Exception):
            text = dvc_put(text, name, entry, before) if text is not None else None
        if not is_right(text, stages):
            event("DVC loses something")
            text = None
        assert is_right(str(lock), stages)
        check_contents(lock, text or str(lock))


def is_right(text, stages):
    if text is None:
        return False
    with suppress(Exception):
        return is_same(parse_yaml(text, "dvc.lock")["stages"], stages)
    return False


@sampled
@given(values=st.lists(SCALARS, max_size=30))
def test_scalars(values):
    check_values(values)


SNIPPETS = st.one_of(
    st.sampled_from(
        ["#", " # a", "# a\n", "\n", " ", "  ", "\t", "\r", "- ", ":", ": "]
    ),
    st.sampled_from(["'", '"', "&a ", "*a", "<<: ", "|", ">", "!a ", "[", "]", "{}"]),
    st.sampled_from(["---\n", "...\n", "    b: 1\n", "  c:\n", "1", "e", "a\n    a"]),
    CHARS,
)


@st.composite
def edited(draw):
    """A dvc.lock that someone has edited."""
    stages = draw(st.dictionaries(NAMES, ENTRIES, min_size=1, max_size=3))
    text = dumps_yaml({"schema": "2.0", "stages": stages})
    if draw(st.booleans()):
        text = LOCK
    for _ in range(draw(st.integers(0, 3))):
        pos = draw(st.integers(0, len(text)))
        lines = text.splitlines(keepends=True)
        row = draw(st.integers(0, max(len(lines) - 1, 0)))
        kind = draw(
            st.sampled_from(["insert", "delete", "line", "copy", "cut", "indent"])
        )
        if kind == "insert":
            text = text[:pos] + draw(SNIPPETS) + text[pos:]
        elif kind == "delete":
            text = text[:pos] + text[pos + draw(st.integers(1, 5)) :]
        elif kind == "line":
            text = "".join([*lines[:row], draw(SNIPPETS), "\n", *lines[row:]])
        elif kind == "copy":
            text = "".join([*lines[: row + 1], *lines[row:]])
        elif kind == "cut":
            text = "".join([*lines[:row], *lines[row + 1 :]])
        else:
            text = "".join([*lines[:row], "  ", *lines[row:]])
    return text


@sampled
@given(text=edited(), puts=st.lists(PUTS, min_size=1, max_size=2))
def test_edited_texts(text, puts):
    lock = LockfileText.parse(text)
    if lock is None or not text:
        event("not accepted")
        return
    event("accepted" if text == LOCK else "accepted, edited")
    assert repr(lock.load()) == repr(parse_yaml(text, "dvc.lock"))
    check_puts(text, puts)


@given(ENTRIES)
def test_dumps_simple_is_what_dvc_dumps(entry):
    text = dumps_simple(entry)
    if text is not None:
        assert is_same(parse_yaml(text, "run cache"), entry)
        with suppress(Exception):
            expected = dumps_yaml(entry)
            assert text == expected or not is_same(parse_yaml(expected, ""), entry)


def test_dumps_simple_knows_a_common_entry():
    entry = {
        "cmd": "python train.py --lr 0.1",
        "deps": [{"path": "train.py", "hash": "md5", "md5": "a" * 32, "size": 12}],
        "params": {"params.yaml": {"lr": 0.1, "layers": [1, 2], "name": "x"}},
    }
    assert dumps_simple(entry) == dumps_yaml(entry)
    twice = {"cmd": "a: b", "outs": 2 * entry["deps"]}
    assert dumps_simple(twice) == dumps_yaml(twice)
    assert dumps_simple({"cmd": {1, 2}}) is None
    assert dumps_simple({}) is None
