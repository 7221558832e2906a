import gc
from itertools import product

import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo, reproduce
from dvc.repo.index import Index
from dvc.stage.loader import StageLoader

from dvc_parallel.caches import stage_loading

pytestmark = pytest.mark.skipif(
    not hasattr(getattr(reproduce, "collect_stages", None), "dvc_parallel_seam"),
    reason="this DVC collects stages otherwise",
)

DVC_YAML = """\
vars:
- name: a
stages:
  make:
    cmd: "true"
    outs: ["${name}"]
  each:
    foreach: [x, y]
    do:
      cmd: "true"
      deps: ["${name}"]
      outs: ["${item}"]
"""


@pytest.fixture
def repo(make_repo):
    yield make_repo(DVC_YAML)
    stage_loading.forget()


@pytest.fixture
def load(mocker):
    return mocker.spy(StageLoader, "load_stage")


def collect(repo, *targets):
    return reproduce.collect_stages(repo, targets or ["dvc.yaml"])


def test_the_graph_has_the_stages_that_were_asked_for(repo, load):
    stages = collect(repo)
    assert [stage.addressing for stage in stages] == ["make", "each@x", "each@y"]
    assert {id(stage) for stage in repo.index.stages} == {*map(id, stages)}
    assert load.call_count == 3


def test_single_targets(repo, load):
    (each,) = collect(repo, "each@y")
    assert each.addressing == "each@y"
    assert len(repo.index.stages) == 3
    assert any(stage is each for stage in repo.index.stages)
    assert load.call_count == 3


@pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock"])
def test_a_file_that_changes_is_loaded_again(repo, tmp_path, load, name):
    collect(repo)
    if name == "dvc.yaml":
        (tmp_path / name).write_text(DVC_YAML.replace("name: a", "name: abc"))
    else:
        (tmp_path / name).write_text("schema: '2.0'\nstages: {}\n")
    outs = {str(out) for stage in repo.index.stages for out in stage.outs}
    assert outs == {"abc" if name == "dvc.yaml" else "a", "x", "y"}
    assert load.call_count == 6


def test_what_comes_later_is_loaded_by_dvc(repo, load):
    first = collect(repo)
    stage_loading.forget()
    assert not {*map(id, first)} & {id(stage) for stage in repo.index.stages}
    assert not {*map(id, collect(repo))} & {*map(id, first)}
    assert load.call_count == 9


def test_the_collector_is_spared_what_was_loaded_and_only_for_a_run(repo):
    collect(repo)
    with stage_loading.over():
        assert gc.get_freeze_count() > 1000
        with stage_loading.over():  # a run in another thread
            pass
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


def test_the_collector_is_off_only_while_stages_are_loaded(repo, mocker):
    mocker.patch.object(
        StageLoader,
        "load_stage",
        side_effect=lambda *_: pytest.fail(str(gc.isenabled())),
    )
    for was_on in (True, False):
        (gc.enable if was_on else gc.disable)()
        try:
            with pytest.raises(pytest.fail.Exception, match="False"):
                collect(repo)
            assert gc.isenabled() == was_on
        finally:
            gc.enable()


def test_errors_leave_nothing(repo, tmp_path, load):
    with pytest.raises(Exception, match="nonesuch"):
        collect(repo, "dvc.yaml", "nonesuch")
    load.reset_mock()
    assert len(Index.from_repo(repo).stages) == 3
    assert load.call_count == 3


def test_another_repo_has_files_of_its_own(repo, tmp_path, load):
    collect(repo)
    with Repo(str(tmp_path)) as other:
        assert all(stage.repo is other for stage in other.index.stages)


def described(repo, stages):
    return [
        {
            **vars(it),
            "stage": it.stage.name,
            "fs": (type(it.fs), it.fs is repo.fs),
            "in repo": it.is_in_repo,
        }
        for stage in stages
        for it in [*stage.deps, *stage.outs]
    ]


