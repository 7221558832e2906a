"""A workload as the files that each tool reads: path -> text."""

import json
import re
from collections.abc import Iterator
from typing import Union

from .model import ITEM, Foreach, Stage, Workload, upstream

# YAML takes strings as JSON writes them.
quote = json.dumps


def dvc(workload: Workload) -> dict[str, str]:
    """Each dvc.yaml, as people write it: foreach where that is possible."""
    files: dict[str, list[str]] = {}
    for definition in workload.definitions:
        folder = definition.folder if isinstance(definition, Foreach) else ""
        path = f"{folder}/dvc.yaml" if folder else "dvc.yaml"
        lines = files.setdefault(path, ["stages:"])
        lines.append(f"  {definition.name}:")
        if isinstance(definition, Foreach):
            lines.extend(_dvc_items(definition))
            lines.append("    do:")
            if folder:
                lines.append("      wdir: ..")
            lines.extend(_dvc_stage(definition.do, "      "))
        else:
            lines.extend(_dvc_stage(definition, "    "))
    return {path: "\n".join(lines) + "\n" for path, lines in files.items()}


def _dvc_items(foreach: Foreach) -> Iterator[str]:
    if foreach.key:
        yield f"    foreach: ${{{foreach.key}}}"
        return
    yield "    foreach:"
    for place, item in enumerate(foreach.items):
        if foreach.fields:
            yield f"      {item}:"
            for name, value in foreach.fields[place].items():
                yield f"        {name}: {quote(value)}"
        else:
            yield f"    - {quote(item)}"


def _dvc_stage(stage: Stage, indent: str) -> list[str]:
    lines = [f"cmd: {quote(stage.cmd)}"]
    for key in ("deps", "params", "outs"):
        if values := getattr(stage, key):
            lines.append(f"{key}:")
            lines.extend(f"- {value}" for value in values)
    if stage.metrics:
        lines.append("metrics:")
        for path in stage.metrics:
            lines.extend([f"- {path}:", "    cache: false"])
    return [indent + line for line in lines]


def make(workload: Workload) -> dict[str, str]:
    """A Makefile for GNU make 4.3 or later."""
    stages = workload.stages
    outs = " ".join(path for stage in stages for path in stage.products)
    lines = [f"all: {outs}", ".PHONY: all"]
    for stage in stages:
        # `&:` tells that one run of the command writes all of them.
        colon = " &:" if len(stage.products) > 1 else ":"
        lines.append(f"{' '.join(stage.products)}{colon} {' '.join(stage.deps)}")
        lines.append("\t" + stage.cmd.replace("$", "$$"))
    return {"Makefile": "\n".join(lines) + "\n"}


def ninja(workload: Workload) -> dict[str, str]:
    lines = ["rule run", "  command = $cmd"]
    for stage in workload.stages:
        lines.append(f"build {' '.join(stage.products)}: run {' '.join(stage.deps)}")
        lines.append("  cmd = " + stage.cmd.replace("$", "$$"))
    return {"build.ninja": "\n".join(lines) + "\n"}


def snakemake(workload: Workload) -> dict[str, str]:
    """A Snakefile with a rule a stage; a wildcard stands for foreach."""
    outs = [path for stage in workload.stages for path in stage.products]
    lines = ["rule all:", f"    input: {quote(outs)}"]
    definitions: list[Union[Stage, Foreach]] = []
    for each in workload.definitions:
        # A wildcard has no fields.
        has_fields = isinstance(each, Foreach) and each.fields
        definitions.extend(each.stages() if has_fields else [each])
    for definition in definitions:
        stage = definition.do if isinstance(definition, Foreach) else definition
        cmd = stage.cmd.replace(ITEM, "\0")
        cmd = cmd.replace("{", "{{").replace("}", "}}")
        cmd = cmd.replace("\0", "{wildcards.item}")
        lines.append(f"rule {re.sub('[^a-z0-9]', '_', definition.name)}:")
        for key, paths in (("input", stage.deps), ("output", stage.products)):
            if paths:
                text = ", ".join(quote(path) for path in paths)
                lines.append(f"    {key}: " + text.replace(ITEM, "{item}"))
        if isinstance(definition, Foreach):
            # Else every item would match the paths of other stages as well.
            lines.append('    wildcard_constraints: item="[a-z0-9]+"')
        lines.append(f"    shell: {quote(cmd)}")
    return {"Snakefile": "\n".join(lines) + "\n"}


