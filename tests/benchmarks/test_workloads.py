import pytest

from benchmarks import formats
from benchmarks.model import critical_path, lower_bound, upstream
from benchmarks.tools import ORCHESTRATORS, PEERS, tools
from benchmarks.workloads import (
    MIB,
    WORKLOADS,
    anchors,
    big_and_small,
    cp_fan,
    deep_metrics,
    foreach,
    foreach_dicts,
    layered,
    make,
    many_deps,
    no_op,
    shapes,
    shared_folder,
    sleep_fan,
    uneven_chains,
)


def seconds(workload):
    return {stage.name: stage.seconds or 0.0 for stage in workload.stages}


def depth(workload):
    return critical_path(workload.stages, dict.fromkeys(seconds(workload), 1.0))


@pytest.mark.parametrize("name", WORKLOADS)
def test_is_complete(name):
    for workload in make(name, small=True):
        stages = workload.stages
        assert workload.name == name
        names = [stage.name for stage in stages]
        assert len(set(names)) == len(names)
        products = [path for stage in stages for path in stage.products]
        assert sorted(products) == sorted(workload.expected)
        known = {*workload.files, *(path.split("/")[0] for path in workload.files)}
        for stage in stages:  # upstreams come first
            assert set(stage.deps) <= known
            known.update(stage.products)
        for stage in stages:
            assert f"echo {stage.name} " in stage.cmd


@pytest.mark.parametrize("name", WORKLOADS)
def test_is_the_same_every_time(name):
    assert make(name, small=True) == make(name, small=True)


def test_sizes_can_be_chosen():
    assert [len(w.stages) for w in make("cp-fan", False, [3, 5])] == [4, 6]


def test_merge_reads_all_outputs_in_the_order_of_the_shell():
    workload = cp_fan(11)
    assert len(upstream(workload.stages)["merge"]) == 11
    assert workload.expected["all.txt"].split()[:3] == ["0", "1", "10"]


def test_no_op_runs_nothing():
    assert no_op(3).ran == []
    assert len(cp_fan(3).ran) == 4


def test_levels_take_twice_as_long_as_chains():
    workload = uneven_chains(16)
    took = seconds(workload)
    bound = lower_bound(workload.stages, took, jobs=4)
    by_level = sum(
        max(took[f"link-{chain}-{link}"] for chain in range(4)) for link in range(16)
    )
    assert bound == pytest.approx(8.4)
    assert by_level == pytest.approx(16)


def test_deep_metrics_has_the_shape_it_is_called_after():
    workload = deep_metrics(235)
    assert len(workload.stages) == 235
    assert depth(workload) == 97
    assert sum(len(names) for names in upstream(workload.stages).values()) == (
        pytest.approx(1018, abs=2)
    )
    assert sum(len(stage.metrics) for stage in workload.stages) == 470
    assert all(len(stage.params) == 3 for stage in workload.stages)
    assert workload.files["params.yaml"].count("\n") > 2000


def test_anchors_are_shared_within_a_stage():
    yaml = pytest.importorskip("ruamel.yaml").YAML(typ="safe")
    workload = anchors(70)
    params = yaml.load(workload.files["params.yaml"])
    for stage in workload.stages:
        values = [params[stage.name][key.partition(".")[2]] for key in stage.params]
        assert values[0] is values[1]
        assert values[2].keys() == {*params["model"], "seed"}


def test_many_deps():
    stages = many_deps(134).stages
    assert {len(set(stage.deps)) for stage in stages} == {300}
    assert depth(many_deps(134)) == 34


def test_foreach_over_dicts_in_three_files():
    yaml = pytest.importorskip("ruamel.yaml").YAML(typ="safe")
    workload = foreach_dicts(366)
    files = formats.dvc(workload)
    assert set(files) == {"dvc.yaml", "prepare/dvc.yaml", "train/dvc.yaml"}
    train = yaml.load(files["train/dvc.yaml"])["stages"]["train"]
    assert train["foreach"]["case-1"] == {"text": "text-1"}
    assert train["do"]["wdir"] == ".."
    assert len(workload.stages) == 1098
    assert depth(workload) == 3
    assert "${" not in "".join(stage.cmd for stage in workload.stages)


def test_shared_folder():
    workload = shared_folder(10_000)
    assert {stage.deps for stage in workload.stages} == {("data",)}
    assert len(workload.files) == 10_000


def test_shapes_are_those_of_the_file():
    sizes = [len(shapes(number).stages) for number in range(1, 10)]
    assert sizes == [56, 91, 235, 44, 185, 134, 104, 195, 4]
    ups = upstream(shapes(3).stages)
    assert sum(map(len, ups.values())) == 1018