def test_dependencies_are_as_dvc_makes_them_and_each_its_own(repo, tmp_path):
    outside = tmp_path.parent / "outside"
    deps = f"deps: [a, sub/../b, {outside}, 'remote://r/a', 'c#d', ./a/]"
    rows = [f"  s{number}:\n    cmd: s\n    {deps}\n" for number in range(2)]
    rows.append(f"  s2:\n    cmd: s\n    wdir: sub\n    {deps}\n    outs: [../x]\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages:\n" + "".join(rows))
    (tmp_path / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  s0:\n    cmd: s\n    deps:\n"
        f"    - path: a\n      md5: {'a' * 32}\n      size: 1\n"
    )
    with repo.config.edit() as config:
        config["remote"]["r"] = {"url": str(outside)}

    ours = collect(repo)
    stage_loading.forget()
    theirs = Index.from_repo(repo).stages
    assert described(repo, ours) == described(repo, theirs)

    one, other, _ = ours
    for mine, its in zip(one.deps, other.deps):
        for name in ("annot", "meta", "hash_info"):
            assert getattr(mine, name) is not getattr(its, name)
        assert mine.annot.meta is not its.annot.meta
        assert mine.annot.labels is not its.annot.labels


def test_errors_of_dependencies_are_dvcs(repo, tmp_path):
    text = "stages:\n  a: {cmd: s, deps: [x]}\n  b: {cmd: s, deps: [x/dvc.yaml]}\n"
    (tmp_path / "dvc.yaml").write_text(text)
    for _ in range(2):
        with pytest.raises(Exception, match="cannot be a dependency"):
            collect(repo)


OPTIONS = ["cache: false", "persist: true", "push: false", "desc: a", "remote: r"]


def test_outputs_are_as_dvc_makes_them_and_each_its_own(repo, tmp_path):
    names = ["a", "b", "sub/c", ".d", "sub/.e", "f g", "sub/../h", "./i", "ü", "j#k"]
    rows = []
    for number, (wdir, option) in enumerate(product([".", "sub"], ["", *OPTIONS])):
        outs = [f"{name}{number}" for name in names]
        items = [f"{{{out!r}: {{{option}}}}}" if option else repr(out) for out in outs]
        rows.append(
            f"  s{number}:\n    cmd: s\n    wdir: {wdir}\n    deps: [x/y, x/{number}]\n"
            f"    outs: [{', '.join(items)}]\n"
            f"    metrics: [m{number}, {{n{number}: {{cache: false}}}}]\n"
            f"    plots: [p{number}, {{q{number}: {{x: a}}}}]\n"
        )
    (tmp_path / "sub" / "sub").mkdir(parents=True)
    (tmp_path / "dvc.yaml").write_text("stages:\n" + "".join(rows))
    (tmp_path / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  s0:\n    cmd: s\n    outs:\n"
        f"    - path: b0\n      hash: md5\n      md5: {'a' * 32}\n      size: 1\n"
        f"    - path: m0\n      md5: {'a' * 32}\n"
    )
    with repo.config.edit() as config:
        config["remote"]["r"] = {"url": str(tmp_path.parent / "outside")}
    ours = collect(repo)
    stage_loading.forget()
    theirs = Index.from_repo(repo).stages
    assert described(repo, ours) == described(repo, theirs)
    outs = [out for stage in ours for out in stage.outs]
    for name in ("annot", "meta", "hash_info"):
        assert len({id(getattr(out, name)) for out in outs}) == len(outs)


@pytest.mark.parametrize(
    "path,rules",
    [
        ("b", "b"),
        ("sub/b", "sub/"),
        ("sub/b", "/sub/b"),
        ("b", "b/"),
        ("c/b", "/c/*\n!b"),
        ("c/b", "/c/*"),
        ("b.dvc", ""),
        ("sub/dvc.yaml", ""),
    ],
)
@pytest.mark.parametrize("there", [None, "file", "folder"])
def test_outputs_that_cannot_be_are_none(repo, tmp_path, path, rules, there):
    (tmp_path / "dvc.yaml").write_text(
        f"stages:\n  s:\n    cmd: s\n    outs: [a, z, {path}]\n"
    )
    (tmp_path / ".dvcignore").write_text(rules)
    if there:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch() if there == "file" else (tmp_path / path).mkdir()

    def outcome(load):
        repo._reset()
        try:
            return described(repo, load())
        except DvcException as exc:
            return str(exc)

    ours = outcome(lambda: collect(repo))
    stage_loading.forget()
    assert ours == outcome(lambda: Index.from_repo(repo).stages)
