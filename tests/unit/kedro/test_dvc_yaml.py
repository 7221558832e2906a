"""What becomes of the text of dvc.yaml."""

import pytest

from dvc_parallel.kedro import KedroError
from dvc_parallel.kedro.dvc_yaml import DvcYaml
from dvc_parallel.kedro.stages import NodeStage


def stage(name, deps=("in",), outs=("out",), params=None):
    return NodeStage(
        name,
        [name],
        f"kedro dvc run {name}",
        [f".kedro-dvc/{name}.json", *deps],
        fingerprint={},
        params=params or {},
        outs={"outs": {path: {} for path in outs}},
    )


def written(text, *stages, before=None):
    return DvcYaml(text).with_stages(stages, before or {})


ONE = """\
stages:
  one:
    cmd: kedro dvc run one
    deps:
    - .kedro-dvc/one.json
    - in
    outs:
    - out
    meta:
      kedro: one
"""


@pytest.mark.parametrize(
    "text", ["", "stages:\n", "stages: {}\n", "stages:   # none\n"]
)
def test_a_new_file(text):
    assert written(text, stage("one")) == ONE


def test_the_rest_of_a_file_stays():
    text = "# top\nvars:\n  - a: 1   # odd\n\nplots:\n- x.csv\n"
    assert written(text, stage("one")) == text + ONE


HAND = """\
# All stages.
stages:
    # by hand
    mine:
        cmd:   echo  "1"
        outs: [a.txt,   b.txt]

    # of the node
    one:
        cmd: kedro dvc run one   # as generated
        desc: 'the first'
        deps:
            - .kedro-dvc/one.json
            - in   # from the lab
            - more.txt
        outs:
            - out:
                  persist: true
        meta:
            kedro: one
            parallel: {pools: [gpu]}
        frozen: true

    # the end

params: [p.yaml]
"""


def test_what_is_as_it_should_be_keeps_its_text():
    assert written(HAND, stage("one"), before={"one": ["in"]}) == HAND


def test_what_a_user_has_added_stays_when_a_stage_changes():
    text = written(HAND, stage("one", deps=["new"]), before={"one": ["in"]})
    head, _, rest = text.partition("    one:\n")
    assert head == HAND.partition("    one:\n")[0]
    assert rest.endswith("\n    # the end\n\nparams: [p.yaml]\n")
    for line in (
        "cmd: kedro dvc run one   # as generated",
        "desc: 'the first'",
        "- more.txt",
        "- new",
        "persist: true",
        "parallel: {pools: [gpu]}",
        "frozen: true",
    ):
        assert line in rest
    assert "- in " not in rest
    again = written(text, stage("one", deps=["new"]), before={"one": ["in", "new"]})
    assert again == text


def test_a_stage_that_changes_keeps_its_layout():
    text = written(HAND, stage("one", deps=["in", "new"]), before={"one": ["in"]})
    added = "            - more.txt\n            - new\n"
    assert text == HAND.replace("            - more.txt\n", added)


def test_a_stage_whose_node_is_gone_goes_if_it_is_ours():
    text = written(HAND)
    assert "one:" not in text
    assert text.startswith(HAND.partition("    one:\n")[0])
    assert text.endswith("    # the end\n\nparams: [p.yaml]\n")


def test_the_last_of_ours_may_go():
    assert DvcYaml(written(ONE)).with_stages([stage("one")], {}) == ONE


def test_a_stage_in_between_and_at_the_end():
    text = written(ONE, stage("one"), stage("two"), stage("three"))
    assert DvcYaml(text).ours == ["one", "two", "three"]
    text = written(text, stage("one"), stage("three", deps=["other"]))
    assert DvcYaml(text).ours == ["one", "three"]
    assert text.startswith(ONE)


def test_a_name_that_a_stage_by_hand_has():
    with pytest.raises(KedroError, match="'mine' that is not one of Kedro's"):
        written(HAND, stage("mine"), stage("two"))


def test_params_by_hand_stay():
    text = ONE.replace(
        "    outs:",
        "    params:\n    - lr\n    - p.yml:\n      - mine\n      - old\n    outs:",
    )
    ours = stage("one", params={"p.yml": ["new"]})
    text = written(text, ours, before={"one": ["in", "p.yml:old"]})
    assert "    params:\n    - lr\n    - p.yml:\n      - new\n      - mine\n" in text


def test_all_params_of_a_file_and_back():
    some, every = (stage("one", params={"p.yml": keys}) for keys in (["a"], [""]))
    with_some = written(ONE, some)
    with_all = written(with_some, every, before={"one": ["in", "p.yml:a"]})
    assert "    params:\n    - p.yml:\n    outs:" in with_all
    assert written(with_all, every, before={"one": ["in", "p.yml:"]}) == with_all
    assert written(with_all, some, before={"one": ["in", "p.yml:"]}) == with_some


def test_an_output_stays_in_the_section_that_its_user_has_chosen():
    text = ONE.replace(
        "outs:\n    - out\n", "metrics:\n    - out:\n        cache: false\n"
    )
    assert written(text, stage("one"), before={"one": ["in", "out"]}) == text


def test_line_ends_stay():
    text = HAND.replace("\n", "\r\n")
    assert written(text, stage("one"), before={"one": ["in"]}) == text
    text = written(text, stage("one", deps=["new"]), before={"one": ["in"]})
    assert text.count("\r\n") == text.count("\n")


@pytest.mark.parametrize(
    "text, what",
    [
        ("stages: {a: {cmd: x}}\n", "stages in {}"),
        ("stages: [\n", "cannot be read"),
        ("- a\n", "it is not a mapping"),
        ("stages: a\n", "stages is not a mapping"),
    ],
)
def test_what_cannot_be_edited(text, what):
    with pytest.raises(KedroError, match=what):
        written(text, stage("one"))