@pytest.mark.parametrize("name", [name for name in WORKLOADS if "asleep" in name])
def test_stages_that_sleep_are_otherwise_the_same(name):
    (tired,) = make(name, small=True)
    (awake,) = make(name.removesuffix("-asleep"), small=False, sizes=[tired.size])
    assert tired.expected == awake.expected
    assert all(0.05 <= stage.seconds <= 0.3 for stage in tired.stages)
    assert all("sleep" not in stage.cmd for stage in awake.stages)
    assert len(tired.stages) == len(awake.stages)


@pytest.mark.parametrize("size,depth,edges", [(2, 2, 1), (8, 8, 99), (30, 5, 60)])
def test_layered(size, depth, edges):
    graph = layered(size, depth, edges)
    assert len(graph) == size
    assert all(dep < node for node, deps in enumerate(graph) for dep in deps)
    longest: list[int] = []
    for deps in graph:
        longest.append(1 + max((longest[dep] for dep in deps), default=0))
    assert max(longest) == depth
    most = size * (size - 1) // 2
    assert size - depth <= sum(map(len, graph)) <= min(edges, most) + size


def test_bytes_of_big_outputs():
    assert big_and_small(3).bytes == 3 * MIB
    assert cp_fan(3).bytes == 0


@pytest.mark.parametrize("jobs,expected", [(1, 8), (4, 2), (16, 1)])
def test_lower_bound_of_independent_stages(jobs, expected):
    workload = sleep_fan(8)
    assert lower_bound(workload.stages, seconds(workload), jobs) == expected


def test_lower_bound_of_nothing():
    assert lower_bound([], {}, jobs=4) == 0
    workload = no_op(3)
    assert lower_bound(workload.stages, seconds(workload), 4) == 0


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_tool_can_be_asked(name):
    (workload,) = make(name, small=True)[:1]
    cannot = {tool.name for tool in tools("3").values() if tool.cannot(workload)}
    if name in ("deep-metrics", "anchors", "anchors-asleep"):
        assert cannot == {*PEERS, *ORCHESTRATORS}
    elif name == "no-op":
        assert cannot == {*ORCHESTRATORS}
    else:
        assert not cannot


@pytest.mark.parametrize("tool", tools("3").values(), ids=lambda tool: tool.name)
def test_tools_are_complete(tool):
    assert isinstance(tool.note, str)
    assert tool.source is None or callable(tool.source)
    assert tool.servers is None or callable(tool.servers)
    assert tool.commands(3)[0][0] == tool.executable


def test_dvc_yaml():
    yaml = pytest.importorskip("ruamel.yaml").YAML(typ="safe")
    stages = yaml.load(formats.dvc(cp_fan(2))["dvc.yaml"])["stages"]
    assert stages["copy"]["foreach"] == ["0", "1"]
    assert stages["copy"]["do"]["outs"] == ["out/${item}.txt"]
    assert stages["merge"]["deps"] == ["out/0.txt", "out/1.txt"]
    stages = yaml.load(formats.dvc(foreach(2))["dvc.yaml"])["stages"]
    assert stages["write"]["foreach"] == "${items}"
    stage = yaml.load(formats.dvc(deep_metrics(10))["dvc.yaml"])["stages"]["node-0"]
    assert stage["metrics"][0] == {"out/node-0.score-0.json": {"cache": False}}
    assert len(stage["params"]) == 3


PYTHON_FILES = {
    "dags/workload.py": formats.airflow,
    "dagster_workload.py": formats.dagster,
    "dodo.py": formats.doit,
    "luigi_workload.py": formats.luigi,
    "pipeline.py": formats.pivot,
    "plan.py": formats.stepup,
    "prefect_workload.py": formats.prefect,
    "task_workload.py": formats.pytask,
    "trigger.py": formats.airflow,
}


@pytest.mark.parametrize("name", PYTHON_FILES)
def test_python_files_compile(name):
    text = PYTHON_FILES[name](big_and_small(1))[name]
    compile(text, name, "exec")
    assert ("date +%%s.%%N" in text) == (name == "dodo.py")


def test_orchestrators_get_the_names_of_upstreams():
    names = {"link_0_0": [], "link_0_1": ["link_0_0"]}
    for name in ("dags/workload.py", "dagster_workload.py", "prefect_workload.py"):
        scope: dict = {}
        text = PYTHON_FILES[name](uneven_chains(2))[name]
        exec(text[text.index("TASKS") :].partition("]\n\n")[0] + "]", scope)
        found = {name: ups for name, _, ups in scope["TASKS"]}
        assert {name: found[name] for name in names} == names
        assert len(found) == 8


def test_snakefile_has_a_rule_with_a_wildcard_for_foreach():
    text = formats.snakemake(cp_fan(100))["Snakefile"]
    assert text.count("rule ") == 3
    assert "cp in/{wildcards.item}.txt out/{wildcards.item}.txt" in text
