"""Two edits of a dvc.lock merged, against the same of dicts."""

from copy import deepcopy

import pytest
from dvc import schema
from dvc.dvcfile import LOCK_FILE
from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dvc_parallel.commands.merge_driver import merge
from tests.support.lockfile_texts import LOCK, TRICKY

if not hasattr(schema, "COMPILED_LOCKFILE_SCHEMA"):
    pytest.skip("entries of DVC before 3.0.0 lack 'hash'", allow_module_level=True)

HASHES = st.sampled_from("0123456789abcdef").map(lambda char: 32 * char)
FILES = st.fixed_dictionaries(
    {"path": st.sampled_from("abc"), "hash": st.just("md5"), "md5": HASHES}
)
# NOTE: 1, 1.0 and true are equal in Python, and they are not in YAML
VALUES = st.sampled_from([0, 1, 1.0, True, False, None, 1e-7, "1"]) | st.one_of(
    st.sampled_from(TRICKY),
    st.lists(st.integers(0, 2), max_size=2),
    st.text("ab ", min_size=60, max_size=200),
)
ENTRIES = st.fixed_dictionaries(
    {"cmd": st.sampled_from(["cp a b", "x " * 60])},
    optional={
        "deps": st.lists(FILES, min_size=1, max_size=2),
        "params": st.fixed_dictionaries(
            {"params.yaml": st.dictionaries(st.sampled_from("pq"), VALUES, min_size=1)}
        ),
        "outs": st.lists(FILES, min_size=1, max_size=2),
    },
)
NAMES = st.sampled_from(["a", "b", "c", "d", "train@1", "train@2"])
STAGES = st.dictionaries(NAMES, ENTRIES, max_size=5)
# By name: another entry, or None for one that is removed
EDITS = st.dictionaries(NAMES, st.none() | ENTRIES, max_size=4)


def dumped(stages, width=80, shares=False):
    """A dvc.lock; of entries that share what is equal, or have been written apart."""
    if not stages:
        return ""
    shared = {}
    if shares:
        stages = deepcopy(stages)
        for entry in stages.values():
            for values in entry.get("params", {}).values():
                for key, value in values.items():
                    values[key] = shared.setdefault(repr(value), value)
    else:
        stages = {name: apart(entry) for name, entry in stages.items()}
    if width == 80:
        return dumps_yaml({"schema": "2.0", "stages": stages})
    from io import StringIO

    from ruamel.yaml import YAML

    yaml, text = YAML(), StringIO()
    yaml.width = width
    yaml.dump({"schema": "2.0", "stages": stages}, text)
    return text.getvalue()


def apart(value):
    if isinstance(value, dict):
        return {key: apart(item) for key, item in value.items()}
    return [apart(item) for item in value] if isinstance(value, list) else value


def edited(stages, edits):
    result = {**deepcopy(stages), **deepcopy(edits)}
    return {name: entry for name, entry in result.items() if entry is not None}


def said(value):
    """What YAML says: 1 is not 1.0, and the order of keys means nothing."""
    if isinstance(value, dict):
        return sorted((repr(key), said(item)) for key, item in value.items())
    return list(map(said, value)) if isinstance(value, list) else repr(value)


def merged(base, ours, theirs):
    """What the merge of dicts has, and the names that conflict."""
    result, conflicts = {}, set()
    for name in {**ours, **theirs}:
        old, one, other = base.get(name), ours.get(name), theirs.get(name)
        if said(other) in (said(one), said(old)):
            result[name] = one
        elif said(one) == said(old):
            result[name] = other
        else:
            conflicts.add(name)
    return {name: it for name, it in result.items() if it is not None}, conflicts


def loaded(text):
    data = parse_yaml(text, LOCK_FILE)
    if not data or data["stages"] is None:
        return {}
    schema.COMPILED_LOCKFILE_SCHEMA(data)
    return data["stages"]


