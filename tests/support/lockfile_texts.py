"""Texts of dvc.lock, and what DVC makes of them."""

import datetime as dt
from collections import OrderedDict
from copy import deepcopy
from io import StringIO
from textwrap import dedent

from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml, parse_yaml_for_update

from dvc_parallel.engine.lockfile_text import LockfileText

LOCK = dedent(
    """\
    schema: '2.0'
    stages:
      prepare:
        cmd: python prepare.py
        deps:
        - path: data/raw
          hash: md5
          md5: 20b786b6e6f80e2b3fcf17827ad18597.dir
          size: 1024
          nfiles: 12
        outs:
        - path: data/prepared.csv
          hash: md5
          md5: a304afb96060aad90176268345e10355
          size: 37916850
      train@lr-0.1:
        cmd:
        - python train.py --lr 0.1
        - ls
        params:
          params.yaml:
            lr: 0.1
            model:
              layers:
              - 64
              - 32
              name: mlp
              dropout:
              pretrained: false
              tags: []
    """
)


ENTRY = OrderedDict(
    cmd="python prepare.py --fast",
    outs=[{"path": "data/fast.csv", "hash": "md5", "md5": "1" + 31 * "c", "size": 7}],
)


def load(text):
    return parse_yaml_for_update(text, "dvc.lock")


def dvc_put(text, name, entry, before=None):
    """What Lockfile.dump_stages does, and putting the entry at its place."""
    data = load(text)
    if not data:
        data.update({"schema": "2.0"})
    data["stages"] = stages = data.get("stages", {})
    new = name not in stages
    stages.update({name: entry})
    if new and before is not None:
        names = list(stages)
        for other in [name, *names[names.index(before) : -1]]:
            stages[other] = stages.pop(other)
    return dumps_yaml(data)


NOON = dt.datetime(2020, 1, 1, 12, tzinfo=dt.timezone.utc)


# NOTE: older versions of ruamel.yaml do not
KEEPS_ZONES = parse_yaml(dumps_yaml({"a": NOON}), "dvc.lock")["a"] == NOON


def move_before(stages, name, entry, before):
    is_new = name not in stages
    stages[name] = entry
    if is_new and before is not None:
        names = list(stages)
        for other in [name, *names[names.index(before) : -1]]:
            stages[other] = stages.pop(other)


def check_puts(text, puts):
    """Check that entries are put as by DVC, for as long as it loses nothing."""
    lock = LockfileText.parse(text)
    expected = StringIO(text, newline=None).read()
    stages = parse_yaml(expected, "dvc.lock")["stages"]
    for name, entry, before in puts:
        if before is not None and before not in stages:
            continue
        lock.put(name, entry, before)
        move_before(stages, name, plain(entry), before)
        text = str(lock)
        assert is_same(check_contents(lock, text), stages)
        try:
            expected = expected and dvc_put(expected, name, entry, before)
            if not is_same(parse_yaml(expected, "dvc.lock")["stages"], stages):
                expected = ""
        except Exception:  # noqa: BLE001
            expected = ""
        assert text == (expected or text)


def check_contents(lock, text):
    """Check that a text is read as DVC reads it; return the stages in it."""
    assert str(lock) == text
    data = parse_yaml(text, "dvc.lock")
    stages = data["stages"]
    assert list(lock) == list(stages)
    assert repr(lock.load()) == repr(data)
    for name, loaded in stages.items():
        # NOTE: by repr, as 1 is equal to True, and not a number not to itself
        assert repr(dict(lock.get(name))) == repr(loaded)
    return stages


def plain(data):
    if isinstance(data, dict):
        return {plain(key): plain(value) for key, value in data.items()}
    if isinstance(data, dt.datetime):
        return data.isoformat()  # NOTE: ruamel.yaml has time zones of its own
    return [plain(value) for value in data] if isinstance(data, list) else data


def is_same(one, other):
    # NOTE: by repr, as 1 is equal to True, and not a number not to itself
    return repr(plain(one)) == repr(plain(other))


def check_values(values):
    """Put many values, each at several places of an entry of its own.

    They have to be read as they are, and written as DVC does unless it would lose
    something.
    """
    lock = LockfileText.parse("")
    stages = {}
    for idx, value in enumerate(values):
        # NOTE: YAML would have an alias for the same object
        one, two, three, four = (deepcopy(value) for _ in range(4))
        params = {"p": {"some.key": [one, {"k": two}, [three]]}}
        stages[f"s{idx}"] = OrderedDict(cmd=four, params=params)
        lock.put(f"s{idx}", stages[f"s{idx}"])
    check_stages(lock, stages)


def check_stages(lock, stages):
    if not stages:
        return
    text = str(lock)
    assert is_same(check_contents(lock, text), stages)
    again = LockfileText.parse(text)
    again._settle()
    assert str(again) == text
    for name, entry in stages.items():
        written = dumps_yaml({"schema": "2.0", "stages": {name: entry}})
        try:
            is_right = is_same(parse_yaml(written, "")["stages"][name], entry)
            is_stable = dumps_yaml(load(written)) == written
        except Exception:  # noqa: BLE001
            continue
        if is_right and is_stable:
            lock = LockfileText.parse("")
            lock.put(name, entry)
            assert str(lock) == written


WORDS = r"""
    ~ null Null NULL nulls true True TRUE tRUE truer false False no y on Off = << ! & %
    0 -0 +1 00 007 0o17 0b1 0x1F 0X1F 1_000 _1 _ -_ 1. .5 -.5 ._ .5e3 1e5 1E5 1.e+5 1e
    1e+ 5e-x .e5 .inf .Inf -.INF +.inf .nan .NaN .n .i 1:30 1:60 190:20:30.15 1::2 1a 1o
    1b 1x 1t 1T 1Z 1z 1/2 1-2 2001-12-14 2001-1-1 2001-12-14x 2001-12-14t21:59:43.10Z
    2001-12-14T21:59:43-05:00 - -- --- ---a --x -x ... ...a ? ?a : :: :a a: a:: a:b # #a
    a# , ,a a, [ ] {} [] [a] {a} a[0] a{b} * *a a* | |a > >a >- @ @a ` `a ' " '' "" a'b
    a"b 'a' "a" 'a a' \ \n a\b . .. ./a ../a .../a .git .0 / /a ~/a $ $a ${a} (a) ) ; <a
    é 日本 été/数 🚀 a🚀 <<<<<<< ======= >>>>>>>
    10000000000000000000000000000000 1e000000000000000000000000000000
    0b111111111111111111111111111111 1000000000000000000000000000000a
    1e00000000000000000000000000000e a0000000000000000000000000000000
"""


PHRASES = """
,,  , a,a ,a  b,a   b c,? a,- a,- - a,a: b,: a,a #b,a # b,a #,# a,a : b,a :,a - b,a | b
,2001-1-1 1:1:1,2001-12-14 21:59:43.10 -5,2001-12-14 x,1 000,true x,a ? b
,a\tb,\ta,a\t,\t,a\rb,a\0b,\x1b[0m,\x7f,\x85,a\x85b,\xa0,a\xa0b,a\u2028b,\u2029
,a\u2029 b,\ufeff,a\ufeffb,\ufffe,\uffff,a\u3000b
"""


BREAKS = ["a\n", "\na", "a\nb", "a\n\nb", "a\n b", "a \nb", "a\n#b", "a\r\nb"]


TRICKY = [*WORDS.split(), *PHRASES.replace("\n", "").split(","), *BREAKS]