def _tasks(workload: Workload, escape: str = "") -> str:
    tasks = [
        (
            stage.name,
            stage.cmd.replace(escape, 2 * escape) if escape else stage.cmd,
            list(stage.deps),
            list(stage.products),
        )
        for stage in workload.stages
    ]
    return "TASKS = [\n" + "".join(f"    {task!r},\n" for task in tasks) + "]\n"


def doit(workload: Workload) -> dict[str, str]:
    """dodo.py; doit takes `%` in a command for a format."""
    code = """
def task_stage():
    for name, cmd, deps, outs in TASKS:
        yield {"name": name, "actions": [cmd], "file_dep": deps, "targets": outs}
"""
    return {"dodo.py": _tasks(workload, escape="%") + code}


def pytask(workload: Workload) -> dict[str, str]:
    code = """
for name, cmd, deps, outs in TASKS:

    @task(id=name)
    def task_run(
        cmd: str = cmd,
        deps: list[Path] = [Path(dep) for dep in deps],
        produces: list[Path] = [Path(out) for out in outs],
    ) -> None:
        subprocess.run(cmd, shell=True, check=True)
"""
    imports = (
        "import subprocess\nfrom pathlib import Path\n\nfrom pytask import task\n\n"
    )
    return {"task_workload.py": imports + _tasks(workload) + code}


def luigi(workload: Workload) -> dict[str, str]:
    """A module of which `All` is the task to ask for."""
    code = """
STAGES = {task[0]: task for task in TASKS}
WRITERS = {out: task[0] for task in TASKS for out in task[3]}


class File(luigi.ExternalTask):
    path = luigi.Parameter()

    def output(self):
        return luigi.LocalTarget(self.path)


class Stage(luigi.Task):
    name = luigi.Parameter()

    def requires(self):
        for dep in STAGES[self.name][2]:
            yield Stage(WRITERS[dep]) if dep in WRITERS else File(dep)

    def output(self):
        return [luigi.LocalTarget(out) for out in STAGES[self.name][3]]

    def run(self):
        subprocess.run(STAGES[self.name][1], shell=True, check=True)


class All(luigi.WrapperTask):
    def requires(self):
        return [Stage(name) for name in STAGES]
"""
    return {
        "luigi_workload.py": "import subprocess\n\nimport luigi\n\n"
        + _tasks(workload)
        + code
    }


def stepup(workload: Workload) -> dict[str, str]:
    """plan.py, which declares what is there and one step a stage."""
    code = """
static(*FILES)
for name, cmd, deps, outs in TASKS:
    run(cmd, shell=True, inp=deps, out=outs)
"""
    files = f"FILES = {sorted(workload.files)!r}\n"
    imports = "#!/usr/bin/env python3\nfrom stepup.core.api import run, static\n\n"
    return {"plan.py": imports + files + _tasks(workload) + code}


def pivot(workload: Workload) -> dict[str, str]:
    """pipeline.py; a stage is a function, whose value pivot keeps.

    So each runs its command, and returns the text of what that has written.
    """
    code = """
class Command(StageParams):
    cmd: str
    outs: list[str]


@stage
def produce(inputs: list[str], command: Command) -> str:
    subprocess.run(command.cmd, shell=True, check=True)
    return "".join(Path(out).read_text() for out in command.outs)


def declare(pipeline):
    # Not at the top: pivot takes globals with the names of attributes for dependencies.
    values = {path: pipeline.input(path, t=str, path=path) for path in FILES}
    for name, cmd, deps, outs in TASKS:
        with pipeline.variant(name.replace("@", ".")):
            inputs = [values[dep] for dep in deps]
            value = produce(inputs, Command(cmd=cmd, outs=outs))
        values.update(dict.fromkeys(outs, value))


with Pipeline("workload") as pipeline:
    declare(pipeline)
"""
    files = f"FILES = {sorted(workload.files)!r}\n"
    imports = (
        "import subprocess\nfrom pathlib import Path\n\n"
        "from pivot import Pipeline, StageParams, stage\n\n"
    )
    return {
        "pipeline.py": imports + files + _tasks(workload) + code,
        # As many jobs as `--resources cpu=N` says; the default is two CPUs fewer.
        ".pivot/config.yaml": "core:\n  max_workers: 64\n",
        ".pivot/.gitignore": "*\n",
    }


