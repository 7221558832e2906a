import re

import pytest

from dvc_parallel.scheduling.stage_options import (
    NOTHING,
    Needs,
    NeedsError,
    env_name,
    read_needs,
)


def read(**declared):
    return read_needs("train", {"parallel": declared})


@pytest.mark.parametrize("meta", [None, {}, "words", ["parallel"], {"author": "me"}])
def test_other_meta_means_nothing(meta):
    assert read_needs("train", meta) is NOTHING


def test_all_there_is():
    declared = {
        "pools": {"gpu": 1, "mem": 16},
        "priority": -3,
        "timeout": "2h",
        "retries": 2,
        "workers": ["lab-*", "node"],
    }
    needs = Needs(
        {"gpu": 1, "mem": 16},
        priority=-3,
        timeout=7200,
        retries=2,
        workers=("lab-*", "node"),
    )
    assert read(**declared) == needs


def test_a_list_takes_one_of_each():
    assert read(pools=["db", "rate-limit"]).pools == {"db": 1, "rate-limit": 1}


def test_none_of_a_pool():
    assert read(pools={"gpu": 0, "mem": 2}).pools == {"mem": 2}


def test_more_at_each_attempt():
    needs = read(pools={"mem": [16, 32, 64], "gpu": [0, 1], "db": 1})
    assert needs.pools == {"mem": 16, "db": 1}
    assert needs.later == (
        {"mem": 32, "gpu": 1, "db": 1},
        {"mem": 64, "gpu": 1, "db": 1},
    )
    assert read(pools={"mem": [16]}) == Needs({"mem": 16})
    assert read(pools={}) == Needs()


@pytest.mark.parametrize(
    "text, seconds",
    [
        (5, 5),
        (0.5, 0.5),
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        (" 2d ", 172800),
    ],
)
def test_timeouts(text, seconds):
    assert read(timeout=text).timeout == seconds


@pytest.mark.parametrize(
    "key, value",
    [
        ("pools", "db"),
        ("pools", None),
        ("pools", ["db", "db"]),
        ("pools", ["db", 1]),
        ("pools", [["db"]]),
        ("pools", {"gpu": -1}),
        ("pools", {"gpu": True}),
        ("pools", {"gpu": "1"}),
        ("pools", {"gpu": 0.5}),
        ("pools", {"mem": []}),
        ("pools", {"mem": [16, "32"]}),
        ("pools", {"mem": [[16]]}),
        ("pools", {"mem": "16 * attempt"}),
        ("pools", {"": 1}),
        ("pools", {"a b": 1}),
        ("pools", {"a=b": 1}),
        ("pools", {1: 1}),
        ("pools", {"gpu": 1, "GPU": 1}),
        ("pools", {"a-b": 1, "a_b": 0}),
        ("priority", "high"),
        ("priority", 1.5),
        ("priority", True),
        ("priority", None),
        ("timeout", "2 hours"),
        ("timeout", "30m2h"),
        ("timeout", ""),
        ("timeout", "h"),
        ("timeout", "1:30"),
        ("timeout", "0s"),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", "99999999999d"),
        ("timeout", 10**400),
        ("timeout", True),
        ("timeout", None),
        ("workers", []),
        ("workers", ""),
        ("workers", ["lab-1", 2]),
        ("workers", {"lab-1": 1}),
        ("retries", -1),
        ("retries", True),
        ("retries", "2"),
    ],
)
def test_bad_values_are_named(key, value):
    message = f"stage 'train': meta.parallel.{key}: expected .+, got {{value}}"
    with pytest.raises(NeedsError, match=message.format(value=re.escape(repr(value)))):
        read(**{key: value})


@pytest.mark.parametrize("value", [None, "gpu", ["gpu"], 3])
def test_no_mapping(value):
    with pytest.raises(NeedsError, match=r"'train': meta.parallel: expected a mapping"):
        read_needs("train", {"parallel": value})


def test_an_unknown_key_is_named():
    message = (
        r"'train'.*'pool' with value \{'gpu': 1\}.*expected one of pools, priority"
    )
    with pytest.raises(NeedsError, match=message):
        read(pool={"gpu": 1})


def test_names_in_the_environment():
    assert env_name("gpu") == "DVC_POOL_GPU"
    assert env_name("rate-limit") == "DVC_POOL_RATE_LIMIT"
