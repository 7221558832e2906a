"""Time of many small stages as Slurm jobs, by tools that can submit them.

    python -m benchmarks.on_slurm TOOL[=BIN][@COUNT] ...

where a Slurm runs with 32 free CPUs.  ``BIN`` is the folder of the tool's commands, if
it is not that of this Python; ``COUNT`` is how many short ones, if not 200.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

# Name, number of stages, and command of each.
CASES = (("short", 200, "true"), ("sleep", 64, "sleep 2"))
LIMIT = 900.0
CLUSTERS = """\
from dask_jobqueue import SLURMCluster
def slurm():
    cluster = SLURMCluster(
        cores=8, memory="2GB", processes=1, walltime="00:30:00", security=True,
        shared_temp_directory="~",
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        worker_extra_args=["--dashboard-address", "127.0.0.1:0"],
    )
    cluster.scale(jobs=4)
    return cluster
"""
SNAKEFILE = """\
rule all:
    input: expand("out.{{n}}", n=range({count}))
rule one:
    output: "out.{{n}}"
    shell: "{command} && touch {{output}}"
"""
REPRO = ("dvc", "repro", "-j", "32", "--runner")
COMMANDS = {
    "slurm": (*REPRO, "slurm"),
    "dask-jobqueue": (*REPRO, "dask:clusters.slurm"),
    "klej": ("klej", "repro"),
    "snakemake": (
        *("snakemake", "--executor", "slurm", "-j", "32", "--default-resources"),
        *("slurm_partition=main", "mem_mb=400", "runtime=30", "--slurm-no-account"),
        *("--slurm-status-command", "squeue", "--seconds-between-status-checks", "1"),
        *("--slurm-init-seconds-before-status-checks", "1"),
    ),
}


def prepare(folder: Path, count: int, command: str) -> None:
    stages = {
        f"s{n}": {"cmd": f"{command} && touch out.{n}", "outs": [f"out.{n}"]}
        for n in range(count)
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    profiles = {"small": {"partition": "main", "mem": "400M", "time": "00:30:00"}}
    klej = {"stages": dict.fromkeys(stages, "small"), "commit": "small"}
    klej.update(profiles=profiles, klej="small")
    (folder / "klej.yaml").write_text(yaml.safe_dump(klej))
    (folder / "clusters.py").write_text(CLUSTERS)
    (folder / "Snakefile").write_text(SNAKEFILE.format(count=count, command=command))


def seconds(tool: str, bin_dir: str, count: int, command: str) -> float:
    """How long it takes until all outputs are there, and the tool has ended."""
    path = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    with tempfile.TemporaryDirectory(prefix="on-slurm-") as name:
        folder = Path(name)
        for args in (("git", "init", "-q"), ("dvc", "init", "-q")):
            subprocess.run(args, cwd=folder, check=True, env=env)
        prepare(folder, count, command)
        begun = time.monotonic()
        with open(folder / "log", "wb") as log:
            if tool == "sbatch":
                for n in range(count):
                    wrap = f"--wrap={command} && touch out.{n}"
                    args = ("sbatch", "--mem=64M", "-o", "/dev/null", wrap)
                    subprocess.run(args, cwd=folder, check=True, stdout=log)
            else:
                subprocess.run(
                    COMMANDS[tool], cwd=folder, env=env, stdout=log, stderr=log,
                    timeout=LIMIT, check=False,
                )  # fmt: skip
        while len([*folder.glob("out.*")]) < count:
            if time.monotonic() > begun + LIMIT or not queued():
                text = (folder / "log").read_text(errors="replace")
                raise SystemExit(f"{tool}: outputs are missing\n{text[-2000:]}")
            time.sleep(0.05)
        return time.monotonic() - begun


def queued() -> bool:
    args = ("squeue", "-h", "-t", "pending,running,configuring,completing")
    return bool(subprocess.run(args, capture_output=True, check=True).stdout)


def main(tools: list[str]) -> None:
    for tool in tools:
        tool, _, short = tool.partition("@")
        name, _, bin_dir = tool.partition("=")
        for case, many, command in CASES:
            count = int(short) if short and case == "short" else many
            took = seconds(
                name, bin_dir or os.path.dirname(sys.executable), count, command
            )
            each = took / count * 1000
            print(
                f"{name:14} {case:6} {took:7.1f} s {each:7.0f} ms a stage", flush=True
            )
            while queued():
                time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1:])