def _graph(workload: Workload) -> str:
    """As :func:`_tasks`, for those to whom files say nothing: with their upstreams."""
    names = {
        stage.name: re.sub("[^a-z0-9]", "_", stage.name) for stage in workload.stages
    }
    graph = upstream(workload.stages)
    tasks = [
        (names[stage.name], stage.cmd, [names[up] for up in graph[stage.name]])
        for stage in workload.stages
    ]
    return "TASKS = [\n" + "".join(f"    {task!r},\n" for task in tasks) + "]\n"


def airflow(workload: Workload) -> dict[str, str]:
    """A DAG, and a script that triggers it and waits for its end."""
    code = """
with DAG("workload"):
    made = {}
    for name, cmd, ups in TASKS:
        made[name] = BashOperator(task_id=name, bash_command=cmd, cwd=ROOT)
        made[name].set_upstream([made[up] for up in ups])
"""
    imports = (
        "from pathlib import Path\n\n"
        "from airflow.providers.standard.operators.bash import BashOperator\n"
        "from airflow.sdk import DAG\n\n"
        "ROOT = str(Path(__file__).parent.parent)\n"
    )
    trigger = """
import json, os, sys
from urllib.request import Request, urlopen

runs = os.environ["AIRFLOW_URL"] + "/api/v2/dags/workload/dagRuns"
body = json.dumps({"dag_run_id": "run", "logical_date": None}).encode()
urlopen(Request(runs, body, {"Content-Type": "application/json"})).close()
with urlopen(f"{runs}/run/wait?interval=0.1") as states:
    *_, last = map(json.loads, states)
if last["state"] != "success":
    sys.exit(f"the end of the DAG run: {last}")
"""
    return {
        "dags/workload.py": imports + _graph(workload) + code,
        "trigger.py": trigger.lstrip(),
    }


def prefect(workload: Workload) -> dict[str, str]:
    """A flow, as a script that gets the number of jobs.

    A task that waits for others has a thread already. So there is one for each, and
    what is limited is how many commands run.
    """
    code = """
jobs = BoundedSemaphore(int(sys.argv[1]))


@task
def command(cmd):
    with jobs:
        subprocess.run(cmd, shell=True, check=True)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=len(TASKS)))
def workload():
    futures = {}
    for name, cmd, ups in TASKS:
        wait_for = [futures[up] for up in ups]
        futures[name] = command.with_options(name=name).submit(cmd, wait_for=wait_for)
    return list(futures.values())


workload()
"""
    imports = (
        "import subprocess\nimport sys\nfrom threading import BoundedSemaphore\n\n"
        "from prefect import flow, task\n"
        "from prefect.task_runners import ThreadPoolTaskRunner\n\n"
    )
    return {"prefect_workload.py": imports + _graph(workload) + code}


def dagster(workload: Workload) -> dict[str, str]:
    """A module with a job; its processes are forked from one that has read it."""
    code = """
def command(name, cmd, ups):
    @op(name=name, ins={"ups": In(Nothing)} if ups else {}, out=Out(Nothing))
    def run():
        subprocess.run(cmd, shell=True, check=True)

    return run


forks = {"start_method": {"forkserver": {}}}


@job(executor_def=multiprocess_executor.configured(forks))
def workload():
    made = {}
    for name, cmd, ups in TASKS:
        after = {"ups": [made[up] for up in ups]} if ups else {}
        made[name] = command(name, cmd, ups)(**after)
"""
    imports = (
        "import subprocess\n\n"
        "from dagster import In, Nothing, Out, job, multiprocess_executor, op\n\n"
    )
    return {"dagster_workload.py": imports + _graph(workload) + code}


def dvx(workload: Workload) -> dict[str, str]:
    """A .dvc file for every output; dvx runs the command in the file's folder."""
    files = {}
    for stage in workload.stages:
        for path in stage.products:
            folder, _, name = path.rpartition("/")
            up = "/".join(".." for _ in folder.split("/"))
            cmd = f"cd {up} && {stage.cmd}" if folder else stage.cmd
            lines = ["outs:", f"- path: {name}", "meta:", "  computation:"]
            lines.append(f"    cmd: {quote(cmd)}")
            if stage.deps:
                lines.append("    deps:")
                root = "/" if folder else ""
                lines.extend(f"      {root}{dep}: ''" for dep in stage.deps)
            files[path + ".dvc"] = "\n".join(lines) + "\n"
    return files
