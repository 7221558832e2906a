"""A pipeline whose commands write their outputs little by little."""

import random

from ruamel.yaml import YAML

from tests.project import Project

KINDS = ("file", "file", "folder", "metrics")


def write_pipeline(project: Project, rng: random.Random, count: int) -> list[str]:
    """Write a pipeline of so many stages.

    Returns:
        list: what its stages write.
    """
    outs: list[str] = []
    stages = {}
    for number in range(count):
        sources = ["in.txt", *outs[-12:]]
        deps = rng.sample(sources, min(len(sources), rng.randint(1, 3)))
        kind = rng.choice(KINDS)
        out = f"s{number}.out"
        target = f"{out}/data" if kind == "folder" else out
        commands = [
            f"mkdir {out} && echo a > {out}/name" if kind == "folder" else "true",
            f"echo begun {number} > {target}",
            f"sleep {rng.choice([0, 0.01, 0.05])}",
            f"find {' '.join(deps)} -type f | sort | xargs cat >> {target}",
        ]
        outs.append(out)
        stages[f"s{number}"] = {
            "cmd": " && ".join(commands),
            "deps": deps,
            "metrics" if kind == "metrics" else "outs": [
                {out: {"cache": False}} if kind == "metrics" else out
            ],
        }
    names = list(stages)
    rng.shuffle(names)
    with open(project.path / "dvc.yaml", "w") as fobj:
        YAML().dump({"stages": {name: stages[name] for name in names}}, fobj)
    project.write({"in.txt": "input\n"})
    return outs