@settings(max_examples=settings.default.max_examples // 2)
@given(
    base=STAGES,
    one=EDITS,
    other=EDITS,
    widths=st.lists(st.sampled_from([80, 80, 60]), min_size=3, max_size=3),
    shares=st.booleans(),
)
def test_any_two_edits_of_one_base(base, one, other, widths, shares):
    edits = base, edited(base, one), edited(base, other)
    texts = [dumped(it, width, shares) for it, width in zip(edits, widths)]
    # NOTE: of some strings, DVC itself makes others when it folds them
    versions = list(map(loaded, texts))
    expected, conflicts = merged(*versions)

    result = merge(*texts)
    back = merge(texts[0], texts[2], texts[1])

    if not expected and not conflicts:
        assert result is back is None  # a file without entries is git's business
        return
    for it in (result, back):
        assert set(it.conflicts) == conflicts
        assert said(loaded(resolved(it.text))) == said(expected)
    for side, stages in (("ours", versions[1]), ("theirs", versions[2])):
        found = loaded(resolved(result.text, side))
        assert set(found) == {*expected, *(conflicts & set(stages))}
        for name in conflicts:
            assert said(found.get(name)) == said(stages.get(name))


def resolved(text, side=None):
    """The text with one side of each conflict, or none."""
    kept, now = [], None
    for line in text.splitlines(keepends=True):
        if line == "<<<<<<< ours\n":
            now = "ours"
        elif now == "ours" and line == "=======\n":
            now = "theirs"
        elif now == "theirs" and line == ">>>>>>> theirs\n":
            now = None
        elif now in (None, side):
            kept.append(line)
    assert now is None
    return "".join(kept)


def entry(number):
    return {"cmd": "x", "outs": [{"path": "x", "hash": "md5", "md5": 32 * str(number)}]}


def test_what_nobody_has_changed_stays_as_it_is():
    odd = LOCK.replace("  prepare:\n", "  # by hand\n  prepare: # first\n")
    odd = odd.replace("    - 64\n", "    - 64  # wide\n")
    ours, theirs = odd.replace("37916850", "1"), odd.replace("--lr 0.1", "--lr 0.2")

    text = merge(odd, ours, theirs).text

    assert text == ours.replace("--lr 0.1", "--lr 0.2")


@pytest.mark.parametrize(
    "ours, theirs, order",
    [
        ("abx", "aby", "abxy"),
        ("axb", "ayb", "axyb"),
        ("xab", "aby", "xaby"),
        ("ab", "yabz", "yabz"),
        ("ba", "aybz", "bzay"),
    ],
)
def test_order(ours, theirs, order):
    base, ours, theirs = (
        dumped({name: entry(0) for name in names}) for names in ("ab", ours, theirs)
    )
    assert "".join(loaded(merge(base, ours, theirs).text)) == order


def test_conflict_in_its_entry_alone():
    base = {name: entry(0) for name in "abc"}
    ours = {**base, "a": entry(1), "b": entry(1)}
    theirs = {**base, "b": entry(2), "c": entry(2)}

    result = merge(dumped(base), dumped(ours), dumped(theirs))

    assert result.conflicts == ["b"]
    one, other = dumped({"b": entry(1)}), dumped({"b": entry(2)})
    blocks = (it[it.index("  b:") :] for it in (one, other))
    marked = "<<<<<<< ours\n{}=======\n{}>>>>>>> theirs\n".format(*blocks)
    assert marked in result.text
    rest = {"a": entry(1), "c": entry(2)}
    assert loaded(resolved(result.text)) == rest


def test_ancestor_has_what_the_base_has():
    base = {name: entry(0) for name in "ab"}
    ours, theirs = {**base, "a": entry(1)}, {"a": entry(2), "b": entry(2)}
    texts = map(dumped, (base, ours, theirs))
    result = merge(*texts, is_ancestor=True)
    assert not result.conflicts
    assert loaded(result.text) == {"a": entry(0), "b": entry(2)}


DATASETS = "datasets:\n- name: d\n  type: dvc\n  url: u\n"


def test_what_is_beside_the_entries():
    base, ours, theirs = (dumped({"a": entry(number)}) for number in (0, 0, 1))
    assert merge(base, ours + DATASETS, theirs).text == theirs + DATASETS
    both = DATASETS.replace("url: u", "url: v")
    assert merge(base, ours + DATASETS, theirs + both) is None


@pytest.mark.parametrize(
    "other",
    [
        "a:\n  cmd: x\n",  # of DVC 1
        dumped({"a": entry(0)}).replace("2.0", "3.0"),
        "stages: [\n",
        "hello\n",
        dumped({"a": entry(0)}) + "  a:\n    cmd: y\n",
    ],
)
def test_what_is_left_to_git(other):
    texts = [dumped({"a": entry(number)}) for number in range(3)]
    for place in range(3):
        assert merge(*texts[:place], other, *texts[place + 1 :]) is None
