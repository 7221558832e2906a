"""The workloads, by name: functions that take a size."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Callable, Optional, Union

from .model import ITEM, KEY, SECONDS, Foreach, Stage, Workload, logged, stamped

MIB = 2**20
SHAPE_SEED = 20
SHAPES = Path(__file__).parent / "shapes.json"
# Seconds between which the stages of real projects sleep in their place.
SHORTEST, LONGEST = 0.05, 0.3


def cp_fan(size: int) -> Workload:
    """`size` stages that copy a file, and one that reads all of the copies."""
    items = tuple(map(str, range(size)))
    copies = tuple(f"out/{item}.txt" for item in items)
    files = {f"in/{item}.txt": f"{item}\n" for item in items}
    expected = {f"out/{item}.txt": f"{item}\n" for item in items}
    # The shell sorts what `*` matches, and runs in the C locale.
    expected["all.txt"] = "".join(expected[path] for path in sorted(expected))
    copy = Stage(
        "copy",
        logged(f"cp in/{ITEM}.txt out/{ITEM}.txt", f"copy@{ITEM}"),
        (f"in/{ITEM}.txt",),
        (f"out/{ITEM}.txt",),
    )
    merge = logged("cat out/*.txt > all.txt", "merge")
    return Workload(
        "cp-fan",
        size,
        f"{size} stages `cp in/i.txt out/i.txt`, and one that reads all outputs",
        [Foreach("copy", items, copy), Stage("merge", merge, copies, ("all.txt",))],
        jobs=(1, 4),
        files=files,
        expected=expected,
    )


def no_op(size: int) -> Workload:
    """A second run of :func:`cp_fan`."""
    fan = cp_fan(size)
    return Workload(
        "no-op",
        size,
        f"second run of cp-fan with {size} stages: nothing has changed",
        fan.definitions,
        jobs=(4,),
        files=fan.files,
        expected=fan.expected,
        again=True,
    )


def sleep_fan(size: int) -> Workload:
    """`size` stages that sleep for a second."""
    return _sleeps("sleep-fan", size, seconds=1, jobs=(4, 16))


def long_sleep_fan(size: int) -> Workload:
    """`size` stages that sleep for two seconds: what a stage costs weighs less."""
    return _sleeps("long-sleep-fan", size, seconds=2, jobs=(4,))


def _sleeps(name: str, size: int, seconds: int, jobs: tuple[int, ...]) -> Workload:
    items = tuple(map(str, range(size)))
    nap = Stage(
        "nap",
        logged(f"sleep {seconds} && echo {ITEM} > out/{ITEM}.txt", f"nap@{ITEM}"),
        outs=(f"out/{ITEM}.txt",),
        seconds=float(seconds),
    )
    return Workload(
        name,
        size,
        f"{size} stages `sleep {seconds}`",
        [Foreach("nap", items, nap)],
        jobs=jobs,
        expected={f"out/{item}.txt": f"{item}\n" for item in items},
    )


def uneven_chains(size: int) -> Workload:
    """Four chains of `size` sleeps of up to a second."""
    return _chains("uneven-chains", size, chains=4, longest=1.0)


def eight_chains(size: int) -> Workload:
    """Eight chains of `size` sleeps of up to half a second."""
    return _chains("eight-chains", size, chains=8, longest=0.5)


def _chains(name: str, size: int, chains: int, longest: float) -> Workload:
    """Chains of sleeps, each as long as the others in the end.

    Whoever waits for a whole level waits for its longest sleep, every time.
    """
    title = f"{chains} chains of {size} stages `sleep {longest:g}` or `sleep 0.05`"
    stages: list[Stage] = []
    expected: dict[str, str] = {}
    for chain in range(chains):
        for link in range(size):
            stage = f"link-{chain}-{link}"
            seconds = longest if (chain + link) % 2 else 0.05
            deps = (f"out/link-{chain}-{link - 1}.txt",) if link else ()
            out = f"out/{stage}.txt"
            cmd = f"sleep {seconds} && cat {' '.join(deps) or '/dev/null'} > {out}"
            cmd = logged(f"{cmd} && echo {stage} >> {out}", stage)
            stages.append(Stage(stage, cmd, deps, (out,), seconds=seconds))
            expected[out] = (expected[deps[0]] if deps else "") + f"{stage}\n"
    return Workload(
        name,
        size,
        f"{title}, in turn",
        stages,
        jobs=(chains,),
        expected=expected,
    )


def wide_deep(size: int) -> Workload:
    """A random graph of layers, in which a stage reads two earlier ones or so."""
    shape = layered(size, depth=max(2, size // 8), edges=2 * size)
    return hashing("wide-deep", shape, f"{size} stages in random layers")


def deep_metrics(size: int) -> Workload:
    """The shape of a real project, which has 235 stages: deep, two metrics each.

    All of the params are in one large file, of which each stage reads a few.
    """
    depth = max(2, size * 97 // 235)
    shape = layered(size, depth, edges=size * 1018 // 235)
    title = f"{size} stages at depth {depth}, uncached metrics, a large params file"
    return hashing("deep-metrics", shape, title, metrics=2, params=3)


def foreach(size: int) -> Workload:
    """`size` items of a foreach in params.yaml, independent of each other."""
    items = tuple(f"item{i}" for i in range(size))
    write = Stage(
        "write",
        logged(f"echo {ITEM} > out/{ITEM}.txt", f"write@{ITEM}"),
        outs=(f"out/{ITEM}.txt",),
    )
    return Workload(
        "foreach",
        size,
        f"foreach over {size} items in params.yaml",
        [Foreach("write", items, write, key="items")],
        jobs=(4,),
        files={"params.yaml": "items:\n" + "".join(f"- {item}\n" for item in items)},
        expected={f"out/{item}.txt": f"{item}\n" for item in items},
    )


def big_outputs(size: int) -> Workload:
    """Four stages that write `size` MiB each."""
    stages = [_big(f"big-{i}", size * MIB, logged) for i in range(4)]
    return Workload(
        "big-outputs",
        size,
        f"4 stages that write {size} MiB each",
        stages,
        jobs=(1, 4),
        expected={stage.outs[0]: size * MIB for stage in stages},
    )


def big_and_small(size: int) -> Workload:
    """A stage that writes `size` MiB, next to a chain of 40 short ones.

    Does a stage that has become ready wait until the big output is hashed?
    """
    big = _big("big", size * MIB, stamped)
    stages = [big]
    expected: dict[str, Union[str, int]] = {big.outs[0]: size * MIB}
    for i in range(40):
        name, out = f"small-{i}", f"out/small-{i}.txt"
        deps = (f"out/small-{i - 1}.txt",) if i else ()
        cmd = stamped(f"sleep 0.1 && echo {i} > {out}", name)
        stages.append(Stage(name, cmd, deps, (out,), seconds=0.1))
        expected[out] = f"{i}\n"
    return Workload(
        "big-and-small",
        size,
        f"a stage that writes {size} MiB, and a chain of 40 stages `sleep 0.1`",
        stages,
        jobs=(4,),
        expected=expected,
        stamped=True,
    )


def _big(name: str, size: int, log: Callable[[str, str], str]) -> Stage:
    # Starts with its name: of equal contents DVC would keep one copy in the cache.
    out = f"out/{name}.bin"
    zeros = size - len(name) - 1
    cmd = f"{{ echo {name}; head -c {zeros} /dev/zero; }} > {out}"
    return Stage(name, log(cmd, name), outs=(out,))


def layered(size: int, depth: int, edges: int) -> list[list[int]]:
    """A random acyclic graph, the same one every time.

    Args:
        size: number of nodes.
        depth: number of nodes on the longest path, at most `size`.
        edges: number of edges to aim for.

    Returns:
        list: for each node the earlier nodes that it depends on.
    """
    rng = random.Random(SHAPE_SEED)
    layer_of = sorted([*range(depth), *rng.choices(range(depth), k=size - depth)])
    layers: list[list[int]] = [[] for _ in range(depth)]
    for node, layer in enumerate(layer_of):
        layers[layer].append(node)
    # An upstream in the layer before it, and no longer path can come about.
    deps = [{rng.choice(layers[at - 1])} if at else set() for at in layer_of]
    later = [node for node in range(size) if layer_of[node]]
    possible = sum(len(layer) * layer[0] for layer in layers)
    missing = min(edges, possible) - sum(map(len, deps))
    while missing > 0:
        node = rng.choice(later)
        dep = rng.randrange(layers[layer_of[node]][0])
        if dep not in deps[node]:
            deps[node].add(dep)
            missing -= 1
    return [sorted(found) for found in deps]


def anchors(size: int, asleep: bool = False) -> Workload:
    """A project whose params.yaml shares values by anchors and merge keys.

    Each stage has some 4 kB of them in dvc.lock, where they become aliases.
    """
    shape = layered(size, depth=max(2, size // 8), edges=2 * size)
    title = f"{size} stages with params that are shared by anchors"
    plain = hashing("anchors", shape, title, seconds=naps(size) if asleep else ())
    lines = ["grid: &grid"]
    for option in range(30):
        values = ", ".join(f"{option + value}.5" for value in range(6))
        lines.append(f"  option-{option}: [{values}]")
    lines.append("model: &model")
    lines.extend(f"  layer-{layer}: {2**layer}" for layer in range(10))
    for number, stage in enumerate(plain.stages):
        lines += [f"{stage.name}:", "  train: *grid", "  test: *grid"]
        lines += ["  model:", "    <<: *model", f"    seed: {number}"]
    stages = [
        replace(stage, params=tuple(f"{stage.name}.{key}" for key in SHARED))
        for stage in plain.stages
    ]
    files = {**plain.files, "params.yaml": "\n".join(lines) + "\n"}
    return replace(plain, definitions=stages, files=files)


SHARED = ("train", "test", "model")


def many_deps(size: int, asleep: bool = False) -> Workload:
    """Stages with 300 dependencies each, of 600 files and a stage before it."""
    seconds = naps(size)
    files = {f"in/{number:03}.txt": f"{number}\n" for number in range(600)}
    names = list(files)
    stages: list[Stage] = []
    expected: dict[str, str] = {}
    for number in range(size):
        name, out = f"read-{number}", f"out/read-{number}.txt"
        first = 7 * number % 300
        deps = [*names[first : first + 299]]
        # Four chains.
        deps.append(f"out/read-{number - 4}.txt" if number >= 4 else "in/599.txt")
        texts = {**files, **expected}
        expected[out] = digest_of(texts[dep] for dep in deps[-3:])
        cmd = f"cat {' '.join(deps[-3:])} | md5sum > {out}"
        nap = seconds[number] if asleep else None
        cmd = f"sleep {nap} && {cmd}" if nap else cmd
        stages.append(Stage(name, logged(cmd, name), (*deps,), (out,), seconds=nap))
    title = f"{size} stages with 300 dependencies each"
    return Workload("many-deps", size, title, stages, (4,), files, expected)


def foreach_dicts(size: int, asleep: bool = False) -> Workload:
    """Three dvc.yaml in which a foreach goes over dicts; the root's reads the others'.

    Args:
        size: number of stages in each of them.
    """
    keys = tuple(f"case-{number}" for number in range(size))
    steps = ("prepare", "train", "evaluate")
    naps_of = naps(size)
    files = {f"in/{key}.txt": f"{key}\n" for key in keys}
    expected = dict(files)
    definitions = []
    folder = "in"
    for step in steps:
        nap = f"sleep {SECONDS} && " if asleep else ""
        cmd = f"{{ cat {folder}/{KEY}.txt; echo {step} ${{item.text}}; }}"
        out = f"out/{step}/{KEY}.txt"
        cmd = logged(f"{nap}{cmd} > {out}", f"{step}@{KEY}")
        do = Stage(step, cmd, (f"{folder}/{KEY}.txt",), (out,))
        fields = tuple(
            {"text": f"text-{number}", **({"seconds": str(nap)} if asleep else {})}
            for number, nap in enumerate(naps_of)
        )
        path = "" if step == "evaluate" else step
        definitions.append(Foreach(step, keys, do, fields=fields, folder=path))
        for key, values in zip(keys, fields):
            text = expected[f"{folder}/{key}.txt"] + f"{step} {values['text']}\n"
            expected[f"out/{step}/{key}.txt"] = text
        folder = f"out/{step}"
    return Workload(
        "foreach-dicts",
        size,
        f"3 dvc.yaml with a foreach over {size} dicts each",
        definitions,
        jobs=(4,),
        files={**files, **{f"out/{step}/.keep": "" for step in steps}},
        expected={path: text for path, text in expected.items() if path not in files},
    )


def shared_folder(size: int) -> Workload:
    """Six stages that read the same folder of `size` files."""
    files = {f"data/{number:05}.txt": f"{number}\n" for number in range(size)}
    stages = []
    for number in range(6):
        name, out = f"count-{number}", f"out/count-{number}.txt"
        cmd = logged(f"ls data | wc -l > {out} && echo {number} >> {out}", name)
        stages.append(Stage(name, cmd, ("data",), (out,)))
    return Workload(
        "shared-folder",
        size,
        f"6 stages that read a folder of {size} files",
        stages,
        jobs=(1, 4),
        files=files,
        expected={f"out/count-{n}.txt": f"{size}\n{n}\n" for n in range(6)},
    )


def shapes(number: int, asleep: bool = False) -> Workload:
    """The graph of one of nine public projects, and how long its stages sleep.

    Args:
        number: which of them, from 1 on.
    """
    project = json.loads(SHAPES.read_text(encoding="utf-8"))[number - 1]
    upstreams: dict[int, set[int]] = {
        at: set() for at in range(len(project["seconds"]))
    }
    for up, down in project["edges"]:
        upstreams[down].add(up)
    order = list(TopologicalSorter(upstreams).static_order())
    place = {node: at for at, node in enumerate(order)}
    shape = [sorted(place[up] for up in upstreams[node]) for node in order]
    seconds = [project["seconds"][node] for node in order] if asleep else ()
    title = f"a public project of {len(shape)} stages"
    return replace(hashing("shapes", shape, title, seconds=seconds), size=number)


def naps(count: int) -> list[float]:
    """How long stages sleep in place of their work, in seconds."""
    rng = random.Random(SHAPE_SEED)
    return [round(rng.uniform(SHORTEST, LONGEST), 3) for _ in range(count)]


def digest_of(texts) -> str:
    """What ``md5sum`` says of texts, one after the other."""
    text = "".join(texts)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + "  -\n"


def hashing(
    name: str,
    shape: list[list[int]],
    title: str,
    metrics: int = 0,
    params: int = 0,
    seconds: Sequence[float] = (),
) -> Workload:
    """A stage a node, which writes the MD5 of what it reads.

    So an output is right only if all that is upstream of it was there in time.

    Args:
        seconds: how long each sleeps before that, if it does.
    """
    stages: list[Stage] = []
    files = {"in/seed.txt": "seed\n"}
    expected: dict[str, str] = {}
    values: list[str] = []
    for node, upstreams in enumerate(shape):
        stage, out = f"node-{node}", f"out/node-{node}.txt"
        deps = tuple(f"out/node-{up}.txt" for up in upstreams) or ("in/seed.txt",)
        expected[out] = digest_of(expected.get(dep) or files[dep] for dep in deps)
        cmd = f"cat {' '.join(deps)} | md5sum > {out}"
        nap = seconds[node] if seconds else None
        cmd = f"sleep {nap} && {cmd}" if nap else cmd
        scores = tuple(f"out/{stage}.score-{i}.json" for i in range(metrics))
        for i, score in enumerate(scores):
            cmd += f" && echo {node + i} > {score}"
            expected[score] = f"{node + i}\n"
        keys = tuple(f"{stage}.param-{i}" for i in range(params))
        if params:
            # More than are read, but not so many that serial DVC takes hours.
            values.append(f"{stage}:\n")
            values.extend(f"  param-{i}: {i}\n" for i in range(3 * params))
        cmd = logged(cmd, stage)
        stages.append(Stage(stage, cmd, deps, (out,), scores, keys, seconds=nap))
    if values:
        files["params.yaml"] = "".join(values)
    return Workload(name, len(shape), title, stages, (4,), files, expected)


def asleep(function: Callable[..., Workload]) -> Callable[[int], Workload]:
    """The same with stages that sleep for a while, as in a real project."""

    def make(size: int) -> Workload:
        workload = function(size, asleep=True)
        title = f"{workload.title}, which sleep"
        return replace(workload, name=f"{workload.name}-asleep", title=title)

    return make


# Name -> (function, sizes in full, sizes in small).
WORKLOADS: dict[str, tuple[Callable[[int], Workload], list[int], list[int]]] = {
    "cp-fan": (cp_fan, [50, 200, 500, 2000], [20]),
    "no-op": (no_op, [200, 500, 2000], [5]),
    "sleep-fan": (sleep_fan, [64], [8]),
    "long-sleep-fan": (long_sleep_fan, [64], [4]),
    "uneven-chains": (uneven_chains, [16], [4]),
    "eight-chains": (eight_chains, [8], [2]),
    "wide-deep": (wide_deep, [127], [30]),
    "deep-metrics": (deep_metrics, [235], [20]),
    "foreach": (foreach, [2000], [40]),
    "big-outputs": (big_outputs, [512], [16]),
    "big-and-small": (big_and_small, [2048], [128]),
    "anchors": (anchors, [70], [8]),
    "anchors-asleep": (asleep(anchors), [70], [4]),
    "many-deps": (many_deps, [134], [5]),
    "many-deps-asleep": (asleep(many_deps), [134], [5]),
    "foreach-dicts": (foreach_dicts, [366], [4]),
    "foreach-dicts-asleep": (asleep(foreach_dicts), [366], [2]),
    "shared-folder": (shared_folder, [10_000], [300]),
    "shapes": (shapes, [*range(1, 10)], [9]),
    "shapes-asleep": (asleep(shapes), [*range(1, 10)], [9]),
}


def make(
    name: str, small: bool, sizes: Optional[Sequence[int]] = None
) -> list[Workload]:
    """The workload in the sizes asked for, or else in its own."""
    function, full, few = WORKLOADS[name]
    return [function(size) for size in sizes or (few if small else full)]
