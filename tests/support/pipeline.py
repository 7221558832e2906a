"""A pipeline whose commands write their outputs little by little."""

import random

from ruamel.yaml import YAML

from tests.support.project import Project

KINDS = ("file", "file", "folder", "metrics")
# How commands make it hard to stop them, in a folder beside a file "wild".
WAYS = (
    "trap '' INT",
    "trap '' INT TERM HUP",
    "sleep 60 &",  # holds the pipe open
    "(trap '' INT TERM HUP; sleep 60; sleep 60) &",
    "setsid sleep 60 > /dev/null 2>&1 &",
    "setsid sh -c \"trap '' INT TERM HUP; sleep 60; sleep 60\" &",
)


def write_pipeline(
    project: Project, rng: random.Random, count: int, *, wild: bool = False
) -> list[str]:
    """Write a pipeline of so many stages.

    Args:
        wild: whether to make some of its commands hard to stop. The last thing that
            commands do then, deaf to signals, is to write their names to "../ended".

    Returns:
        list: what its stages write.
    """
    outs: list[str] = []
    data = {"in.txt": "in.txt"}
    stages = {}
    for number in range(count):
        sources = ["in.txt", *outs[-12:]]
        deps = rng.sample(sources, min(len(sources), rng.randint(1, 3)))
        kind = rng.choice(KINDS)
        out = f"s{number}.out"
        data[out] = target = f"{out}/data" if kind == "folder" else out
        commands = [
            f"mkdir {out} && echo a > {out}/name" if kind == "folder" else "true",
            f"echo begun {number} > {target}",
            rng.choice(["true", "true", "sleep 0.01", "sleep 0.05"]),
            f"cat {' '.join(data[dep] for dep in deps)} >> {target}",
        ]
        if wild:
            way = rng.choice(WAYS) if rng.random() < 0.3 else "true"
            commands = [
                f"if test -e ../wild; then {way.removesuffix('&')}"
                f"{' &' if way.endswith('&') else ';'} fi",
                *commands,
                "trap '' INT TERM HUP",
                f"echo s{number} >> ../ended",
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
