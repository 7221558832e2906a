"""Random pipelines, as projects and as what runs are to be compared."""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from ruamel.yaml import YAML

# Kinds of outputs, with what dvc.yaml says of them.
FLAGS = {
    "file": None,
    "folder": None,
    "uncached": {"cache": False},
    "persist": {"persist": True},
    "metrics": {"cache": False},
    "none": None,
}


@dataclass
class Step:
    name: str
    deps: list
    kind: str
    folder: str
    delay: float
    fails: bool = False
    frozen: bool = False
    always_changed: bool = False
    param: bool = False
    commands: int = 1

    @property
    def out(self):
        if self.kind == "none":
            return None
        return f"{self.folder}{self.name}.out"

    def as_stage(self, frozen):
        sources = " ".join(self.deps) or "/dev/null"
        target = self.out or "/dev/null"
        if self.kind == "folder":
            make = f"mkdir -p {target} && find {sources} -type f | sort | xargs cat"
            make += f" > {target}/data && echo {self.name} > {target}/name"
        else:
            make = f"find {sources} -type f | sort | xargs cat > {target}"
            if self.out:
                make += f" && echo {self.name} >> {target}"
        ending = "false" if self.fails else "true"
        cmds = [f"sleep {self.delay}; {make}; {ending}"]
        cmds += [f"echo {self.name} {i}" for i in range(1, self.commands)]
        stage = {"cmd": cmds if len(cmds) > 1 else cmds[0]}
        if self.deps:
            stage["deps"] = self.deps
        if self.param:
            stage["params"] = [self.name]
        key = "metrics" if self.kind == "metrics" else "outs"
        if self.out:
            flags = FLAGS[self.kind]
            stage[key] = [{self.out: flags} if flags else self.out]
        if self.frozen and frozen:
            stage["frozen"] = True
        if self.always_changed:
            stage["always_changed"] = True
        return stage


@dataclass
class Pipeline:
    steps: list = field(default_factory=list)

    def write_to(self, project, order=None, frozen=False):
        """Write the project; stages can be frozen once they have run."""
        stages = {step.name: step.as_stage(frozen) for step in order or self.steps}
        params = {step.name: 1 for step in self.steps}
        with open(project.path / "dvc.yaml", "w") as fobj:
            YAML().dump({"stages": stages}, fobj)
        with open(project.path / "params.yaml", "w") as fobj:
            YAML().dump(params, fobj)
        files = {f"in{i}.txt": f"input {i}\n" for i in range(3)}
        files.update({f"{name}/readme": "a folder\n" for name in ("one", "two")})
        project.write({} if frozen else files)


@st.composite
def pipelines(draw, failures=False, shared_folders=True):
    """Pipelines with files and folders, side by side in shared folders."""
    steps = []
    for number in range(draw(st.integers(2, 9))):
        outs = [step.out for step in steps if step.out]
        choices = ["in0.txt", "in1.txt", "in2.txt", "one", "two", *outs]
        deps = draw(st.lists(st.sampled_from(choices), max_size=3, unique=True))
        # NOTE: a stage cannot write into a folder that it depends on, nor into
        # one that depends on it by way of other stages.
        folders = [""]
        folders += [
            f"{name}/"
            for name in ("one", "two")
            if shared_folders
            and not any(name in step.deps for step in steps)
            and name not in deps
        ]
        steps.append(
            Step(
                name=f"s{number}",
                deps=_without_overlaps(deps),
                kind=draw(st.sampled_from(list(FLAGS))),
                folder=draw(st.sampled_from(folders)),
                delay=draw(st.sampled_from([0, 0, 0.02, 0.08])),
                fails=failures and draw(st.integers(0, 4)) == 0,
                frozen=draw(st.integers(0, 9)) == 0,
                always_changed=draw(st.integers(0, 9)) == 0,
                param=draw(st.booleans()),
                commands=draw(st.sampled_from([1, 1, 2])),
            )
        )
    return Pipeline(steps)


def _without_overlaps(deps):
    return [
        dep
        for dep in deps
        if not any(dep.startswith(f"{other}/") for other in deps if other != dep)
    ]
